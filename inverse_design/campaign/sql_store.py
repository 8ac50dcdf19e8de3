"""Campaigns in a database: SQLite for one person, PostgreSQL for a team, with the same statements."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from inverse_design.campaign.database import Database
from inverse_design.campaign.events import Created
from inverse_design.campaign.schema import HEAD, newer, version_of
from inverse_design.campaign.sql_log import SqlLog
from inverse_design.campaign.tables import CAMPAIGNS
from inverse_design.errors import StoreError
from surrogates.errors import UnknownNameError


@dataclass(frozen=True)
class SqlStore:
    """A database of the present version.

    Attributes:
        database: How to reach it.
    """

    database: Database

    def names(self) -> tuple[str, ...]:
        """List the campaigns, sorted.

        Returns:
            Their names.
        """
        with self.database.reading() as connection:
            return _names(connection)

    def create(self, name: str, key: str, created: Created, *, screen: bytes, actor: str) -> None:
        """Begin a campaign.

        Args:
            name: Unique in this store.
            key: Unique everywhere.
            created: Its first event.
            screen: The starting screen, as an artefact.
            actor: Who begins it.

        Raises:
            StoreError: If there is a campaign of that name, or the database cannot be written.
        """
        with self.database.writing() as connection:
            if name in _names(connection):
                raise StoreError(f"{self.database.shown!r} has a campaign {name!r} already; choose another name")
            row = {"name": name, "key": key, "head": 0}
            number = connection.execute(insert(CAMPAIGNS).values(row).returning(CAMPAIGNS.c.id)).scalar_one()
            SqlLog(connection, number, key).append(created, actor=actor, artefact=screen)

    @contextmanager
    def reading(self, name: str) -> Iterator[SqlLog]:
        """Open a campaign to read one consistent state of it.

        Args:
            name: Of the campaign.

        Yields:
            Its log.

        Raises:
            UnknownNameError: If there is no such campaign; the message names the nearest ones.
            StoreError: If the database cannot be read.
        """
        with self.database.reading() as connection:
            yield _log(connection, name)

    @contextmanager
    def writing(self, name: str) -> Iterator[SqlLog]:
        """Open a campaign to change it: all of it when the block ends, or nothing if it is left by an exception.

        Args:
            name: Of the campaign.

        Yields:
            Its log, which nobody else can change meanwhile.

        Raises:
            UnknownNameError: If there is no such campaign.
            StoreError: If the database cannot be written, or was upgraded by a newer release.
        """
        with self.database.writing() as connection:
            log = _log(connection, name)
            version = version_of(connection)
            if version != HEAD:  # since it was opened
                raise newer(self.database, str(version))
            yield log


def _names(connection: Connection) -> tuple[str, ...]:
    return tuple(sorted(connection.execute(select(CAMPAIGNS.c.name)).scalars()))


def _log(connection: Connection, name: str) -> SqlLog:
    """Find a campaign, and lock its row where the database knows row locks; SQLite is locked as a whole."""
    wanted = select(CAMPAIGNS.c.id, CAMPAIGNS.c.key).where(CAMPAIGNS.c.name == name)
    if connection.dialect.name == "postgresql" and not _reads_only(connection):
        wanted = wanted.with_for_update()
    found = connection.execute(wanted).one_or_none()
    if found is None:
        raise UnknownNameError.from_known("campaign", name, _names(connection))
    return SqlLog(connection, found.id, found.key)


def _reads_only(connection: Connection) -> bool:
    return connection.get_execution_options().get("begin") != "IMMEDIATE"
