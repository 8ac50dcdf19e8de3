"""Exact search over all pairs by blocked matrix products, in threads whose number does not change the answer."""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.score import LikelihoodScore, PairScore, PooledScore, ProductScore
from inverse_design.problem.set_rules import PairMask
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.pruning import (
    BlockPruner,
    LeadingPruner,
    ProductPruner,
    PrunedScore,
    ScoredPairs,
    Tile,
    TilePruner,
    deep_sifter,
)
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.threads import given_threads

T = TypeVar("T")

# Tasks in flight, hence the most threads: each one knows less of what went before. Beyond, divide the work.
_AHEAD = 8


def pipelined(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Run tasks in as many threads as are given, and yield their results in order.

    A task may be made from the results so far: the iterable is asked for the next one only when that many results
    were yielded as it is asked for with one thread, too. There are never more tasks in flight than were done
    before, so that the first ones, from which a search learns most, are not made blindly.

    Until the last result is taken torch has one thread, here and in each task: small products are not divided any
    further.
    """
    waiting: deque[Future[T]] = deque()
    threads = ThreadPoolExecutor(min(given_threads(), _AHEAD), "scan")
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # also of who asks: idle threads of a divided product would spin on a core
    try:
        done = 0
        for task in tasks:
            waiting.append(threads.submit(task))
            while len(waiting) > min(done, _AHEAD - 1):
                yield waiting.popleft().result()
                done += 1
        while waiting:
            yield waiting.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


_DEEP = 256  # factors with more columns are bounded by few of them first
_SPARSE = 64  # a tile with less than one valid pair in so many is scored pair by pair
_SLACK = 4096  # pairs that a short-list may hold beyond twice the answer
_SEEDED = 1 << 16  # pairs spelled out at a time to find the first valid ones
_FIRST, _GROWTH = 8, 4  # rows of the first tile, and how much taller the next ones may be while the cut is low


@dataclass(frozen=True)
class _Shortlist:
    """Pairs whose quick score came near the best so far, and the score that further ones must reach."""

    positions: Int64[Tensor, "m 2"]  # of both entries
    quick: Float[Tensor, "m"]  # their scores, within the pruner's error
    cut: float  # never above the quick score of a pair of the answer

    @classmethod
    def empty(cls, cut: float) -> "_Shortlist":
        return cls(torch.empty(0, 2, dtype=torch.int64), torch.empty(0), cut)

    def __len__(self) -> int:
        return len(self.quick)

    def extended(self, cells: ScoredPairs) -> "_Shortlist":
        positions = torch.cat([self.positions, cells.positions])
        return _Shortlist(positions, torch.cat([self.quick, cells.quick]), self.cut)

    def compacted(self, k: int, error: float, space: CombinationSpace) -> "_Shortlist":
        """Raise the cut by the k-th best valid pair, and drop what falls below it."""
        best = self.quick.topk(min(len(self), 2 * k + _SLACK)).indices
        valid = self.quick[best[space.valid(spelled(self.positions[best], space))]]
        cut = max(self.cut, float(valid[k - 1]) - 2 * error) if len(valid) >= k else self.cut
        near = self.quick >= cut
        return _Shortlist(self.positions[near], self.quick[near], cut)


def search_pairs(
    score: PairScore,
    k: int,
    *,
    space: CombinationSpace,
    rows: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the ``k`` best valid pairs of a space, or of some of its rows, exactly.

    Single-precision scores only decide which pairs are looked at again. If ``e`` bounds their error and ``c`` is
    the k-th best quick score of the valid pairs seen so far, then ``k`` pairs are worth at least ``c - e``, so
    each pair of the answer has a quick score of at least ``c - 2 e``. All pairs that reach this cut are scored
    again in double precision; these scores rank the answer, and ties go to the smaller number.

    The positions that ``score`` speaks of are places in ``space.entries``; the answer holds numbers of ``space``.
    It takes about the time of half the full product, unless very many pairs tie within ``2 e`` at the edge of
    the answer: then all of those are scored again, block by block. What the rules of the space forbid never enters
    the short-list: tiles without a valid pair are skipped, and where few are valid only those are scored.

    Args:
        score: Scores of all pairs of ``space.entries``.
        k: How many pairs.
        space: What may be proposed; its orders other than two are not searched.
        rows: Position of the first ``i`` of a shard and one past its last; by default all.
        progress: Called after each block with the pairs done and the pairs in all.

    Returns:
        The best pairs, fewer than ``k`` if there are fewer, and the certificate; that of a shard does not count
        what is masked.

    Raises:
        SpaceError: If the space has no pairs, its entries are not those of the score, or the rows are not there.
        DataError: If a score is NaN or infinite (the candidate is named), or ``k`` is not positive.
    """
    began = time.perf_counter()
    space.span(2)  # refuses a space without pairs
    if score.size != len(space.entries):
        raise SpaceError(f"scores of {score.size} entries do not fit a space of {len(space.entries)}")
    begin, finish = rows or (0, score.size)
    if not 0 <= begin <= finish <= score.size:
        raise SpaceError(f"rows {begin} to {finish} are not within {score.size} entries")
    pruner, mask = _sifter(score), PairMask(space.rules)
    bound = pruner.bound
    top, error, rescored, pruned = TopK.empty(k), pruner.error, 0, 0
    near = _Shortlist.empty(-torch.inf)
    if isinstance(score, PrunedScore) and score.floor > -torch.inf:
        top, near = _first_valid(score, k, space, (begin, finish)), _Shortlist.empty(score.floor)
    total = math.comb(score.size - begin, 2) - math.comb(score.size - finish, 2)
    tiles = list(tiles_of(begin, finish, score.size, pruner))
    tasks = (partial(_sifted, pruner, score, tile, near.cut, mask) for tile in tiles)  # of what is known by then
    for tile, cells in zip(tiles, pipelined(tasks), strict=True):
        _refuse_endless(cells, space)
        near, pruned, pruner = near.extended(cells), pruned + cells.pruned, pruner.after(tile, cells)
        if len(near) > 2 * k + _SLACK:
            near = near.compacted(k, error, space)
        if len(near) > 2 * k + _SLACK:  # many near-ties: settle them now
            top, rescored = _settled(top, near, score, space), rescored + len(near)
            near = _Shortlist.empty(max(near.cut, top.threshold - error))
        if progress is not None and tile.columns[1] == score.size:
            progress(total - math.comb(score.size - tile.stop, 2) + math.comb(score.size - finish, 2), total)
    near = near.compacted(k, error, space)
    return SearchResult(
        _settled(top, near, score, space),
        Certificate(
            scanned=total - pruned,
            masked=0 if rows else total - space.count_valid_of(2),
            rescored=rescored + len(near),
            error=error,
            seconds=time.perf_counter() - began,
            pruned=pruned,
            bound=bound if pruned else "",
        ),
    )


def _first_valid(score: PairScore, k: int, space: CombinationSpace, rows: tuple[int, int]) -> TopK:
    """Take the first valid pairs: of those with the lowest score, no others can be in the answer."""
    stop = space.span(2)[1]
    first, last = (stop - math.comb(score.size - row, 2) for row in rows)
    top = TopK.empty(k)
    for at in range(first, last, _SEEDED):
        batch = space.batch(at, min(last, at + _SEEDED))
        some = torch.nonzero(space.valid(batch)).flatten()[: k - len(top)]
        positions = torch.searchsorted(space.entries, batch.genes[some, :2].contiguous())
        top = top.offer(at + some, score.exact(*positions.unbind(1)))
        if len(top) == k:
            break
    return top


def _sifter(score: PairScore) -> TilePruner:
    if isinstance(score, PrunedScore):
        return score.pruner()
    if isinstance(score, LikelihoodScore | PooledScore):
        return LeadingPruner.of_likelihood(score)
    if not isinstance(score, ProductScore):
        return BlockPruner(score)
    deep = score.left.shape[1] > _DEEP
    return deep_sifter(score) if deep else ProductPruner(score)


def tiles_of(begin: int, finish: int, size: int, pruner: TilePruner) -> Iterator[Tile]:
    """Cut the pairs of some first entries into tiles, small ones first: the first ones teach the most."""
    start = begin
    while start < min(finish, size - 1):  # the last entry is the first of no pair
        end = min(finish, start + min(pruner.rows, max(_FIRST, (_GROWTH - 1) * (start - begin))))
        for column in range(start, size, pruner.columns):
            yield Tile(start, end, (column, min(size, column + pruner.columns)))
        start = end


def _sifted(pruner: TilePruner, score: PairScore, tile: Tile, cut: float, mask: PairMask) -> ScoredPairs:
    """Find the pairs of a tile that the rules allow and that may be in the answer."""
    allowed = mask.tile(slice(tile.start, tile.stop), slice(*tile.columns))
    if allowed is None:
        return pruner.sift(tile, cut)
    if np.count_nonzero(allowed) * _SPARSE > allowed.size:
        cells = pruner.sift(tile, cut)
        row, column = cells.positions.numpy().T
        kept = allowed[row - tile.start, column - tile.columns[0]]
        return cells._replace(positions=cells.positions[kept], quick=cells.quick[kept])
    row, column = np.nonzero(allowed)
    row, column = row + tile.start, column + tile.columns[0]
    positions = torch.from_numpy(np.stack([row, column], axis=1)[row < column])
    return ScoredPairs(positions, score.exact(*positions.unbind(1)))


def _refuse_endless(cells: ScoredPairs, space: CombinationSpace) -> None:
    if not len(cells.quick) or float(cells.quick.amax()) < torch.inf:  # a NaN is larger than all
        return
    worst = int((~(cells.quick < torch.inf)).int().argmax())
    label = space.vocabulary.perturbation(spelled(cells.positions[worst : worst + 1], space).genes[0]).label
    raise DataError(f"the score of {label} is {float(cells.quick[worst])}; scores must be finite or -inf")


def spelled(positions: Int64[Tensor, "m 2"], space: CombinationSpace) -> PerturbationBatch:
    """Spell pairs of positions out."""
    return space.vocabulary.dosed(space.entries[positions])


def _settled(top: TopK, near: _Shortlist, score: PairScore, space: CombinationSpace) -> TopK:
    """Rank the valid pairs of a short-list by their double-precision scores."""
    batch = spelled(near.positions, space)
    valid = space.valid(batch)
    first, second = near.positions[valid].unbind(1)
    return top.offer(space.indices(batch)[valid], score.exact(first, second))
