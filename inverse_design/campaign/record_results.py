"""Recording results: checked, matched with experiments, and written in one transaction."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from inverse_design.campaign.results import Results
from inverse_design.campaign.scale import DECADES, AssayRange, Remark, Scale
from inverse_design.campaign.store.events import (
    OPEN_STATES,
    Block,
    Experiment,
    Measurement,
    Ordered,
    State,
    Told,
    Withdrawn,
    require_move,
)
from inverse_design.campaign.store.protocol import Log, WritableLog
from inverse_design.campaign.wells import taken_back
from inverse_design.errors import ResultsError
from surrogates.errors import DataError, amount, some_of

_MOST_SHOWN = 5
_ROUNDING = 1e-9  # files of ours write ten digits


@dataclass
class Matching:
    """What becomes of the wells of a table of results; filled well by well."""

    results: Results  # the wells
    log: Log  # the campaign
    allow_extra: bool  # whether experiments that nobody asked for are taken
    rows: list[int] = field(default_factory=list)  # wells that are new
    numbers: list[int] = field(default_factory=list)  # their experiments
    # From the perturbations that nobody asked for to the numbers that their experiments get.
    extra: dict[str, int] = field(default_factory=dict)
    already: int = 0  # how many wells had been recorded before
    retracted: int = 0  # how many wells were recorded with these values, and taken back
    # Perturbations that are extra although they may not be, and why.
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
        self._void: dict[tuple[int, str], list[tuple[int, int]]] = defaultdict(list)
        for sequence, row in taken_back(self.log):
            block = self._block(sequence)
            self._void[int(block.number[row]), block.replicate[row]].append((sequence, row))
        self._next = self.log.next_number()

    def run(self) -> "Matching":
        """Match all wells."""
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
        """Collect the new wells."""
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
            return
        number = self._experiment_of(row, candidates)
        if number is not None:
            self.rows.append(row)
            self.numbers.append(number)

    def _told_before(self, row: int, candidates: list[Experiment]) -> bool:
        """Recognise a well by experiment, replicate and values: files that grow are given again and again."""
        earlier = [self._known.get((one.number, self.results.replicates[row])) for one in candidates]
        found = [each for each in earlier if each is not None]
        is_open = any(one.state in OPEN_STATES for one in candidates)
        if any(same_values(self._values(each), self.results.values[row]) for each in found):
            if is_open and self.results.failed[row]:
                self._refuse_ambiguous(row)
            self.already += 1
            return True
        if self._taken_back_before(row, candidates):
            self.retracted += 1
            return True
        if found and not is_open:
            self._refuse_other_values(row, found[-1])
        return False

    def _taken_back_before(self, row: int, candidates: list[Experiment]) -> bool:
        """Recognise a well that was taken back: a file that still holds it does not bring it back."""
        void = [
            place for one in candidates for place in self._void.get((one.number, self.results.replicates[row]), ())
        ]
        now = self.results.values[row]
        return any(same_values(self._block(sequence).values[at], now) for sequence, at in void)

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
        raise ResultsError(
            f"{len(names)} perturbation(s) were never asked for: {some_of(names, _MOST_SHOWN)}."
            " Allow extra experiments if they are meant (allow_extra, --allow-extra)"
        )

    def _refuse_other_values(self, row: int, earlier: Measurement) -> None:
        pairs = zip(self._values(earlier), self.results.values[row], strict=True)
        told, now = next(each for each in pairs if not same_values(*each))
        raise ResultsError(
            f"line {self.results.lines[row]}: {self.results.labels[row]!r}, replicate"
            f" {self.results.replicates[row]!r} was told before as {_shown(told)}, now as {_shown(now)} (event"
            f" {earlier.sequence}), and results are never overwritten; if it is another well, give it another name"
            " in a column 'replicate'; if the first value was wrong, replace it by `campaign correct`"
        )

    def _refuse_ambiguous(self, row: int) -> None:
        raise ResultsError(
            f"line {self.results.lines[row]}: {self.results.labels[row]!r} has failed before, and is open again;"
            " say which of the two it is in a column 'round'"
        )

    def _values(self, measurement: Measurement) -> np.ndarray:
        row: np.ndarray = self._block(measurement.sequence).values[measurement.row]
        return row

    def _block(self, sequence: int) -> Block:
        if sequence not in self._blocks:
            self._blocks[sequence] = Block.from_bytes(self.log.block(sequence))
        return self._blocks[sequence]


def same_values(told: np.ndarray | float, now: np.ndarray | float) -> bool:
    """Whether numbers are equal but for the last digits, which differ where a file writes them as text."""
    alike = np.shape(told) == np.shape(now)  # a damaged log may hold a well of another width
    return alike and bool(np.isclose(told, now, rtol=_ROUNDING, atol=0.0, equal_nan=True).all())


def _shown(value: float) -> str:
    return "failed or not measured" if np.isnan(value) else f"{value:.6g}"


def refuse_extreme(results: Results, rows: Sequence[int], assay: AssayRange, *, accepted: bool) -> bool:
    """Refuse values that no assay gives, unless they were accepted as they are; say whether there are any."""
    at, taken = np.array(rows, dtype=np.int64), results.values[list(rows)]
    found = np.argwhere(assay.beyond(taken))
    if not len(found) or accepted:
        return bool(len(found))
    row, column = found[0].tolist()
    line, value = int(at[row]), taken[row, column]
    more = f" (and {len(found) - 1} more values)" if len(found) > 1 else ""
    raise ResultsError(
        f"line {results.lines[line]}: {results.labels[line]!r}, column {results.readouts[column]!r}: {value:.6g}"
        f" is more than {DECADES:,.0f} times the range of the starting screen{more}, which no assay gives; correct"
        " it, write 'failed' into a column 'status', or take it as it is (accept_extreme=True, --accept-extreme)"
    )


@dataclass(frozen=True)
class Telling:
    """What became of a table of results."""

    measured: tuple[str, ...] = ()  # perturbations that have values now and had none before
    failed: tuple[str, ...] = ()  # perturbations that failed
    extra: tuple[str, ...] = ()  # those of both that nobody had asked for
    wells: int = 0  # how many wells were new
    already: int = 0  # how many wells had been recorded before, and were left alone
    retracted: int = 0  # how many wells were recorded before, taken back, and were left out
    partial: int = 0  # how many of the new wells lack some readouts
    pending: int = 0  # how many wells are still to come
    controls: int = 0  # how many control wells were left out
    # Values that are out of scale, and controls that drift, in words; all were taken all the same.
    flagged: tuple[str, ...] = ()
    sequence: int | None = None  # number of the event, ``None`` if there was nothing new

    @property
    def words(self) -> str:
        """What became of it, in one sentence."""
        left_out = [f"{self.pending} wells pending"] if self.pending else []
        left_out += [f"{self.controls} control wells left out"] if self.controls else []
        if self.retracted:
            left_out.append(f"{self.retracted} wells left out that were taken back before")
        if self.sequence is None and not self.already:
            new = "new " if self.retracted else ""
            return ", ".join([f"no well of an experiment has a {new}result, nothing has changed", *left_out])
        if self.sequence is None:
            return ", ".join([f"already told: {self.already} wells were known, nothing has changed", *left_out])
        more = [f"{len(self.extra)} not asked for"] if self.extra else []
        more += [f"{self.already} wells already told"] if self.already else []
        more += [f"{self.partial} wells lack some readouts and count for those they have"] if self.partial else []
        counts = f"{amount(len(self.measured), 'experiment')} measured, {len(self.failed)} failed"
        return ", ".join([f"{self.wells} wells told", counts, *more, *left_out])


def tell(
    log: WritableLog,
    results: Results,
    *,
    scale: Scale,
    assay: AssayRange,
    allow_extra: bool,
    accept_extreme: bool,
    actor: str,
) -> Telling:
    """Record results."""
    controls = results.controls
    drift = tuple(Remark(-1, words) for words in controls.drift)
    left_out = Telling(pending=results.pending, controls=controls.wells, flagged=controls.drift)
    before = log.told(results.digest)
    if before is not None and not _changed_since(log, before.sequence):
        return replace(left_out, already=len(results))
    matching = Matching(results, log, allow_extra=allow_extra).run()
    left_out = replace(left_out, already=matching.already, retracted=matching.retracted)
    if not matching.rows:
        return left_out
    extreme = refuse_extreme(results, matching.rows, assay, accepted=accept_extreme)
    block = matching.block()
    _order(log, matching, block, actor)
    measured, failed = _first_results(matching, block)
    remarks = (*scale.odd(block.values, block.failed, block.label), *drift)
    extra = tuple(matching.extra)
    event = Told(
        measured=len(measured),
        failed=len(failed),
        extra=len(extra),
        values=int((~block.failed).sum()),
        flagged=tuple(each.words for each in remarks),
        rows=tuple(each.row for each in remarks),
        extreme=extreme,
    )
    digest = None if before is not None else results.digest
    return replace(
        left_out,
        measured=measured,
        failed=failed,
        extra=extra,
        wells=len(matching.rows),
        partial=int((np.isnan(block.values).any(1) & ~block.failed).sum()),
        flagged=event.flagged,
        sequence=log.append(event, actor=actor, artefact=block.to_bytes(), digest=digest),
    )


def _changed_since(log: Log, sequence: int) -> bool:
    """Say whether results were taken back or replaced after an event."""
    newest = [log.newest("retracted"), log.newest("corrected")]
    return any(one is not None and one.sequence > sequence for one in newest)


def _order(log: WritableLog, matching: Matching, block: Block, actor: str) -> None:
    """Note that proposed experiments with results must have gone to the bench."""
    states, told = matching.states, dict.fromkeys(block.number.tolist())
    proposed = tuple(number for number in told if states.get(number) == "proposed")
    if proposed:
        log.append(Ordered(proposed), actor=actor)


def _first_results(matching: Matching, block: Block) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the experiments that get their first values, and those of which every well failed."""
    states = matching.states
    labels = dict(zip(block.number.tolist(), block.label, strict=True))
    worked = dict.fromkeys(block.number[~block.failed].tolist())
    fresh = [number for number in labels if states.get(number) != "measured"]
    measured = tuple(labels[number] for number in fresh if number in worked)
    return measured, tuple(labels[number] for number in fresh if number not in worked)


def order(log: WritableLog, labels: Sequence[str] | None, *, actor: str) -> tuple[str, ...]:
    """Note that proposed experiments go to the bench."""
    chosen = log.experiments(states=("proposed",)) if labels is None else _newest(log, labels, "ordered")
    if chosen:
        log.append(Ordered(tuple(one.number for one in chosen)), actor=actor)
    return tuple(one.perturbation for one in chosen)


def withdraw(log: WritableLog, labels: Sequence[str], *, reason: str, actor: str) -> tuple[str, ...]:
    """Note that experiments will not be done."""
    chosen = _newest(log, labels, "withdrawn")
    if chosen:
        log.append(Withdrawn(tuple(one.number for one in chosen), reason), actor=actor)
    return tuple(one.perturbation for one in chosen)


def _newest(log: Log, labels: Sequence[str], end: State) -> list[Experiment]:
    """Find the newest experiment of each perturbation, and hold it against the moves that exist."""
    newest = {one.perturbation: one for one in log.experiments(perturbations=labels)}
    for label in labels:
        if label not in newest:
            raise DataError(f"{label!r} was never asked for, so that it cannot be {end}")
        require_move(label, newest[label].state, end)
    return [newest[label] for label in labels]
