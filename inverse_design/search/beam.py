"""Beam search with exchanges of single members: good sets of any order under any score, without a proof."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.counting import LARGEST_INT64
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError

_WIDEST = 1 << 16

_Sets = NDArray[np.int64]  # positions, one ascending set per row


def search_beam(
    space: CombinationSpace,
    score: Callable[[PerturbationBatch], Float[Tensor, "b"]],
    k: int,
    order: int,
    *,
    width: int = 64,
    block: int = 65536,
    progress: Progress | None = None,
) -> SearchResult:
    """Find good valid sets of one order, where no bound on the score is known.

    The best ``width`` sets of each order are extended by every entry, from single entries up to the order that is
    asked for. Then each of the best ``width`` valid sets has each member exchanged for every other entry, until
    no exchange brings a new set among them. No set of that order is scored twice, ties go to the smaller number,
    and nothing is drawn at random: the same question has the same answer.
    """
    began = time.perf_counter()
    first, stop = space.span(order)
    if space.size > LARGEST_INT64:
        raise SpaceError(f"the numbers of {space.size} combinations do not fit 64 bits; allow fewer entries")
    if width < 1 or block < 1:
        raise DataError(f"a beam of width {width} in blocks of {block} holds nothing; both must be positive")
    beam = _Beam(space, score, order, width, block)
    pool = _Pool(TopK.empty(max(k, width) if k > 0 else k), np.empty(0, dtype=np.int64), 0)
    # All that a narrow beam meets may be invalid; how many there are may be known as an upper bound only.
    while not len(pool.top) and space.count_valid_of(order) and beam.width <= max(_WIDEST, width):
        pool = pool.met(beam.descended(), beam)
        beam = _Beam(space, score, order, 2 * beam.width, block)
    explored = np.empty(0, dtype=np.int64)
    while True:
        frontier = np.setdiff1d(pool.top.index[:width].numpy(), explored)
        if not len(frontier):
            break
        explored = np.concatenate([explored, frontier])
        pool = pool.met(_exchanged(space, beam.spelled(frontier)), beam)
        if progress is not None:
            progress(len(pool.seen), stop - first)
    certificate = Certificate(
        scanned=len(pool.seen) + pool.masked,
        masked=pool.masked,
        rescored=0,
        error=0.0,
        seconds=time.perf_counter() - began,
        exact=False,
        bound="none",
        gap=math.inf,
    )
    return SearchResult(TopK.empty(k).merge(TopK(k, pool.top.index[:k], pool.top.score[:k])), certificate)


@dataclass(frozen=True)
class _Beam:
    """How sets grow: the space, the score, the order to reach, and how many sets are kept on the way."""

    space: CombinationSpace
    score: Callable[[PerturbationBatch], Float[Tensor, "b"]]
    order: int
    width: int
    block: int

    def descended(self) -> _Sets:
        """Grow sets from none to the order, the best at each order; the last ones are not scored yet."""
        sets = np.empty((1, 0), dtype=np.int64)
        for size in range(1, self.order + 1):
            sets = _completable(self.space, _extended(self.space, sets), self.order)
            if size < self.order:
                kept = max(self.width, self.block // max(1, len(self.space.entries))) if size == 1 else self.width
                best = torch.argsort(self.scored(self.batch(sets)), descending=True, stable=True)[:kept]
                sets = sets[best.numpy()]
        return sets

    def batch(self, sets: _Sets) -> PerturbationBatch:
        return self.space.vocabulary.dosed(self.space.entries[torch.from_numpy(sets)])

    def spelled(self, numbers: NDArray[np.int64]) -> _Sets:
        genes = self.space.take(torch.from_numpy(numbers)).genes[:, : self.order]
        return np.searchsorted(self.space.entries.numpy(), genes.numpy())

    def scored(self, batch: PerturbationBatch) -> Float64[Tensor, "b"]:
        parts = [torch.empty(0, dtype=torch.float64)]
        for at in range(0, len(batch), self.block):
            part = batch.rows(slice(at, at + self.block))
            parts.append(self.score(part).to(torch.float64))
            if bool(parts[-1].isnan().any()):
                worst = self.space.vocabulary.perturbation(part.genes[int(parts[-1].isnan().int().argmax())])
                raise DataError(f"the score of {str(worst)!r} is NaN; give every set a number")
        return torch.cat(parts)


@dataclass(frozen=True)
class _Pool:
    """The best sets so far, the numbers of all that were scored, and how many could not be proposed."""

    top: TopK
    seen: NDArray[np.int64]
    masked: int

    def met(self, sets: _Sets, beam: _Beam) -> "_Pool":
        """Score the valid sets that are new."""
        batch = beam.batch(sets)
        valid = torch.nonzero(beam.space.valid(batch)).flatten()
        batch = batch.rows(valid)
        numbers = beam.space.indices(batch)
        new = torch.nonzero(torch.from_numpy(~np.isin(numbers.numpy(), self.seen))).flatten()
        top = self.top.offer(numbers[new], beam.scored(batch.rows(new)))
        seen = np.concatenate([self.seen, numbers[new].numpy()])
        return _Pool(top, seen, self.masked + len(sets) - len(valid))


def _extended(space: CombinationSpace, sets: _Sets) -> _Sets:
    """Add each entry of another target to each set, and drop what comes twice; in lexicographic order."""
    names = [space.vocabulary.targets[one] for one in space.entries.tolist()]
    targets = np.unique(np.array(names), return_inverse=True)[1]
    added = np.tile(np.arange(len(targets)), len(sets))
    bases = np.repeat(sets, len(targets), axis=0)
    distinct = (targets[bases] != targets[added][:, None]).all(axis=1)
    grown = np.sort(np.column_stack([bases, added])[distinct], axis=1)
    return np.unique(grown, axis=0)


def _exchanged(space: CombinationSpace, sets: _Sets) -> _Sets:
    """Exchange each member of each set for each entry."""
    bases = np.concatenate([np.delete(sets, at, axis=1) for at in range(sets.shape[1])])
    return _extended(space, np.unique(bases, axis=0))


def _completable(space: CombinationSpace, sets: _Sets, order: int) -> _Sets:
    """Drop sets that cannot become candidates any more: of what they lack, what they hold, or what they cost."""
    genes = space.entries[torch.from_numpy(sets)]
    kept: _Sets = sets[space.rules.completable(genes, order - sets.shape[1]).numpy()]
    return kept
