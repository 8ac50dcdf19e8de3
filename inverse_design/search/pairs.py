"""Exact search over all pairs by blocked matrix products."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError

_ROWS, _COLUMNS = 512, 2048  # a tile of 4 MB stays in the cache between the product and the pass over it
_DEEP = 256  # of factors with more columns than this the product takes all the time, and is fastest in whole rows
_CHUNK = 64  # cells that share one maximum
_SLACK = 4096  # pairs that a short-list may hold beyond twice the answer


class _Tile(NamedTuple):
    """Some rows and columns of the square of all pairs."""

    start: int
    stop: int
    columns: tuple[int, int]


@dataclass(frozen=True)
class _Shortlist:
    """Pairs whose quick score came near the best so far, and the score that further ones must reach.

    Attributes:
        positions: Of both entries.
        quick: Single-precision scores.
        cut: Never above the quick score of a pair of the answer.
    """

    positions: Int64[Tensor, "m 2"]
    quick: Float32[Tensor, "m"]
    cut: float

    @classmethod
    def empty(cls, cut: float) -> "_Shortlist":
        return cls(torch.empty(0, 2, dtype=torch.int64), torch.empty(0), cut)

    def __len__(self) -> int:
        return len(self.quick)

    def extended(self, positions: Int64[Tensor, "n 2"], quick: Float32[Tensor, "n"]) -> "_Shortlist":
        return _Shortlist(torch.cat([self.positions, positions]), torch.cat([self.quick, quick]), self.cut)

    def compacted(self, k: int, error: float, space: CombinationSpace) -> "_Shortlist":
        """Raise the cut by the k-th best valid pair, and drop what falls below it."""
        best = self.quick.topk(min(len(self), 2 * k + _SLACK)).indices
        valid = self.quick[best[space.valid(_spelled(self.positions[best], space))]]
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
    the answer: then all of those are scored again, block by block.

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
    top, error, rescored = TopK.empty(k), score.error, 0
    near = _Shortlist.empty(-torch.inf)
    total = math.comb(score.size - begin, 2) - math.comb(score.size - finish, 2)
    deep = isinstance(score, ProductScore) and score.left.shape[1] > _DEEP
    for tile in _tiles(begin, finish, score.size, width=score.size if deep else _COLUMNS):
        near = near.extended(*_reaching(score, tile, near.cut, space))
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
            scanned=total,
            masked=0 if rows else total - space.count_valid_of(2),
            rescored=rescored + len(near),
            error=error,
            seconds=time.perf_counter() - began,
        ),
    )


def _tiles(begin: int, finish: int, size: int, *, width: int) -> Iterator[_Tile]:
    start = begin
    while start < finish:
        end = min(finish, start + min(_ROWS, max(2, start - begin)))  # small while the cut is low
        for column in range(start, size, width):
            yield _Tile(start, end, (column, min(size, column + width)))
        start = end


def _reaching(
    score: PairScore, tile: _Tile, cut: float, space: CombinationSpace
) -> tuple[Int64[Tensor, "m 2"], Float32[Tensor, "m"]]:
    """Positions and quick scores of the pairs of a tile that reach the cut.

    Chunks of cells are first reduced to their maximum: one pass in cache over what the product just wrote. The
    little that remains is sifted by NumPy, in one thread: on a busy machine threads cost more than they bring.
    """
    cells = score.block(*tile).flatten()
    whole = len(cells) // _CHUNK * _CHUNK
    chunks = cells[:whole].view(-1, _CHUNK)
    peaks, tail = chunks.amax(1).numpy(), cells[whole:].numpy()
    if not ((peaks < np.inf).all() and (tail < np.inf).all()):
        raise DataError(_endless(cells, tile, space))
    hot = np.flatnonzero(peaks >= cut)
    chunk, place = np.divmod(np.flatnonzero(chunks.numpy()[hot] >= cut), _CHUNK)
    at = np.concatenate([hot[chunk] * _CHUNK + place, np.flatnonzero(tail >= cut) + whole])
    row, column = np.divmod(at, tile.columns[1] - tile.columns[0])
    row, column = row + tile.start, column + tile.columns[0]
    upper = row < column
    positions = np.stack([row[upper], column[upper]], axis=1)
    return torch.from_numpy(positions), torch.from_numpy(cells.numpy()[at[upper]])


def _endless(cells: Float32[Tensor, "m"], tile: _Tile, space: CombinationSpace) -> str:
    where = int((~(cells < torch.inf)).int().argmax())
    row, column = divmod(where, tile.columns[1] - tile.columns[0])
    pair = torch.tensor([[row + tile.start, column + tile.columns[0]]]).sort(1).values
    label = space.vocabulary.perturbation(_spelled(pair, space).genes[0]).label
    return f"the score of {label} is {float(cells[where])}; scores must be finite or -inf"


def _spelled(positions: Int64[Tensor, "m 2"], space: CombinationSpace) -> PerturbationBatch:
    return space.vocabulary.dosed(space.entries[positions])


def _settled(top: TopK, near: _Shortlist, score: PairScore, space: CombinationSpace) -> TopK:
    """Rank the valid pairs of a short-list by their double-precision scores."""
    batch = _spelled(near.positions, space)
    valid = space.valid(batch)
    first, second = near.positions[valid].unbind(1)
    return top.offer(space.indices(batch)[valid], score.exact(first, second))
