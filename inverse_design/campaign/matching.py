"""Which experiment each told well belongs to, and which wells were told before."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from inverse_design.campaign.block import Block
from inverse_design.campaign.experiment import Experiment, Measurement
from inverse_design.campaign.results import Results
from inverse_design.campaign.state import OPEN_STATES, State, require_move
from inverse_design.campaign.store import Log
from inverse_design.errors import ResultsError

_MOST_SHOWN = 5
_ROUNDING = 1e-9  # files of ours write ten digits


@dataclass
class Matching:
    """What becomes of the wells of a told table; filled well by well.

    Attributes:
        results: The wells.
        log: The campaign.
        allow_extra: Whether experiments that nobody asked for are taken.
        rows: Wells that are new.
        numbers: Their experiments.
        extra: From the perturbations that nobody asked for to the numbers that their experiments get.
        already: How many wells had been told before.
        unasked: Perturbations that are extra although they may not be, and why.
    """

    results: Results
    log: Log
    allow_extra: bool
    rows: list[int] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    extra: dict[str, int] = field(default_factory=dict)
    already: int = 0
    unasked: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Look up everything that the wells may belong to, at once."""
        wanted = sorted(set(self.results.labels))
        self._experiments: dict[str, list[Experiment]] = defaultdict(list)
        for one in self.log.experiments(perturbations=wanted):
            self._experiments[one.perturbation].append(one)
        numbers = [one.number for every in self._experiments.values() for one in every]
        self._known = {(each.number, each.replicate): each for each in self.log.measurements(numbers)}
        self._blocks: dict[int, Block] = {}
        self._next = self.log.next_number()

    def run(self) -> "Matching":
        """Match all wells.

        Returns:
            This matching, filled.

        Raises:
            ResultsError: If an experiment was never asked for, or a well was told with other values.
            IllegalMoveError: If an experiment has failed or was withdrawn.
        """
        for row in range(len(self.results)):
            self._match(row)
        if self.unasked:
            self._refuse_unasked()
        return self

    @property
    def states(self) -> Mapping[int, State]:
        """The state in which each known experiment is found."""
        return {one.number: one.state for every in self._experiments.values() for one in every}

    def block(self) -> Block:
        """Collect the new wells.

        Returns:
            Their numbers.
        """
        at, results = np.array(self.rows, dtype=np.int64), self.results
        number, made = np.array(self.numbers, dtype=np.int64), list(self.extra.values())
        return Block(
            number=number,
            extra=np.isin(number, made),
            failed=results.failed[at],
            genes=results.genes[at],
            values=results.values[at],
            labels=Block.lines([results.labels[row] for row in self.rows]),
            replicates=Block.lines([results.replicates[row] for row in self.rows]),
        )

    def _match(self, row: int) -> None:
        label, stated = self.results.labels[row], self.results.rounds[row]
        candidates = [one for one in self._experiments[label] if stated is None or one.round == stated]
        if stated is not None and not candidates:
            raise ResultsError(
                f"line {self.results.lines[row]}: round {stated} did not propose {label!r}; correct the round, or"
                " leave it empty"
            )
        if self._told_before(row, candidates):
            self.already += 1
            return
        number = self._experiment_of(row, candidates)
        if number is not None:
            self.rows.append(row)
            self.numbers.append(number)

    def _told_before(self, row: int, candidates: list[Experiment]) -> bool:
        """Recognise a well by experiment, replicate and values: files that grow are told again and again."""
        earlier = [self._known.get((one.number, self.results.replicates[row])) for one in candidates]
        found = [each for each in earlier if each is not None]
        is_open = any(one.state in OPEN_STATES for one in candidates)
        if any(_same(self._values(each), self.results.values[row]) for each in found):
            if is_open and self.results.failed[row]:
                self._refuse_ambiguous(row)
            return True
        if found and not is_open:
            self._refuse_other_values(row, found[-1])
        return False

    def _experiment_of(self, row: int, candidates: list[Experiment]) -> int | None:
        """Take the open experiment, else the one that was measured last, else make one if that is allowed."""
        label = self.results.labels[row]
        ready = [one for one in candidates if one.state in OPEN_STATES]
        ready = ready or [one for one in candidates if one.state == "measured"]
        if ready:
            return ready[-1].number
        if self.allow_extra:
            if label not in self.extra:
                self.extra[label] = self._next
                self._next += 1
            return self.extra[label]
        if candidates:
            require_move(label, candidates[-1].state, "failed" if self.results.failed[row] else "measured")
        self.unasked.setdefault(label, f"line {self.results.lines[row]}")
        return None

    def _refuse_unasked(self) -> None:
        names = [f"{label!r} ({line})" for label, line in self.unasked.items()]
        more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
        raise ResultsError(
            f"{len(names)} perturbation(s) were never asked for: {', '.join(names[:_MOST_SHOWN])}{more}. Allow extra"
            " experiments if they are meant (allow_extra, --allow-extra)"
        )

    def _refuse_other_values(self, row: int, earlier: Measurement) -> None:
        pairs = zip(self._values(earlier), self.results.values[row], strict=True)
        told, now = next(each for each in pairs if not _same(*each))
        raise ResultsError(
            f"line {self.results.lines[row]}: {self.results.labels[row]!r}, replicate"
            f" {self.results.replicates[row]!r} was told before as {_shown(told)}, now as {_shown(now)} (event"
            f" {earlier.sequence}), and results are never overwritten; if it is another well, give it another name"
            " in a column 'replicate'"
        )

    def _refuse_ambiguous(self, row: int) -> None:
        raise ResultsError(
            f"line {self.results.lines[row]}: {self.results.labels[row]!r} has failed before, and is open again;"
            " say which of the two it is in a column 'round'"
        )

    def _values(self, measurement: Measurement) -> np.ndarray:
        if measurement.sequence not in self._blocks:
            self._blocks[measurement.sequence] = Block.from_bytes(self.log.block(measurement.sequence))
        row: np.ndarray = self._blocks[measurement.sequence].values[measurement.row]
        return row


def _same(told: np.ndarray | float, now: np.ndarray | float) -> bool:
    """Whether numbers are equal but for the last digits, which differ where a file writes them as text."""
    return bool(np.isclose(told, now, rtol=_ROUNDING, atol=0.0, equal_nan=True).all())


def _shown(value: float) -> str:
    return "failed" if np.isnan(value) else f"{value:.6g}"
