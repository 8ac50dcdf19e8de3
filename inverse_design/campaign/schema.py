"""The version of a database: made when it is new, migrated when it is old, refused when it is newer."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from inverse_design.campaign.database import Database, sync_folder
from inverse_design.campaign.tables import CAMPAIGNS
from inverse_design.errors import StoreError

HEAD = "0002"
_STEPS = Path(__file__).parent / "migrations"
_EVERYONE = 5_720_519  # number of the advisory lock under which a PostgreSQL database is made or migrated


def version_of(connection: Connection) -> str | None:
    """Read the version.

    Args:
        connection: To any database.

    Returns:
        Its version, ``None`` if it holds no tables at all.

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
    """Run the steps that are missing, in the transaction of the connection.

    Args:
        connection: To a database that is empty or of an older version.
        version: Where to stop.
    """
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

    Args:
        database: It may be empty.

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
    """Say that a database is too new.

    Args:
        database: Which.
        version: Its version.

    Returns:
        The error, to be raised by the caller.
    """
    return StoreError(
        f"{database.shown!r} has version {version} of the tables, this package knows {HEAD}: it was written by a"
        " newer release; upgrade the package"
    )


def _migrate_in_place(database: Database) -> None:
    with database.writing() as connection:
        if database.path is None:
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
