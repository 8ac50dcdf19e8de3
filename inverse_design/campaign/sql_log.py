"""The log of one campaign inside one transaction of a database."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Select, func, insert, select, update

from inverse_design.campaign.block import content_hash
from inverse_design.campaign.events import Event, Kind, Recorded, from_json, to_json
from inverse_design.campaign.experiment import Experiment, Measurement
from inverse_design.campaign.projection import project
from inverse_design.campaign.state import STATES, State
from inverse_design.campaign.tables import ARTEFACTS, CAMPAIGNS, EVENTS, EXPERIMENTS, MEASUREMENTS

_AT_ONCE = 500  # parameters of one statement; SQLite allows some more


@dataclass(frozen=True)
class SqlLog:
    """One campaign, as it is in a transaction.

    Attributes:
        connection: With the transaction.
        campaign: Number of the campaign in this database.
        key: Its identity in whatever database.
    """

    connection: Connection
    campaign: int
    key: str

    def head(self) -> int:
        """Give the number of the last event.

        Returns:
            The number; 0 before the first.
        """
        wanted = select(CAMPAIGNS.c.head).where(CAMPAIGNS.c.id == self.campaign)
        return int(self.connection.execute(wanted).scalar_one())

    def events(self, *kinds: Kind) -> Iterator[Recorded]:
        """Read events of some kinds, or all, from the first on.

        Args:
            kinds: Which.

        Yields:
            The events, in order.
        """
        wanted = self._events()
        if kinds:
            wanted = wanted.where(EVENTS.c.kind.in_(kinds))
        for row in self.connection.execute(wanted.order_by(EVENTS.c.sequence)):
            yield _recorded(row)

    def newest(self, kind: Kind) -> Recorded | None:
        """Read the last event of a kind.

        Args:
            kind: Which.

        Returns:
            The event, ``None`` if there is none.
        """
        wanted = self._events().where(EVENTS.c.kind == kind).order_by(EVENTS.c.sequence.desc()).limit(1)
        row = self.connection.execute(wanted).one_or_none()
        return None if row is None else _recorded(row)

    def artefact(self, name: str) -> bytes:
        """Read the content of an artefact.

        Args:
            name: Its hash.

        Returns:
            The content.
        """
        wanted = select(ARTEFACTS.c.content).where(ARTEFACTS.c.hash == name)
        return bytes(self.connection.execute(wanted).scalar_one())

    def blocks(self, *, until: int | None = None) -> Iterator[bytes]:
        """Read the blocks of numbers of all told tables.

        Args:
            until: Number of the last event that counts; all by default.

        Yields:
            Their contents, in the order in which they were told.
        """
        wanted = self._blocks().order_by(EVENTS.c.sequence)
        if until is not None:
            wanted = wanted.where(EVENTS.c.sequence <= until)
        for content in self.connection.execute(wanted).scalars():
            yield bytes(content)

    def block(self, sequence: int) -> bytes:
        """Read the block of one told table.

        Args:
            sequence: Number of its event.

        Returns:
            Its content.
        """
        return bytes(self.connection.execute(self._blocks().where(EVENTS.c.sequence == sequence)).scalar_one())

    def experiments(
        self,
        *,
        states: Sequence[State] | None = None,
        round_number: int | None = None,
        perturbations: Sequence[str] | None = None,
    ) -> list[Experiment]:
        """Read experiments that fulfil all that is stated.

        Args:
            states: In which they may be.
            round_number: In which they were proposed.
            perturbations: Canonical labels.

        Returns:
            The experiments, in the order of their numbers.
        """
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
        """Find the measurements of some experiments.

        Args:
            numbers: Of the experiments.

        Returns:
            Where the values of each well are.
        """
        found = MEASUREMENTS.c
        wanted = select(found.number, found.replicate, found.sequence, found.row)
        wanted = wanted.where(found.campaign == self.campaign)
        rows = self._in(wanted, found.number, numbers)
        return [Measurement(row.number, row.replicate, row.sequence, row.row) for row in rows]

    def counts(self) -> Mapping[State, int]:
        """Count the experiments in each state.

        Returns:
            For each state a number.
        """
        state = EXPERIMENTS.c.state
        wanted = select(state, func.count()).where(EXPERIMENTS.c.campaign == self.campaign).group_by(state)
        found = {row[0]: row[1] for row in self.connection.execute(wanted)}
        return {name: found.get(name, 0) for name in STATES}

    def next_number(self) -> int:
        """Give the number of the next experiment.

        Returns:
            One more than the largest so far.
        """
        largest = select(func.max(EXPERIMENTS.c.number)).where(EXPERIMENTS.c.campaign == self.campaign)
        return (self.connection.execute(largest).scalar_one() or 0) + 1

    def told(self, digest: str) -> Recorded | None:
        """Find the event that told a table.

        Args:
            digest: Of the content of the table.

        Returns:
            The event, ``None`` if there is none.
        """
        row = self.connection.execute(self._events().where(EVENTS.c.digest == digest)).one_or_none()
        return None if row is None else _recorded(row)

    def append(self, event: Event, *, actor: str, artefact: bytes | None = None, digest: str | None = None) -> int:
        """Add an event, and move the experiments as it says.

        Args:
            event: What happened.
            actor: Who did it.
            artefact: Numbers that belong to it.
            digest: Of the content of a told table.

        Returns:
            The number of the event.
        """
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
        return wanted.where(EVENTS.c.campaign == self.campaign, EVENTS.c.kind == "told")

    def _in(self, wanted: Select[Any], column: Any, values: Sequence[Any]) -> list[Any]:  # noqa: ANN401 - any column
        rows: list[Any] = []
        for start in range(0, len(values), _AT_ONCE):
            rows.extend(self.connection.execute(wanted.where(column.in_(values[start : start + _AT_ONCE]))))
        return rows


def _recorded(row: Any) -> Recorded:  # noqa: ANN401 - run-time checks cannot take the rows' own type
    return Recorded(row.sequence, row.time, row.actor, from_json(row.kind, row.payload), row.artefact)


def _experiment(row: Any) -> Experiment:  # noqa: ANN401 - as above
    return Experiment(row.number, row.perturbation, row.round, row.state)
