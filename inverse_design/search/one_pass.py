"""One pass over all pairs under one score: the best of them, and the sum of the exponentials of all.

Pairs of many readouts are first bounded from above along few directions, and those that matter are scored as a
whole: what a tile leaves out adds less than its share of :data:`LEFT_OUT` to the sum, and is not among the best.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.problem.score import LikelihoodScore, PairScore, PooledScore, ProductScore
from inverse_design.problem.set_rules import PairMask
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.pruning import COSTLY, BlockPruner, Tile
from inverse_design.search.scan import pipelined, spelled, tiles_of
from inverse_design.search.topk import Progress

LEFT_OUT = 1e-6  # share of a sum that may be left out of it
_CHUNK = 128  # cells that share one bound on what they add
_SLACK = 4096  # candidates that are kept beyond twice the answer
MOST = 2**16  # candidates of which lists are made, however many are near the best
_IN_CACHE = 1 << 16  # cells that are bounded together
_STARTS, _STEPS = 16, 3  # entries that good pairs are looked for from, and how often the partner is changed
_SPARSE = 64  # a tile with less than one valid pair in so many is scored pair by pair


class _Known(NamedTuple):
    """What a tile need not look for any more."""

    near: float = -math.inf  # scores below it are not among the best
    log_sum: float = -math.inf  # of what is summed so far


class _Looked(NamedTuple):
    """What a tile holds."""

    positions: Int64[Tensor, "m 2"]  # pairs that may be among the best
    scores: Float64[Tensor, "m"]
    log_sum: float
    reached: int  # how many scores are at least as large as the cut
    pruned: int  # how many pairs were not scored


@dataclass(frozen=True)
class PairPass:
    """What a pass over all pairs found under one score.

    Attributes:
        positions: Every pair with a score of at least ``floor``.
    """

    positions: Int64[Tensor, "m 2"]
    scores: Float64[Tensor, "m"]  # of these pairs, in double precision
    floor: float
    log_sum: float  # logarithm of the sum of the exponentials of all scores
    reached: int  # how many scores are at least as large as the cut that was asked for
    pruned: int  # how many pairs were not scored, as a bound keeps them from mattering


def pass_over_pairs(
    score: PairScore,
    k: int,
    *,
    space: CombinationSpace,
    margin: float = 0.0,
    cut: float = math.inf,
    progress: Progress | None = None,
) -> PairPass:
    """Find the valid pairs that are at most a margin worse than the ``k``-th best, and sum over all."""
    valid, share = _ValidPairs.of(space), LEFT_OUT / max(1, math.comb(score.size, 2))
    margin += 2 * score.error
    found = Best(k, margin)
    first = known = _first_known(score, found, valid)
    log_sums, reached, pruned = [-math.inf], 0, 0
    tiles, total = list(tiles_of(0, score.size, score.size, BlockPruner(score))), math.comb(score.size, 2)

    def tasks() -> Iterator[Callable[[], _Looked]]:
        for tile in tiles:
            yield partial(_look, score, tile, known, valid, best=found, cut=cut, share=share)

    for tile, looked in zip(tiles, pipelined(tasks()), strict=True):
        found = found.with_further(looked.positions @ torch.tensor([score.size, 1]), looked.scores)
        log_sums.append(looked.log_sum)
        log_sums = [log_of_sum(log_sums)]
        known = _Known(max(first.near, found.floor), max(first.log_sum, log_sums[0]))
        reached, pruned = reached + looked.reached, pruned + looked.pruned
        if progress is not None and tile.columns[1] == score.size:
            progress(total - math.comb(score.size - tile.stop, 2), total)
    found = found.trimmed
    positions = torch.stack([found.numbers // score.size, found.numbers % score.size], dim=1)
    return PairPass(positions, found.scores, found.floor, log_sums[0], reached, pruned)


def log_of_sum(values: Sequence[float]) -> float:
    """Add up numbers that are given by their logarithms."""
    return float(torch.tensor(values, dtype=torch.float64).logsumexp(0))


@dataclass(frozen=True)
class Best:
    """Candidates near the best so far: all that are at most a margin worse than the ``k``-th best, and others.

    Of more than :data:`MOST` only so many are kept: the floor says which.
    """

    k: int
    margin: float
    numbers: Int64[Tensor, "m"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    scores: Float64[Tensor, "m"] = field(default_factory=lambda: torch.empty(0, dtype=torch.float64))
    floor: float = -math.inf  # what a candidate near the best has at least

    def near(self, scores: Float64[Tensor, "m"]) -> float:
        """Say how good a score has to be to be near the best of some."""
        if not 0 < self.k <= len(scores):
            return -math.inf if self.k else math.inf
        return float(scores.kthvalue(len(scores) - self.k + 1).values) - self.margin

    def with_further(self, numbers: Int64[Tensor, "m"], scores: Float64[Tensor, "m"]) -> "Best":
        """Add candidates; of many, those that are far from the best are dropped."""
        near = scores >= self.floor
        numbers, scores = torch.cat([self.numbers, numbers[near]]), torch.cat([self.scores, scores[near]])
        found = replace(self, numbers=numbers, scores=scores, floor=max(self.floor, self.near(scores)))
        found = found.trimmed if len(scores) > 2 * self.k + _SLACK else found
        most = max(self.k, MOST)
        if len(found.scores) <= most:
            return found
        last = float(found.scores.kthvalue(len(found.scores) - most + 1).values)
        return replace(found, floor=max(found.floor, last)).trimmed

    @property
    def trimmed(self) -> "Best":
        """The same without candidates that are far from the best."""
        near = self.scores >= self.floor
        return replace(self, numbers=self.numbers[near], scores=self.scores[near])


@dataclass(frozen=True)
class _ValidPairs:
    """Which pairs of positions may be proposed."""

    space: CombinationSpace
    mask: PairMask
    left_out: NDArray[np.int64]  # measured pairs, as numbers ``i * size + j``, in order

    @classmethod
    def of(cls, space: CombinationSpace) -> "_ValidPairs":
        row, column = space.left_out_of(2).numpy().T
        return cls(space, PairMask(space.rules), np.sort(row * len(space.entries) + column))

    def few(self, tile: Tile) -> Int64[Tensor, "m 2"] | None:
        """List the pairs of a tile that the rules allow, if those are few; ``None`` if they are many."""
        allowed = self.mask.tile(slice(tile.start, tile.stop), slice(*tile.columns))
        if allowed is None or np.count_nonzero(allowed) * _SPARSE > allowed.size:
            return None
        row, column = np.nonzero(allowed)
        return self.among(row + tile.start, column + tile.columns[0])

    def among(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> Int64[Tensor, "m 2"]:
        """Take the valid pairs of some cells."""
        upper = row < column
        positions = torch.from_numpy(np.column_stack([row[upper], column[upper]]))
        return positions[self.space.valid(spelled(positions, self.space))]

    def refused(self, tile: Tile) -> Bool[Tensor, "_ _"] | None:
        """Tell which cells of a tile are no valid pairs; ``None`` if all are valid."""
        rows, columns = np.arange(tile.start, tile.stop), np.arange(*tile.columns)
        allowed = self.mask.whole_tile(slice(tile.start, tile.stop), slice(*tile.columns))
        refused = np.zeros(tile.shape, dtype=bool) if allowed is None else ~allowed
        if tile.columns[0] < tile.stop:
            refused |= rows[:, None] >= columns
        size = len(self.space.entries)
        here = self.left_out[slice(*np.searchsorted(self.left_out, np.array([tile.start, tile.stop]) * size))]
        row, column = np.divmod(here, size)
        inside = (column >= tile.columns[0]) & (column < tile.columns[1])
        refused[row[inside] - tile.start, column[inside] - tile.columns[0]] = True
        return torch.from_numpy(refused) if refused.any() else None


def _look(
    score: PairScore, tile: Tile, known: _Known, valid: _ValidPairs, *, best: Best, cut: float, share: float
) -> _Looked:
    """Sum over the valid pairs of a tile, and find those that may be among the best."""
    few, bounded = valid.few(tile), False
    if few is None and isinstance(score, LikelihoodScore | PooledScore):
        cells = _mattering(score, tile, known, cut=cut, share=share)
        few, bounded = None if cells is None else valid.among(*cells), True
    if few is not None:
        scores = score.exact(*few.unbind(1))
        reached = int((scores >= cut).sum())
        return _Looked(few, scores, float(scores.logsumexp(0)), reached, tile.pairs - len(few) if bounded else 0)
    one, other = slice(tile.start, tile.stop), slice(*tile.columns)
    if isinstance(score, ProductScore | LikelihoodScore | PooledScore):
        whole = score.double_block(one, other)
    else:
        whole = score.block(*tile).double()
    refused = valid.refused(tile)
    if refused is not None:
        whole = torch.where(refused, -torch.inf, whole)
    flat = whole.flatten()
    near = max(known.near, best.near(flat))
    at = torch.nonzero((flat >= near) & (flat > -torch.inf)).flatten()
    positions = torch.stack([at // len(whole[0]) + tile.start, at % len(whole[0]) + tile.columns[0]], dim=1)
    scores = score.exact(*positions.unbind(1))
    return _Looked(positions, scores, float(flat.logsumexp(0)), int((flat >= cut).sum()), 0)


def _mattering(
    score: LikelihoodScore | PooledScore, tile: Tile, known: _Known, *, cut: float, share: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Find the cells of a tile that have to be scored by bounds on all; ``None`` if those are many.

    What is left out of the sum is bounded chunk by chunk first, and cell by cell in chunks that are looked into.
    """
    if score.upper is None:
        return None
    cells, width = math.prod(tile.shape), tile.shape[1]
    padded = np.full(-(-cells // _CHUNK) * _CHUNK, -np.inf, dtype=np.float32)
    step = max(1, _IN_CACHE // width)
    for row in range(tile.start, tile.stop, step):
        part = slice(row, min(tile.stop, row + step))
        block = score.upper.double_block(part, slice(*tile.columns)).float()
        padded[(part.start - tile.start) * width : (part.stop - tile.start) * width] = block.flatten().numpy()
    chunks = padded.reshape(-1, _CHUNK)
    largest = chunks.max(axis=1)
    if known.log_sum == -math.inf:
        return None
    budget = math.log(share * tile.pairs / 2) + known.log_sum - 2 * score.error
    needed = min(known.near, cut) - 2 * score.error
    hot = np.flatnonzero(largest >= min(needed, _depth(largest, budget - math.log(_CHUNK))))
    if len(hot) * 2 > len(largest):
        return None
    inside = chunks[hot].reshape(-1)
    at = np.flatnonzero(inside >= min(needed, _depth(inside, budget)))
    return None if len(at) * COSTLY > cells else _cells(hot[at // _CHUNK] * _CHUNK + at % _CHUNK, tile)


def _first_known(score: PairScore, best: Best, valid: _ValidPairs) -> _Known:
    """Learn how good others have to be from pairs of large bounds, found by going from entry to best partner."""
    upper = score.upper if isinstance(score, LikelihoodScore | PooledScore) else None
    if upper is None or score.size < _STARTS:
        return _Known()
    rows: dict[int, NDArray[np.float32]] = {}
    for start in range(0, score.size, -(-score.size // _STARTS)):
        at = start
        for _ in range(_STEPS):
            if at not in rows:
                rows[at] = upper.double_block(slice(at, at + 1), slice(0, score.size))[0].float().numpy()
                rows[at][at] = -np.inf
            at = int(rows[at].argmax())
    bounds, entries = np.stack([*rows.values()]), np.array([*rows])
    most = min(bounds.size, 2 * max(best.k, _CHUNK))
    first, second = np.divmod(np.argpartition(-bounds, most - 1, axis=None)[:most], score.size)
    cells = np.sort(np.column_stack([entries[first], second]), axis=1)
    pairs = valid.among(*np.unique(cells, axis=0).T)
    scores = score.exact(*pairs.unbind(1))
    return _Known(best.near(scores), float(scores.logsumexp(0)))


def _cells(at: NDArray[np.int64], tile: Tile) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    row, column = np.divmod(at, tile.shape[1])
    return row + tile.start, column + tile.columns[0]


def _depth(bounds: NDArray[np.float32], budget: float) -> float:
    """Find how low a bound may be so that all below it together add no more than a budget, in logarithms."""
    ascending = np.sort(bounds).astype(np.float64)
    with np.errstate(over="ignore"):
        within = np.cumsum(np.exp(ascending - budget)) <= 1.0
    few = int(within.sum())
    return float(ascending[few]) if few < len(ascending) else math.inf
