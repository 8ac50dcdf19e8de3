"""The database of a store: connections, transactions that lock, tables, and their version.

A database is made when it is new, migrated when it is old, and refused when it is newer; SQLite on a network file
system is refused, as its locks cannot be trusted. ``experiments`` and ``measurements`` are projections: replaying
the log makes them again. The tables are written twice, here for queries and in ``migrations``; a test holds the
two together.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import psutil
from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, StaticPool

from inverse_design.errors import StoreError, masked

_NETWORK = frozenset(
    {
        "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs",
        "nfs", "nfs4", "orangefs", "smb2", "smb3", "smbfs", "vboxsf", "fuse.beegfs", "fuse.ceph", "fuse.davfs2",
        "fuse.glusterfs", "fuse.lustre", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    }
)  # fmt: skip


def refuse_network(path: Path) -> None:
    """Refuse a file on a network file system: that with the longest path above it, later mounts hide earlier ones.

    Raises:
        StoreError: If the file lies on a file system of a network; the message names it.
    """
    try:
        mounts = psutil.disk_partitions(all=True)
    except OSError:  # a system that does not tell
        return
    above = [each for each in mounts if path.resolve().is_relative_to(each.mountpoint)]
    found = max(reversed(above), key=lambda each: len(Path(each.mountpoint).parts), default=None)
    if found is not None and found.fstype in _NETWORK:
        raise StoreError(
            f"{str(path)!r} lies on the network file system {found.mountpoint!r} ({found.fstype}), where locks"
            " cannot be trusted and results could be lost; use a local disk, or a PostgreSQL database for a team"
        )


_LOCKED = "is locked by another program that keeps it open; wait for it, or close it, and repeat"
_READ_ONLY = "may not be written (read-only file or folder); change its permissions, or copy it elsewhere"
_SQLITE_FAILURES = {
    "SQLITE_BUSY": _LOCKED,
    "SQLITE_LOCKED": _LOCKED,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_PERM": _READ_ONLY,
    "SQLITE_FULL": "does not fit on the disk, which is full; make room and repeat. Nothing was half-written",
    "SQLITE_CANTOPEN": "cannot be opened; does its folder exist, and may you write to it?",
    "SQLITE_NOTADB": "is not a database; name another file",
    "SQLITE_CORRUPT": "is damaged; restore it from a copy",
    "SQLITE_IOERR": "cannot be read or written (the disk reports an error); check the disk",
}


@dataclass(frozen=True)
class Database:
    """A database and how to lock it."""

    engine: Engine  # of SQLAlchemy
    path: Path | None  # the file, for SQLite
    # held by whoever uses the database, where there is one connection only
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)

    @classmethod
    def at(cls, place: str | Path, *, timeout: float) -> "Database":
        """Find a database; nothing is opened yet.

        Raises:
            StoreError: If the URL cannot be used, its driver is missing, or the file lies on a network file
                system.
        """
        url = _url_of(place)
        if url.get_backend_name() == "sqlite":
            path = _file_of(url)
            refuse_network(path)
            return cls(_sqlite(url, timeout), path)
        if url.get_backend_name() != "postgresql":
            raise StoreError(f"{_shown(url)!r} is neither an SQLite file nor a PostgreSQL database")
        return cls(_postgresql(url, timeout), None)

    @classmethod
    def in_memory(cls) -> "Database":
        """Make an SQLite database that lives as long as this value, on one connection."""
        options = {"isolation_level": None, "check_same_thread": False}
        engine = create_engine("sqlite://", poolclass=StaticPool, connect_args=options)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return cls(engine, None, RLock())

    @property
    def shown(self) -> str:
        """What to call it, without a password."""
        return str(self.path) if self.path is not None else _shown(self.engine.url)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one consistent state.

        Raises:
            StoreError: If the database fails.
        """
        with self._translated(), self.engine.connect() as plain:
            options = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
            connection = plain.execution_options(**options)
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Change something, whole or not at all; SQLite is locked against other writers from the start.

        Raises:
            StoreError: If the database fails; it then is as before.
        """
        with self._translated():
            while True:
                identity = self._identity()
                with self.engine.connect() as plain:
                    connection = plain.execution_options(begin="IMMEDIATE")
                    with connection.begin():
                        # While we waited, the file may have been replaced by a newer one: see schema.py.
                        if identity == self._identity():
                            yield connection
                            return

    def _identity(self) -> tuple[int, int] | None:
        if self.path is None or not self.path.exists():
            return None
        status = self.path.stat()
        return status.st_dev, status.st_ino

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            with self.turn:
                yield
        except DBAPIError as error:
            raise StoreError(f"{self.shown!r} {_in_words(error)}") from error


def _url_of(place: str | Path) -> URL:
    text = str(place)
    if "://" not in text:
        return URL.create("sqlite", database=text)
    if text.partition("://")[2].partition("?")[0].count("@") > 1:
        raise StoreError(f"{masked(text)!r} has more than one '@'; write that of a password as %40")
    try:
        url = make_url(text)
        # the driver that is a dependency of this package, not the older one that SQLAlchemy would take
        return url.set(drivername="postgresql+psycopg") if url.drivername in {"postgresql", "postgres"} else url
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise StoreError(
            f"{text.split('://', maxsplit=1)[0]}://... is not the URL of a database: {error}"
        ) from error


def _file_of(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise StoreError("a store in memory would be lost at the end; name a file")
    return Path(url.database.removeprefix("file:"))


def _sqlite(url: URL, timeout: float) -> Engine:
    # One connection for each transaction: nothing stays open on a file that may be copied or replaced.
    engine = create_engine(url, poolclass=NullPool, connect_args={"timeout": timeout, "isolation_level": None})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:  # noqa: ANN401 - the driver's own type
    # A rollback journal, not a write-ahead log: at rest the campaign is one file, which people copy and send.
    # EXTRA also syncs the folder when the journal goes, so that a commit survives a power cut.
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    mode = connection.get_execution_options().get("begin", "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


def _postgresql(url: URL, timeout: float) -> Engine:
    waiting = {"options": f"-c lock_timeout={int(timeout * 1000)}"}
    try:
        return create_engine(url, poolclass=NullPool, connect_args={**waiting, "connect_timeout": 10})
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        raise StoreError(
            f"{_shown(url)!r} needs a driver that is not installed ({error}):"
            " pip install 'inverse-design[postgres]'"
        ) from error


def _shown(url: URL) -> str:
    return masked(url.render_as_string(hide_password=True))


def _in_words(error: DBAPIError) -> str:
    name = getattr(error.orig, "sqlite_errorname", "")
    primary = "_".join(name.split("_")[:2])
    if primary in _SQLITE_FAILURES:
        return _SQLITE_FAILURES[primary]
    if getattr(error.orig, "sqlstate", None) == "55P03":
        return "is locked by another program that keeps a transaction open; wait for it and repeat"
    said = masked(" ".join(str(error.orig).split()))
    return f"cannot be used: {said}"


def sync_folder(path: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


METADATA = MetaData()

CAMPAIGNS = Table(
    "campaigns",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("head", Integer, nullable=False),  # number of the last event; its row is the lock of the campaign
    UniqueConstraint("name", name="campaigns_name"),
)

ARTEFACTS = Table(
    "artefacts",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("campaign", Integer, ForeignKey("campaigns.id"), primary_key=True),
    Column("sequence", Integer, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("time", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("artefact", Text, ForeignKey("artefacts.hash")),
    Column("digest", Text),  # of what was recorded: the same table counts once
    UniqueConstraint("campaign", "digest", name="events_digest"),
    Index("events_kind", "campaign", "kind", "sequence"),
)

EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("campaign", Integer, ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("perturbation", Text, nullable=False),
    Column("round", Integer, nullable=False),  # 0: recorded without having been asked for
    Column("state", Text, nullable=False),
    Index("experiments_perturbation", "campaign", "perturbation"),
    Index("experiments_state", "campaign", "state"),
    Index("experiments_round", "campaign", "round"),
)

MEASUREMENTS = Table(
    "measurements",
    METADATA,
    Column("campaign", Integer, ForeignKey("campaigns.id"), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the experiment
    Column("replicate", Text, primary_key=True),
    Column("sequence", Integer, nullable=False),  # of the event that recorded it
    Column("row", Integer, nullable=False),  # of the block of that event
)


HEAD = "0002"
_STEPS = Path(__file__).parent / "migrations"
_EVERYONE = 5_720_519  # number of the advisory lock under which a PostgreSQL database is made or migrated


def version_of(connection: Connection) -> str | None:
    """Read the version.

    Raises:
        StoreError: If it holds the tables of another program.
    """
    tables = inspect(connection).get_table_names()
    if "alembic_version" in tables and CAMPAIGNS.name in tables:
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
    if tables:
        raise StoreError(
            f"{connection.engine.url.database!r} is a database of another program (with a table {tables[0]!r});"
            " name another one"
        )
    return None


def migrate(connection: Connection, version: str = "head") -> None:
    """Run the steps that are missing, in the transaction of the connection."""
    from alembic import command  # noqa: PLC0415 - only for new and old databases: it takes a while to import
    from alembic.config import Config  # noqa: PLC0415

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(_STEPS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    command.upgrade(config, version)


def prepare(database: Database) -> None:
    """Bring a database to the version of this package.

    A PostgreSQL database is migrated in one transaction. Of an SQLite file a copy is migrated and put in its place
    when all went well, so that no failure can leave a half of it.

    Raises:
        StoreError: If it is newer than this package, of another program, or cannot be written.
    """
    with database.reading() as connection:
        version = version_of(connection)
    if version == HEAD:
        return
    if version is not None and version > HEAD:
        raise newer(database, version)
    if version is None or database.path is None:
        _migrate_in_place(database)
    else:
        _migrate_copy(database, database.path)


def newer(database: Database, version: str) -> StoreError:
    """Say that a database is too new."""
    return StoreError(
        f"{database.shown!r} has version {version} of the tables, this package knows {HEAD}: it was written by a"
        " newer release; upgrade the package"
    )


def _migrate_in_place(database: Database) -> None:
    with database.writing() as connection:
        if database.engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _EVERYONE})
        if version_of(connection) != HEAD:  # another process may have been faster
            migrate(connection)


def _migrate_copy(database: Database, path: Path) -> None:
    """Migrate a copy under the writer's lock of the original: whoever waits for it sees the new file."""
    copy = path.with_name(f".{path.name[:100]}.{os.getpid()}.migrating")
    try:
        with database.writing() as connection:
            if version_of(connection) == HEAD:
                return
            _copy(path, copy)
            copied = Database.at(copy, timeout=0.0)
            with copied.writing() as steps:
                migrate(steps)
            _require_sound(copied)
            copy.chmod(path.stat().st_mode & 0o777)
            copy.replace(path)
            sync_folder(path)
    finally:
        copy.unlink(missing_ok=True)


def _copy(path: Path, copy: Path) -> None:
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as sink:
        source.backup(sink)


def _require_sound(copied: Database) -> None:
    with copied.reading() as connection:
        said = connection.execute(text("PRAGMA integrity_check")).scalar_one()
    if said != "ok":
        raise StoreError(f"the migrated copy of {copied.shown!r} is damaged ({said}); restore a backup")
