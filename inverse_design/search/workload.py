"""What a search will cost, found out by searching a little."""

import math
import os
import time
from dataclasses import dataclass, replace

from inverse_design.problem.objective import Objective
from inverse_design.problem.ranking import pair_row
from inverse_design.problem.score import PairScore
from inverse_design.problem.set_objective import set_score
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.bounded import search_bounded
from inverse_design.search.exhaustive import listable, search_span
from surrogates.models.calibrated import FittedCalibrated

_TRIED = (1 << 21, 1 << 12)  # candidates by which the rate is measured: by products, and streamed
_TRIED_ENTRIES, _TRIED_TOP = 1024, 100  # entries whose best sets are searched by bounds to measure the rate
_BEAM = 6 * 64  # sets that a beam extends at each order, exchanges among them
_WORKING = 100_000_000  # bytes that a search takes beside the factors
_PAIR_BYTES = 4  # of the matrix of all pairs that bounds are made of


@dataclass(frozen=True)
class Workload:
    """What a search will cost, from a small part of it.

    Attributes:
        candidates: How many combinations.
        summary: The same in words.
        seconds: About how long it takes.
        cores: On how many cores of this machine.
        memory: About how many bytes it takes.
    """

    candidates: int
    summary: str
    seconds: float
    cores: int
    memory: int

    @property
    def line(self) -> str:
        """In words, such as ``49,995,000 pairs, about 3 min on 2 cores, 400 MB``."""
        return (
            f"{self.summary}, about {_duration(self.seconds)} on {self.cores} cores, {self.memory / 1e6:,.0f} MB"
        )


def workload(
    objective: Objective, fitted: FittedCalibrated, space: CombinationSpace, *, score: PairScore | None
) -> Workload:
    """Find out what a search will cost by searching a little of each order.

    Args:
        objective: What candidates are worth.
        fitted: The surrogate.
        space: What may be proposed.
        score: The objective's score of all pairs; ``None`` if they have to be streamed.

    Returns:
        The cost on this machine.
    """
    seconds, memory = 0.0, 24 * len(space.entries) * len(fitted.readouts) + _WORKING
    for order in space.orders:
        sets = set_score(objective, fitted, space, order) if order > 2 else None
        if sets is not None:
            seconds += _seconds_of_bounds(sets, space)
            memory += _PAIR_BYTES * len(space.entries) ** 2
        else:
            quick = score if order == 2 else None
            seconds += _seconds_of_scan(objective, fitted, space, order=order, score=quick)
    summary = replace(space, excluded=space.excluded[:0]).summary
    return Workload(space.size, summary, seconds, cores(), memory)


def _seconds_of_scan(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    *,
    order: int,
    score: PairScore | None,
) -> float:
    """Measure the rate on the first candidates; an order that has no more of them takes no time to speak of."""
    first, stop = space.span(order)
    tried = _first_part(space, order, _TRIED[0] if score is not None else _TRIED[1])
    if tried in (first, stop):
        return 0.0
    began = time.perf_counter()
    search_span(objective, fitted, space, 1, span=(first, tried), score=score)
    rate = (time.perf_counter() - began) / (tried - first)
    scored = stop - first if listable(space, order) else min(stop - first, _BEAM * order * len(space.entries))
    return rate * scored


def _seconds_of_bounds(score: PairwiseSetScore, space: CombinationSpace) -> float:
    """Measure how long the sets of some entries take; the time grows about like the number of pairs."""
    step = len(space.entries) // _TRIED_ENTRIES
    if step < 2:
        return 0.0
    part = replace(score, side=score.side[::step], left=score.left[::step], right=score.right[::step])
    few = replace(space, entries=space.entries[::step].contiguous(), required=(), excluded=space.excluded[:0])
    began = time.perf_counter()
    search_bounded(part, _TRIED_TOP, space=few)
    return (time.perf_counter() - began) * (score.size / part.size) ** 2


def _first_part(space: CombinationSpace, order: int, count: int) -> int:
    """One past the last number of a part to try; of pairs, whole rows."""
    first, stop = space.span(order)
    end = min(stop, first + count)
    if order == 2 and end < stop:
        items = len(space.entries)
        row = max(1, pair_row(items, end - first))
        end = stop - math.comb(items - row, 2)
    return end if end < 2**63 else first


def cores() -> int:
    """Count the cores that this process may use.

    Returns:
        Their number.
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
