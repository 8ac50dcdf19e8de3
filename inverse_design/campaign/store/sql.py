"""Campaigns in a database: SQLite for one person, PostgreSQL for a team, with the same statements.

Every event is projected in the transaction that appends it: the state of each experiment, and where each
measurement is. Replaying the log gives the same rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, bindparam, delete, func, insert, select, update

from inverse_design.campaign.store.database import (
    ARTEFACTS,
    CAMPAIGNS,
    EVENTS,
    EXPERIMENTS,
    HEAD,
    MEASUREMENTS,
    Database,
    newer,
    version_of,
)
from inverse_design.campaign.store.events import (
    STATES,
    WITH_VALUES,
    Asked,
    Block,
    Corrected,
    Created,
    Event,
    Experiment,
    Kind,
    Measurement,
    Ordered,
    Recorded,
    Retracted,
    State,
    Told,
    WellPlace,
    Withdrawn,
    content_hash,
    from_json,
    to_json,
)
from inverse_design.errors import StoreError
from surrogates.errors import UnknownNameError

Rows = dict[str, list[tuple[Any, ...]]]


def project(connection: Connection, campaign: int, sequence: int, event: Event, artefact: bytes | None) -> None:
    """Move experiments as an event says."""
    if isinstance(event, Asked):
        numbers = range(event.first, event.first + len(event.perturbations))
        proposed = zip(numbers, event.perturbations, strict=True)
        _insert(connection, campaign, [(*each, event.round, "proposed") for each in proposed])
    elif isinstance(event, Ordered):
        _move(connection, campaign, event.numbers, "ordered")
    elif isinstance(event, Withdrawn):
        _move(connection, campaign, event.numbers, "withdrawn")
    elif isinstance(event, Told) and artefact is not None:
        _project_block(connection, campaign, sequence, Block.from_bytes(artefact))
    elif isinstance(event, Retracted | Corrected):
        _forget(connection, campaign, event.wells)
        if isinstance(event, Corrected):
            places = [(one.number, one.replicate) for one in event.wells]
            _place(connection, campaign, sequence, places)
        for number, state in event.moved:
            _set(connection, campaign, number, state)


def verify(connection: Connection, campaign: int) -> None:
    """Replay the log, and compare what follows from it with what is stored; the replay itself is rolled back.

    Raises:
        StoreError: If the two differ, or the events are not numbered without a gap.
    """
    stored = _rows(connection, campaign)
    with connection.begin_nested() as replay:
        rebuild(connection, campaign)
        replayed = _rows(connection, campaign)
        replay.rollback()
    for table, rows in replayed.items():
        if rows != stored[table]:
            odd = sorted(set(rows) ^ set(stored[table]))[:3]
            raise StoreError(f"the table {table!r} does not follow from the log, for example in {odd}")


def rebuild(connection: Connection, campaign: int) -> None:
    """Throw away what follows from the log, and replay it.

    Raises:
        StoreError: If the events are not numbered without a gap.
    """
    for table in (MEASUREMENTS, EXPERIMENTS):
        connection.execute(delete(table).where(table.c.campaign == campaign))
    joined = EVENTS.outerjoin(ARTEFACTS, (EVENTS.c.artefact == ARTEFACTS.c.hash) & EVENTS.c.kind.in_(WITH_VALUES))
    columns = (EVENTS.c.sequence, EVENTS.c.kind, EVENTS.c.payload, ARTEFACTS.c.content)
    wanted = select(*columns).select_from(joined).where(EVENTS.c.campaign == campaign)
    log = connection.execute(wanted.order_by(EVENTS.c.sequence)).all()
    for place, row in enumerate(log, start=1):
        if row.sequence != place:
            raise StoreError(f"event {place} is missing from the log; restore the database from a copy")
        content = None if row.content is None else bytes(row.content)
        project(connection, campaign, row.sequence, from_json(row.kind, row.payload), content)


def _project_block(connection: Connection, campaign: int, sequence: int, block: Block) -> None:
    worked = np.unique(block.number[~block.failed])
    failed = np.setdiff1d(block.number, worked)
    first = np.unique(block.number[block.extra], return_index=True)[1]
    made = np.flatnonzero(block.extra)[first]
    labels, measured = block.label, frozenset(worked.tolist())
    states = ((int(block.number[row]), labels[row]) for row in made)
    _insert(
        connection,
        campaign,
        [(number, label, 0, "measured" if number in measured else "failed") for number, label in states],
    )
    known = block.number[block.extra]
    _move(connection, campaign, tuple(np.setdiff1d(worked, known).tolist()), "measured")
    _move(connection, campaign, tuple(np.setdiff1d(failed, known).tolist()), "failed")
    _place(connection, campaign, sequence, list(zip(block.number.tolist(), block.replicate, strict=False)))


def _place(connection: Connection, campaign: int, sequence: int, wells: list[tuple[int, str]]) -> None:
    """Note where the values of wells are: in the rows of a block, in their order."""
    names = ("campaign", "number", "replicate", "sequence", "row")
    rows = [(campaign, number, replicate, sequence, row) for row, (number, replicate) in enumerate(wells)]
    connection.execute(insert(MEASUREMENTS), [dict(zip(names, each, strict=True)) for each in rows])


def _forget(connection: Connection, campaign: int, wells: tuple[WellPlace, ...]) -> None:
    """Take wells off the measurements that count."""
    if not wells:
        return
    found = MEASUREMENTS.c
    wanted = [found.campaign == campaign]
    wanted += [found[name] == bindparam(f"of_{name}") for name in ("number", "replicate", "sequence", "row")]
    rows = [
        {"of_number": one.number, "of_replicate": one.replicate, "of_sequence": one.sequence, "of_row": one.row}
        for one in wells
    ]
    connection.execute(delete(MEASUREMENTS).where(*wanted), rows)


def _set(connection: Connection, campaign: int, number: int, state: State) -> None:
    mine = (EXPERIMENTS.c.campaign == campaign, EXPERIMENTS.c.number == number)
    connection.execute(update(EXPERIMENTS).where(*mine).values(state=state))


def _insert(connection: Connection, campaign: int, experiments: list[tuple[int, str, int, str]]) -> None:
    names = ("number", "perturbation", "round", "state")
    rows = [{"campaign": campaign, **dict(zip(names, each, strict=True))} for each in experiments]
    if rows:
        connection.execute(insert(EXPERIMENTS), rows)


def _move(connection: Connection, campaign: int, numbers: tuple[int, ...], state: State) -> None:
    """Give experiments a state; one that was measured stays so, whatever happens to further wells of it."""
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        wanted = (
            EXPERIMENTS.c.campaign == campaign,
            EXPERIMENTS.c.number.in_(some),
            EXPERIMENTS.c.state != "measured",
        )
        connection.execute(update(EXPERIMENTS).where(*wanted).values(state=state))


def _rows(connection: Connection, campaign: int) -> Rows:
    found: Rows = {}
    for table in (EXPERIMENTS, MEASUREMENTS):
        mine = select(table).where(table.c.campaign == campaign).order_by(*table.primary_key.columns)
        found[table.name] = [tuple(row) for row in connection.execute(mine)]
    return found


_AT_ONCE = 500  # parameters of one statement; SQLite allows some more


@dataclass(frozen=True)
class SqlLog:
    """One campaign, as it is in a transaction."""

    connection: Connection  # with the transaction
    campaign: int  # number of the campaign in this database
    key: str  # its identity in whatever database

    def head(self) -> int:
        """Give the number of the last event."""
        wanted = select(CAMPAIGNS.c.head).where(CAMPAIGNS.c.id == self.campaign)
        return int(self.connection.execute(wanted).scalar_one())

    def events(self, *kinds: Kind) -> Iterator[Recorded]:
        """Read events of some kinds, or all, from the first on."""
        wanted = self._events()
        if kinds:
            wanted = wanted.where(EVENTS.c.kind.in_(kinds))
        for row in self.connection.execute(wanted.order_by(EVENTS.c.sequence)):
            yield _recorded(row)

    def newest(self, kind: Kind) -> Recorded | None:
        """Read the last event of a kind."""
        wanted = self._events().where(EVENTS.c.kind == kind).order_by(EVENTS.c.sequence.desc()).limit(1)
        row = self.connection.execute(wanted).one_or_none()
        return None if row is None else _recorded(row)

    def artefact(self, name: str) -> bytes:
        """Read the content of an artefact."""
        wanted = select(ARTEFACTS.c.content).where(ARTEFACTS.c.hash == name)
        return bytes(self.connection.execute(wanted).scalar_one())

    def blocks(self, *, until: int | None = None) -> Iterator[bytes]:
        """Read the blocks of numbers of all tables of results."""
        wanted = self._blocks().order_by(EVENTS.c.sequence)
        if until is not None:
            wanted = wanted.where(EVENTS.c.sequence <= until)
        for content in self.connection.execute(wanted).scalars():
            yield bytes(content)

    def block(self, sequence: int) -> bytes:
        """Read the block of one table of results."""
        return bytes(self.connection.execute(self._blocks().where(EVENTS.c.sequence == sequence)).scalar_one())

    def experiments(
        self,
        *,
        states: Sequence[State] | None = None,
        round_number: int | None = None,
        perturbations: Sequence[str] | None = None,
    ) -> list[Experiment]:
        """Read experiments that fulfil all that is stated."""
        columns = (EXPERIMENTS.c.number, EXPERIMENTS.c.perturbation, EXPERIMENTS.c.round, EXPERIMENTS.c.state)
        wanted = select(*columns).where(EXPERIMENTS.c.campaign == self.campaign)
        if states is not None:
            wanted = wanted.where(EXPERIMENTS.c.state.in_(states))
        if round_number is not None:
            wanted = wanted.where(EXPERIMENTS.c.round == round_number)
        rows: list[Any]
        if perturbations is None:
            rows = list(self.connection.execute(wanted))
        else:
            rows = self._in(wanted, EXPERIMENTS.c.perturbation, perturbations)
        return sorted((_experiment(row) for row in rows), key=lambda each: each.number)

    def measurements(self, numbers: Sequence[int]) -> list[Measurement]:
        """Find the measurements of some experiments."""
        found = MEASUREMENTS.c
        wanted = select(found.number, found.replicate, found.sequence, found.row)
        wanted = wanted.where(found.campaign == self.campaign)
        rows = self._in(wanted, found.number, numbers)
        return [Measurement(row.number, row.replicate, row.sequence, row.row) for row in rows]

    def counts(self) -> Mapping[State, int]:
        """Count the experiments in each state."""
        state = EXPERIMENTS.c.state
        wanted = select(state, func.count()).where(EXPERIMENTS.c.campaign == self.campaign).group_by(state)
        found = {row[0]: row[1] for row in self.connection.execute(wanted)}
        return {name: found.get(name, 0) for name in STATES}

    def next_number(self) -> int:
        """Give the number of the next experiment."""
        largest = select(func.max(EXPERIMENTS.c.number)).where(EXPERIMENTS.c.campaign == self.campaign)
        return (self.connection.execute(largest).scalar_one() or 0) + 1

    def told(self, digest: str) -> Recorded | None:
        """Find the event that recorded a table."""
        row = self.connection.execute(self._events().where(EVENTS.c.digest == digest)).one_or_none()
        return None if row is None else _recorded(row)

    def append(self, event: Event, *, actor: str, artefact: bytes | None = None, digest: str | None = None) -> int:
        """Add an event, and move the experiments as it says."""
        sequence = self.head() + 1
        row = {
            "campaign": self.campaign,
            "sequence": sequence,
            "kind": event.kind,
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "actor": actor,
            "payload": to_json(event),
            "artefact": None if artefact is None else self._keep(artefact),
            "digest": digest,
        }
        self.connection.execute(insert(EVENTS), row)
        mine = CAMPAIGNS.c.id == self.campaign
        self.connection.execute(update(CAMPAIGNS).where(mine).values(head=sequence))
        project(self.connection, self.campaign, sequence, event, artefact)
        return sequence

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

    def _events(self) -> Select[Any]:
        return select(EVENTS).where(EVENTS.c.campaign == self.campaign)

    def _blocks(self) -> Select[Any]:
        joined = EVENTS.join(ARTEFACTS, EVENTS.c.artefact == ARTEFACTS.c.hash)
        wanted = select(ARTEFACTS.c.content).select_from(joined)
        return wanted.where(EVENTS.c.campaign == self.campaign, EVENTS.c.kind.in_(WITH_VALUES))

    def _in(self, wanted: Select[Any], column: Any, values: Sequence[Any]) -> list[Any]:  # noqa: ANN401 - any column
        rows: list[Any] = []
        for start in range(0, len(values), _AT_ONCE):
            rows.extend(self.connection.execute(wanted.where(column.in_(values[start : start + _AT_ONCE]))))
        return rows


def _recorded(row: Any) -> Recorded:  # noqa: ANN401 - run-time checks cannot take the rows' own type
    return Recorded(row.sequence, row.time, row.actor, from_json(row.kind, row.payload), row.artefact)


def _experiment(row: Any) -> Experiment:  # noqa: ANN401 - as above
    return Experiment(row.number, row.perturbation, row.round, row.state)


@dataclass(frozen=True)
class SqlStore:
    """A database of the present version."""

    database: Database  # how to reach it

    def names(self) -> tuple[str, ...]:
        """List the campaigns, sorted."""
        with self.database.reading() as connection:
            return _names(connection)

    def create(self, name: str, key: str, created: Created, *, screen: bytes, actor: str) -> None:
        """Begin a campaign.

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

        Raises:
            UnknownNameError: If there is no such campaign; the message names the nearest ones.
            StoreError: If the database cannot be read.
        """
        with self.database.reading() as connection:
            yield _log(connection, name)

    @contextmanager
    def writing(self, name: str) -> Iterator[SqlLog]:
        """Open a campaign to change it: all of it when the block ends, or nothing if it is left by an exception.

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

    def verify(self, name: str) -> None:
        """Replay the log of a campaign, and compare what follows from it with what is stored; nothing changes.

        Raises:
            UnknownNameError: If there is no such campaign.
            StoreError: If the two differ, or an event is missing.
        """
        with self.writing(name) as log:
            verify(log.connection, log.campaign)


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
