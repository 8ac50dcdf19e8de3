"""Campaigns in a database: SQLite for one person, PostgreSQL for a team, with the same statements.

Beside the arrays only the log is stored. It is read as a whole, event by event along its chain, and what follows
from it is replayed. A store keeps what it has read, so that it reads only events that are new.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, insert, select, text, update

from inverse_design.campaign.store.chain import WAY_BACK, Entry, Head, SeenHeads, followed, key_in, note_key
from inverse_design.campaign.store.database import Database
from inverse_design.campaign.store.events import (
    WITH_VALUES,
    Created,
    Event,
    Experiment,
    Kind,
    Measurement,
    Recorded,
    State,
    content_hash,
    from_json,
    to_json,
)
from inverse_design.campaign.store.replay import Replay
from inverse_design.campaign.store.schema import (
    ARTEFACTS,
    CAMPAIGNS,
    EVENTS,
    HEAD,
    newer,
    require_guards,
    schema_version,
)
from inverse_design.errors import StoreError
from surrogates.errors import UnknownNameError


@dataclass
class SqlLog:
    """One campaign, as it is in a transaction."""

    connection: Connection  # with the transaction
    campaign: int  # number of the campaign in this database
    key: str  # its identity in whatever database
    origin: Head  # where its chain begins
    entries: list[Entry]  # all events, each of which fits the one before
    replay: Replay = field(default_factory=Replay)  # of as many of them as were needed so far

    @property
    def end(self) -> Head:
        """The end of the log: number and hash of the last event."""
        return self.entries[-1].head if self.entries else self.origin

    def head(self) -> int:
        """Give the number of the last event."""
        return self.end.sequence

    def events(self, *kinds: Kind) -> Iterator[Recorded]:
        """Read events of some kinds, or all, from the first on."""
        for entry in tuple(self.entries):
            if not kinds or entry.kind in kinds:
                yield _recorded(entry)

    def newest(self, kind: Kind) -> Recorded | None:
        """Read the last event of a kind."""
        return next((_recorded(entry) for entry in reversed(self.entries) if entry.kind == kind), None)

    def artefact(self, name: str) -> bytes:
        """Read the content of an artefact, which its name is the hash of."""
        found = self.connection.execute(_ARTEFACT, {"name": name}).scalars().all()
        content = found[0] if len(found) == 1 else None
        if isinstance(content, memoryview):
            content = bytes(content)
        if not isinstance(content, bytes) or content_hash(content) != name:
            by = next((entry for entry in self.entries if entry.artefact == name), None)
            of = "" if by is None else f" of event {by.sequence} ({by.kind})"
            what = "are not what was written" if isinstance(content, bytes) else "are missing"
            raise StoreError(f"the numbers{of} {what}: no content with the hash {name:.16}...; {WAY_BACK}")
        return content

    def blocks(self, *, until: int | None = None) -> Iterator[bytes]:
        """Read the blocks of all events with values."""
        for entry in tuple(self.entries):
            if entry.kind in WITH_VALUES and (until is None or entry.sequence <= until):
                yield self.artefact(str(entry.artefact))

    def block(self, sequence: int) -> bytes:
        """Read the block of one event with values."""
        return self.artefact(str(self.entries[sequence - 1].artefact))

    def experiments(
        self,
        *,
        states: Sequence[State] | None = None,
        round_number: int | None = None,
        perturbations: Sequence[str] | None = None,
    ) -> list[Experiment]:
        """Read experiments that fulfil all that is stated, in the order of their numbers."""
        named = None if perturbations is None else frozenset(perturbations)
        found = (
            one
            for one in self._replayed().experiments.values()
            if (states is None or one.state in states)
            and (round_number is None or one.round == round_number)
            and (named is None or one.perturbation in named)
        )
        return sorted(found, key=lambda each: each.number)

    def measurements(self, numbers: Sequence[int]) -> list[Measurement]:
        """Find the measurements of some experiments."""
        return self._replayed().measurements(numbers)

    def counts(self) -> Mapping[State, int]:
        """Count the experiments in each state."""
        return self._replayed().counts

    def next_number(self) -> int:
        """Give the number of the next experiment."""
        return max(self._replayed().experiments, default=0) + 1

    def told(self, digest: str) -> Recorded | None:
        """Find the event that recorded a table."""
        return next((_recorded(entry) for entry in self.entries if entry.digest == digest), None)

    def append(self, event: Event, *, actor: str, artefact: bytes | None = None, digest: str | None = None) -> int:
        """Add an event, and move the experiments as it says."""
        replayed = self._replayed().after([(event, artefact)])
        entry = Entry.after(
            self.end,
            kind=event.kind,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            actor=actor,
            payload=to_json(event),
            artefact=None if artefact is None else self._keep(artefact),
            digest=digest,
        )
        row = {name: getattr(entry, name) for name in _COLUMNS}
        self.connection.execute(insert(EVENTS), {"campaign": self.campaign, **row})
        mine = CAMPAIGNS.c.id == self.campaign
        self.connection.execute(update(CAMPAIGNS).where(mine).values(head=entry.sequence, hash=entry.hash))
        self.entries.append(entry)
        self.replay = replayed
        return entry.sequence

    def _replayed(self) -> Replay:
        """Let the events happen that have not yet."""
        fresh = self.entries[self.replay.events :]
        self.replay = self.replay.after(
            (_recorded(one).event, self.artefact(str(one.artefact)) if one.kind in WITH_VALUES else None)
            for one in fresh
        )
        return self.replay

    def _keep(self, content: bytes) -> str:
        """Keep an artefact under its hash, once, whichever campaign brings it."""
        name = content_hash(content)
        row = {"hash": name, "content": content}
        if self.connection.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as insert_new  # noqa: PLC0415 - where it is spoken

            self.connection.execute(insert_new(ARTEFACTS).on_conflict_do_nothing(), row)
        else:
            self.connection.execute(insert(ARTEFACTS).prefix_with("OR IGNORE"), row)
        return name


_COLUMNS = ("sequence", "kind", "time", "actor", "payload", "artefact", "digest", "hash")
# Not the column of the table: of a damaged file its type would make bytes of whatever is there.
_ARTEFACT = text("SELECT content FROM artefacts WHERE hash = :name")


def _recorded(entry: Entry) -> Recorded:
    try:
        event = from_json(entry.kind, entry.payload)
    except (KeyError, ValidationError) as error:
        raise StoreError(
            f"event {entry.sequence} is of a kind that this release cannot read ({entry.kind!r:.80}); upgrade the"
            f" package; if it should not be there, {WAY_BACK}"
        ) from error
    return Recorded(entry.sequence, entry.time, entry.actor, event, entry.artefact)


@dataclass(frozen=True)
class _Known:
    """What a store has read of a campaign, and found sound."""

    key: str
    entries: tuple[Entry, ...] = ()
    replay: Replay = field(default_factory=Replay)


@dataclass(frozen=True)
class SqlStore:
    """A database of the present version."""

    database: Database  # how to reach it
    noting: bool = (
        True  # whether the heads of its logs are compared with, and kept as, what was seen on this machine
    )
    _known: dict[str, _Known] = field(default_factory=dict, repr=False, compare=False)

    def names(self) -> tuple[str, ...]:
        """List the campaigns, sorted."""
        with self.database.reading() as connection:
            return _names(connection)

    def create(self, name: str, key: str, created: Created, *, screen: bytes, actor: str) -> None:
        """Begin a campaign."""
        with self.database.writing() as connection:
            if name in _names(connection):
                raise StoreError(f"{self.database.shown!r} has a campaign {name!r} already; choose another name")
            origin = Head.origin(key, name)
            row = {"name": name, "key": key, "head": 0, "hash": origin.hash}
            number = connection.execute(insert(CAMPAIGNS).values(row).returning(CAMPAIGNS.c.id)).scalar_one()
            log = SqlLog(connection, number, key, origin, [])
            log.append(created, actor=actor, artefact=screen)
        self._keep(name, log, SeenHeads.of(key), over=True)

    @contextmanager
    def reading(self, name: str) -> Iterator[SqlLog]:
        """Open a campaign to read one consistent state of it."""
        seen = self._seen(name)
        with self.database.reading() as connection:
            log = self._log(connection, name)
            self._require_seen(name, log, seen)
            yield log
        self._keep(name, log, seen)

    @contextmanager
    def writing(self, name: str) -> Iterator[SqlLog]:
        """Open a campaign to change it: all of it when the block ends, or nothing if an exception leaves it."""
        seen = self._seen(name)
        with self.database.writing() as connection:
            log = self._log(connection, name, lock=True)
            version = schema_version(connection)
            if version != HEAD:  # since it was opened
                raise newer(self.database, str(version))
            self._require_seen(name, log, seen)
            yield log
        self._keep(name, log, seen)

    def verify(self, name: str, *, accept: bool = False) -> Head:
        """Look at everything that is stored of a campaign, as if for the first time; nothing changes."""
        self._known.pop(name, None)
        seen = self._seen(name)
        with self.database.reading() as connection:
            require_guards(connection)
            log = self._log(connection, name)
            if not accept:
                self._require_seen(name, log, seen)
            for entry in log.entries:
                if entry.artefact is not None:
                    log.artefact(entry.artefact)
            log.counts()
        self._keep(name, log, seen, over=accept)
        return log.end

    def elsewhere(self, name: str) -> str | None:
        """Name another store on which events were seen on this machine that this log lacks."""
        with self.reading(name) as log:
            others = [
                (head.sequence, place)
                for place, head in self._seen(name).heads.items()
                if place != self._place and not _holds(log, head)
                if head.sequence > log.head()
                or Path(place).exists()  # a copy that went another way, if it is there
            ]
            if not others:
                return None
            sequence, place = max(others)
            return f"{place} (event {sequence}; here are {log.head()})"

    def _seen(self, name: str) -> SeenHeads:
        """Read what was seen of a campaign before its log is read: others may append to it at any time."""
        known = self._known.get(name)
        if self._place is None:
            return SeenHeads("", {})
        if known is not None:
            return SeenHeads.of(known.key)
        with self.database.reading() as connection:
            try:
                return SeenHeads.of(_row(connection, name).key)
            except UnknownNameError as error:
                if key_in(self._place, name) is None:
                    raise
                gone = f"campaign {name!r} was seen in {self.database.shown!r}, and is gone"
                raise StoreError(f"{gone} ({error!s:.200}); {WAY_BACK}") from error

    def _require_seen(self, name: str, log: SqlLog, seen: SeenHeads) -> None:
        """Refuse a log that lacks what was seen in this place."""
        if self._place is None:
            return
        head, key = seen.heads.get(self._place), key_in(self._place, name)
        if key not in {None, log.key}:
            raise StoreError(
                f"{name!r} in {self.database.shown!r} is another campaign than the one that was seen here:"
                f" {WAY_BACK}, or keep it: inverse-design campaign verify --accept"
            )
        if head is None or _holds(log, head):
            return
        raise StoreError(
            f"the log of {log.key!r} in {self.database.shown!r} ends with event {log.head()}, and event"
            f" {head.sequence} with the hash {head.hash:.16}... was seen here: events were removed or written"
            f" anew, or this is an older copy; {WAY_BACK}, or keep it as it is: inverse-design campaign verify"
            " --accept"
        )

    def _log(self, connection: Connection, name: str, *, lock: bool = False) -> SqlLog:
        """Read what is new of a log; its row is locked where the database knows row locks."""
        row = _row(connection, name, lock=lock)
        origin, known = Head.origin(row.key, name), self._known.get(name, _Known(row.key))
        entries = list(known.entries) if known.key == row.key else []
        start = entries.pop() if entries else None  # which is read again: it must still be there
        after = entries[-1].head if entries else origin
        columns = [EVENTS.c[each] for each in _COLUMNS]
        wanted = select(*columns).where(EVENTS.c.campaign == row.id, EVENTS.c.sequence > after.sequence)
        entries += followed(connection.execute(wanted.order_by(EVENTS.c.sequence)), after)
        log = SqlLog(connection, row.id, row.key, origin, entries)
        if start is not None and not _holds(log, start.head):
            raise StoreError(f"event {start.sequence} is gone from the log since it was read; {WAY_BACK}")
        if (row.head, row.hash) != (log.end.sequence, log.end.hash):
            raise StoreError(
                f"the log ends with event {log.head()}, and {row.head!r:.20} were counted: events were removed"
                f" or added past the program; {WAY_BACK}"
            )
        if start is not None:
            log.replay = known.replay
        return log

    def _keep(self, name: str, log: SqlLog, seen: SeenHeads, *, over: bool = False) -> None:
        """Remember what was read or written, and that it was seen."""
        before = self._known.get(name)
        self._known[name] = _Known(log.key, tuple(log.entries), log.replay)
        if self._place is not None:
            seen.note(self._place, log.end, over=over)
            if over or before is None:
                note_key(self._place, name, log.key)

    @property
    def _place(self) -> str | None:
        return self.database.place if self.noting else None


def _holds(log: SqlLog, head: Head) -> bool:
    if head.sequence == 0:
        return head == log.origin
    return head.sequence <= len(log.entries) and log.entries[head.sequence - 1].hash == head.hash


def _names(connection: Connection) -> tuple[str, ...]:
    found = connection.execute(select(CAMPAIGNS.c.name)).scalars().all()
    if not all(isinstance(each, str) for each in found):
        raise StoreError(f"the names of the campaigns cannot be read; {WAY_BACK}")
    return tuple(sorted(found))


def _row(connection: Connection, name: str, *, lock: bool = False) -> Any:  # noqa: ANN401 - as the database gives it
    columns = (CAMPAIGNS.c.id, CAMPAIGNS.c.key, CAMPAIGNS.c.head, CAMPAIGNS.c.hash)
    wanted = select(*columns).where(CAMPAIGNS.c.name == name)
    if lock and connection.dialect.name == "postgresql":
        wanted = wanted.with_for_update()
    found = connection.execute(wanted).all()
    if not found:
        raise UnknownNameError.from_known("campaign", name, _names(connection))
    if len(found) > 1 or not isinstance(found[0].key, str):
        raise StoreError(f"campaign {name!r} cannot be read from the store; {WAY_BACK}")
    return found[0]
