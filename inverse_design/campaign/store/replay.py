"""What follows from a log: the state of each experiment, and the place of each measurement.

It is never stored, so that nothing can differ from the log.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from safetensors import SafetensorError

from inverse_design.campaign.store.chain import WAY_BACK
from inverse_design.campaign.store.events import (
    STATES,
    Asked,
    Block,
    Corrected,
    Event,
    Experiment,
    Measurement,
    Ordered,
    Retracted,
    State,
    Told,
    WellPlace,
    Withdrawn,
    require_move,
)
from inverse_design.errors import IllegalMoveError, StoreError


@dataclass(frozen=True)
class Replay:
    """All experiments and wells of a campaign after its first events."""

    events: int = 0  # how many of them were replayed
    experiments: Mapping[int, Experiment] = field(default_factory=dict)  # by number, in the order of their making
    wells: Mapping[int, Mapping[str, Measurement]] = field(default_factory=dict)  # by experiment and replicate

    def after(self, events: Iterable[tuple[Event, bytes | None]]) -> "Replay":
        """Let more events happen, each with its artefact; only that of results is looked at."""
        moved = _Moving(dict(self.experiments), dict(self.wells), self.events)
        for event, content in events:
            moved.sequence += 1
            try:
                moved.happen(event, content)
            except (ValueError, KeyError, IndexError, TypeError, SafetensorError, IllegalMoveError) as error:
                said = f"event {moved.sequence} cannot have happened after those before it ({error!s:.200})"
                raise StoreError(f"{said}; {WAY_BACK}") from error
        return Replay(moved.sequence, moved.experiments, moved.wells)

    @property
    def counts(self) -> Mapping[State, int]:
        """How many experiments are in each state."""
        found = Counter(each.state for each in self.experiments.values())
        return {state: found[state] for state in STATES}

    def measurements(self, numbers: Sequence[int]) -> list[Measurement]:
        """Find the measurements of some experiments."""
        return [each for number in numbers for each in self.wells.get(number, {}).values()]


@dataclass
class _Moving:
    """Experiments and wells while events happen to them."""

    experiments: dict[int, Experiment]
    wells: dict[int, Mapping[str, Measurement]]
    sequence: int  # of the event

    def happen(self, event: Event, content: bytes | None) -> None:
        """Let an event happen."""
        if isinstance(event, Asked):
            for number, label in enumerate(event.perturbations, start=event.first):
                self.make(number, label, event.round, "proposed")
        elif isinstance(event, Ordered):
            self.move(event.numbers, "ordered")
        elif isinstance(event, Withdrawn):
            self.move(event.numbers, "withdrawn")
        elif isinstance(event, Told) and content is not None:
            self.tell(Block.from_bytes(content))
        elif isinstance(event, Retracted | Corrected):
            self.forget(event.wells)
            if isinstance(event, Corrected):
                self.place([(well.number, well.replicate) for well in event.wells])
            for number, state in event.moved:
                self.experiments[number] = replace(self.experiments[number], state=state)

    def make(self, number: int, label: str, round_number: int, state: State) -> None:
        if number in self.experiments:
            raise ValueError(f"experiment {number} was there")
        self.experiments[number] = Experiment(number, label, round_number, state)

    def move(self, numbers: Sequence[int], state: State) -> None:
        """Give experiments a state that somebody chose."""
        for number in numbers:
            one = self.experiments[number]
            require_move(one.perturbation, one.state, state)
            self.experiments[number] = replace(one, state=state)

    def found(self, number: int, state: State) -> None:
        """Give an experiment the state that its wells say; once measured, it stays so."""
        one = self.experiments[number]
        if one.state != "measured":
            self.experiments[number] = replace(one, state=state)

    def tell(self, block: Block) -> None:
        labels, replicates, numbers = block.label, block.replicate, block.number.tolist()
        worked = frozenset(block.number[~block.failed].tolist())
        for row in np.flatnonzero(block.extra).tolist():
            if numbers[row] not in self.experiments:
                self.make(numbers[row], labels[row], 0, "measured" if numbers[row] in worked else "failed")
        known = set(block.number[block.extra].tolist())
        for number in dict.fromkeys(numbers):
            if number not in known:
                self.found(number, "measured" if number in worked else "failed")
        self.place(list(zip(numbers, replicates, strict=False)))

    def place(self, wells: Sequence[tuple[int, str]]) -> None:
        """Note where the values of wells are: in the rows of the event's block, in their order."""
        fresh: dict[int, dict[str, Measurement]] = {}
        for row, (number, replicate) in enumerate(wells):
            mine = fresh.setdefault(number, dict(self.wells.get(number, {})))
            if replicate in mine:
                raise ValueError(f"well {replicate!r} of experiment {number} was there")
            mine[replicate] = Measurement(number, replicate, self.sequence, row)
        self.wells.update(fresh)

    def forget(self, wells: Sequence[WellPlace]) -> None:
        """Take wells off the measurements that count."""
        for well in wells:
            mine = dict(self.wells.get(well.number, {}))
            if mine.get(well.replicate) == Measurement(well.number, well.replicate, well.sequence, well.row):
                del mine[well.replicate]
                self.wells[well.number] = mine
