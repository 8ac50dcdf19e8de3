"""The ledger of a search: finished shards in one SQLite file, so that a killed search goes on where it stopped."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from inverse_design.errors import LedgerError
from inverse_design.search.shards import Shard, ShardAnswer

_FORMAT = "1"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scan (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    shard INTEGER PRIMARY KEY, candidates BLOB NOT NULL, scores BLOB NOT NULL, certificate TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Ledger:
    """Finished shards of one search. Each is one transaction: it is there whole or not at all.

    Attributes:
        path: The file.
    """

    path: Path

    @classmethod
    def open(cls, path: Path, *, name: str, k: int, shards: tuple[Shard, ...]) -> "Ledger":
        """Open the ledger of a search, or start one.

        Args:
            path: The file; its folder must exist.
            name: Identity of the parcel.
            k: How many candidates are kept.
            shards: The plan; a ledger that was started with another plan of the same search keeps its own.

        Returns:
            The ledger.

        Raises:
            LedgerError: If the file is no ledger, that of another search, or cannot be written.
        """
        ledger = cls(path)
        wanted = {"format": _FORMAT, "parcel": name, "k": str(k)}
        with ledger._connected() as connection:
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            found = dict(connection.execute("SELECT key, value FROM scan"))
            if not found:
                plan = ",".join(f"{first}-{stop}" for first, stop in shards)
                rows = [*wanted.items(), ("plan", plan)]
                connection.executemany("INSERT INTO scan VALUES (?, ?)", rows)
            connection.commit()
        different = [key for key, value in wanted.items() if found and found.get(key) != value]
        if different:
            raise LedgerError(
                f"{path.name!r} is the ledger of another search ({', '.join(different)} differ): give a new file,"
                " or repeat the command that started it"
            )
        return ledger

    @property
    def plan(self) -> tuple[Shard, ...]:
        """The shards of the search."""
        with self._connected() as connection:
            (text,) = connection.execute("SELECT value FROM scan WHERE key = 'plan'").fetchone()
        spans = [each.split("-") for each in text.split(",")]
        return tuple((int(first), int(stop)) for first, stop in spans)

    def add(self, answer: ShardAnswer) -> None:
        """Keep an answer; a second one for the same shard is the same and changes nothing.

        Args:
            answer: Of one shard.

        Raises:
            LedgerError: If it cannot be written.
        """
        row = (answer.shard, answer.index, answer.score, answer.certificate)
        with self._connected() as connection, connection:
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", row)

    def answers(self) -> list[ShardAnswer]:
        """Read all finished shards.

        Returns:
            Their answers.

        Raises:
            LedgerError: If the file cannot be read.
        """
        with self._connected() as connection:
            rows = connection.execute("SELECT shard, candidates, scores, certificate FROM answers").fetchall()
        return [ShardAnswer(*row) for row in rows]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger {str(self.path)!r} cannot be used: {error}") from error
