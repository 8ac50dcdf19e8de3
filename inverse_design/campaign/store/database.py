"""The database of a store: how it is reached, and transactions that lock.

SQLite on a network file system is refused, as its locks cannot be trusted.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any

import psutil
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool, StaticPool

from inverse_design.campaign.store.chain import WAY_BACK
from inverse_design.errors import StoreError, masked

_NETWORK = frozenset(
    {
        "9p", "afpfs", "afs", "beegfs", "ceph", "cifs", "davfs", "drvfs", "glusterfs", "gpfs", "lustre", "ncpfs",
        "nfs", "nfs4", "orangefs", "smb2", "smb3", "smbfs", "vboxsf", "fuse.beegfs", "fuse.ceph", "fuse.davfs2",
        "fuse.glusterfs", "fuse.lustre", "fuse.rclone", "fuse.s3fs", "fuse.sshfs",
    }
)  # fmt: skip


def refuse_network(path: Path) -> None:
    """Refuse a file on a network file system, found by the longest path above it and the latest mount there."""
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
    "SQLITE_NOTADB": f"is not a database; name another file, or {WAY_BACK}",
    "SQLITE_CORRUPT": f"is damaged; {WAY_BACK}",
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
        """Find a database; nothing is opened yet."""
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

    @property
    def place(self) -> str | None:
        """Where it is, whoever opens it; ``None`` in memory."""
        if self.path is not None:
            return str(self.path.resolve())
        url = self.engine.url
        if url.get_backend_name() == "sqlite":
            return None
        return f"postgresql://{url.host or url.query.get('host', '')}:{url.port or ''}/{url.database}"

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Read one consistent state."""
        with self._translated(), self.engine.connect() as plain:
            options = {"isolation_level": "REPEATABLE READ"} if self.engine.dialect.name == "postgresql" else {}
            connection = plain.execution_options(**options)
            with connection.begin() as transaction:
                yield connection
                transaction.rollback()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Change something, whole or not at all; SQLite is locked against other writers from the start."""
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
            raise StoreError(f"{self.shown!r} {_in_words(error.orig)}") from error
        except sqlite3.Error as error:  # while a connection is made
            raise StoreError(f"{self.shown!r} {_in_words(error)}") from error
        except UnicodeDecodeError as error:  # SQLite quotes a damaged schema in its own message
            raise StoreError(f"{self.shown!r} is damaged; {WAY_BACK}") from error
        except UnicodeError as error:  # a name of a campaign or a server that is no text
            raise StoreError(f"{self.shown!r} cannot be asked for that name ({error})") from error
        except MemoryError as error:
            raise StoreError(
                f"{self.shown!r} needs more memory than there is: it is damaged ({WAY_BACK}), or too large"
            ) from error


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
    if "\0" in url.database:
        raise StoreError(f"{url.database[:80]!r} is no path; remove U+0000")
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
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


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


def _in_words(error: BaseException | None) -> str:
    name = getattr(error, "sqlite_errorname", "")
    primary = "_".join(name.split("_")[:2])
    if primary in _SQLITE_FAILURES:
        return _SQLITE_FAILURES[primary]
    state = getattr(error, "sqlstate", None)
    if state == "55P03":
        return "is locked by another program that keeps a transaction open; wait for it and repeat"
    said = masked(" ".join(str(error).split()))
    if state == "42501":
        return f"may not be used so by your role ({said}); see `campaign grants`, or ask its owner"
    hint = f"; if it is damaged, {WAY_BACK}" if isinstance(error, sqlite3.Error) else ""
    return f"cannot be used: {said}{hint}"
