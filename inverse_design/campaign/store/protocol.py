"""What a store of campaigns offers: logs that can be read, and appended to one writer at a time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, runtime_checkable

from inverse_design.campaign.store.chain import WAY_BACK, Head
from inverse_design.campaign.store.events import Created, Event, Experiment, Kind, Measurement, Recorded, State
from inverse_design.errors import StoreError

TIMEOUT = 30.0  # seconds


@runtime_checkable
class Log(Protocol):
    """One campaign, as it is at one moment."""

    @property
    def key(self) -> str:
        """Identity of the campaign, in whatever database it is."""
        ...

    def head(self) -> int:
        """Give the number of the last event."""
        ...

    @property
    def end(self) -> Head:
        """The end of the log: number and hash of the last event, see :class:`.chain.Entry`."""
        ...

    def events(self, *kinds: Kind) -> Iterator[Recorded]:
        """Read events of some kinds, or all, from the first on."""
        ...

    def newest(self, kind: Kind) -> Recorded | None:
        """Read the last event of a kind."""
        ...

    def artefact(self, name: str) -> bytes:
        """Read the content of an artefact by its hash."""
        ...

    def blocks(self, *, until: int | None = None) -> Iterator[bytes]:
        """Read the blocks of all events with values (told, corrected), in order, up to an event."""
        ...

    def block(self, sequence: int) -> bytes:
        """Read the block of one event with values."""
        ...

    def experiments(
        self,
        *,
        states: Sequence[State] | None = None,
        round_number: int | None = None,
        perturbations: Sequence[str] | None = None,
    ) -> list[Experiment]:
        """Read experiments that fulfil all that is stated, in the order of their numbers."""
        ...

    def measurements(self, numbers: Sequence[int]) -> list[Measurement]:
        """Find the measurements of some experiments that count: neither retracted nor corrected."""
        ...

    def counts(self) -> Mapping[State, int]:
        """Count the experiments in each state."""
        ...

    def next_number(self) -> int:
        """Give the number of the next experiment."""
        ...

    def told(self, digest: str) -> Recorded | None:
        """Find the event that recorded a table with this content."""
        ...


@runtime_checkable
class WritableLog(Log, Protocol):
    """One campaign that nobody else can change meanwhile."""

    def append(self, event: Event, *, actor: str, artefact: bytes | None = None, digest: str | None = None) -> int:
        """Add an event, and move the experiments as it says.

        Args:
            event: What happened.
            actor: Who did it.
            artefact: Numbers that belong to it. The wells of a retraction or correction are no measurements any
                longer; those of the block of a correction stand in their place, and experiments move as it says.
            digest: Of the content of a table of results, which can be recorded once only.

        Returns:
            The number of the event.
        """
        ...


@runtime_checkable
class Store(Protocol):
    """Campaigns that survive whatever happens to the process."""

    def names(self) -> tuple[str, ...]:
        """List the campaigns, sorted.

        Returns:
            Their names.
        """
        ...

    def create(self, name: str, key: str, created: Created, *, screen: bytes, actor: str) -> None:
        """Begin a campaign.

        Args:
            name: Unique in this store.
            key: Unique everywhere.
            created: Its first event.
            screen: The starting screen, as an artefact.
            actor: Who begins it.

        Raises:
            StoreError: If there is a campaign of that name.
        """
        ...

    def reading(self, name: str) -> AbstractContextManager[Log]:
        """Open a campaign to read one consistent state of it.

        Args:
            name: Of the campaign.

        Raises:
            UnknownNameError: If there is no such campaign; the message names the nearest ones.
        """
        ...

    def writing(self, name: str) -> AbstractContextManager[WritableLog]:
        """Open a campaign to change it: all of it when the block ends, or nothing if it is left by an exception.

        Args:
            name: Of the campaign.

        Raises:
            UnknownNameError: If there is no such campaign.
        """
        ...


def open_store(place: str | Path, *, create: bool = False, timeout: float = TIMEOUT) -> Store:
    """Open a store: an SQLite file, or a PostgreSQL database by its URL.

    Example:
        >>> open_store("screens.db", create=True).names()
        ()

    Args:
        place: Path of a file, or a URL such as ``postgresql://ann@server/screens``.
        create: Whether a file that is not there is made.
        timeout: How long to wait for others who write, in seconds.

    Returns:
        The store; an older one has been brought to the present version.

    Raises:
        StoreError: If there is no such file or database, it is of another program or newer than this package, lies
            on a network file system, is locked, or cannot be read.
    """
    from inverse_design.campaign.store.database import Database  # noqa: PLC0415 - SQLAlchemy takes a second
    from inverse_design.campaign.store.files import make_private  # noqa: PLC0415
    from inverse_design.campaign.store.schema import prepare  # noqa: PLC0415
    from inverse_design.campaign.store.sql import SqlStore  # noqa: PLC0415

    database = Database.at(place, timeout=timeout)
    if database.path is not None:
        _require_place(database.path, create=create)
        if create:
            make_private(database.path)
    prepare(database)
    return SqlStore(database)


def memory_store() -> Store:
    """Make a store that lives as long as the process; no file is left behind."""
    from inverse_design.campaign.store.database import Database  # noqa: PLC0415 - SQLAlchemy takes a second
    from inverse_design.campaign.store.schema import prepare  # noqa: PLC0415
    from inverse_design.campaign.store.sql import SqlStore  # noqa: PLC0415

    database = Database.in_memory()
    prepare(database)
    return SqlStore(database)


def _require_place(path: Path, *, create: bool) -> None:
    if path.is_dir():
        raise StoreError(f"{str(path)!r} is a folder; name a file in it")
    if not path.parent.is_dir():
        raise StoreError(f"{str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    if not create and not path.exists():
        raise StoreError(f"there is no store {str(path)!r}; create a campaign first, or name another file")
    if not create and path.stat().st_size == 0:
        raise StoreError(f"the store {str(path)!r} is empty: it was cut, or never written; {WAY_BACK}")
