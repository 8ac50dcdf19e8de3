"""Exact search over all pairs by blocked matrix products."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError

_ROWS = 768  # with 10,000 columns a block takes 30 MB; smaller ones wait more for each other's threads
_CHUNK = 64  # cells that share one maximum
_SLACK = 4096  # pairs that a short-list may hold beyond twice the answer


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
    score: PairScore, k: int, *, space: CombinationSpace, progress: Progress | None = None
) -> SearchResult:
    """Find the ``k`` best valid pairs of a space, exactly.

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
        progress: Called after each block with the pairs done and the pairs in all.

    Returns:
        The best pairs, fewer than ``k`` if the space has fewer, and the certificate.

    Raises:
        SpaceError: If the space has no pairs, or its entries are not those of the score.
        DataError: If a score is NaN or ``k`` is not positive.
    """
    began = time.perf_counter()
    first, stop = space.span(2)
    if score.size != len(space.entries):
        raise SpaceError(f"scores of {score.size} entries do not fit a space of {len(space.entries)}")
    top, error, rescored, start = TopK.empty(k), score.error, 0, 0
    near = _Shortlist.empty(-torch.inf)
    while start < score.size:
        end = min(score.size, start + min(_ROWS, max(2, start)))  # small blocks while the cut is low
        near = near.extended(*_reaching(score, start, end, near.cut))
        if len(near) > 2 * k + _SLACK:
            near = near.compacted(k, error, space)
        if len(near) > 2 * k + _SLACK:  # many near-ties: settle them now
            top, rescored = _settled(top, near, score, space), rescored + len(near)
            near = _Shortlist.empty(max(near.cut, top.threshold - error))
        start = end
        if progress is not None:
            progress(stop - first - math.comb(score.size - start, 2), stop - first)
    near = near.compacted(k, error, space)
    return SearchResult(
        _settled(top, near, score, space),
        Certificate(
            scanned=stop - first,
            masked=stop - first - space.count_valid_of(2),
            rescored=rescored + len(near),
            error=error,
            seconds=time.perf_counter() - began,
        ),
    )


def _reaching(
    score: PairScore, start: int, stop: int, cut: float
) -> tuple[Int64[Tensor, "m 2"], Float32[Tensor, "m"]]:
    """Positions and quick scores of the pairs of some rows that reach the cut.

    Chunks of cells are first reduced to their maximum: one pass in cache over what the product just wrote. The
    little that remains is sifted by NumPy, in one thread: on a busy machine threads cost more than they bring.
    """
    block = score.block(start, stop)
    columns = block.shape[1]
    cells = block.flatten()
    whole = len(cells) // _CHUNK * _CHUNK
    chunks = cells[:whole].view(-1, _CHUNK)
    peaks, tail = chunks.amax(1).numpy(), cells[whole:].numpy()
    if np.isnan(peaks).any() or np.isnan(tail).any():
        raise DataError(f"a pair score in rows {start} to {stop} is NaN")
    hot = np.flatnonzero(peaks >= cut)
    chunk, place = np.divmod(np.flatnonzero(chunks.numpy()[hot] >= cut), _CHUNK)
    at = np.concatenate([hot[chunk] * _CHUNK + place, np.flatnonzero(tail >= cut) + whole])
    row, column = np.divmod(at, columns)
    upper = row < column
    positions = np.stack([row[upper], column[upper]], axis=1) + start
    return torch.from_numpy(positions), torch.from_numpy(cells.numpy()[at[upper]])


def _spelled(positions: Int64[Tensor, "m 2"], space: CombinationSpace) -> PerturbationBatch:
    return space.vocabulary.dosed(space.entries[positions])


def _settled(top: TopK, near: _Shortlist, score: PairScore, space: CombinationSpace) -> TopK:
    """Rank the valid pairs of a short-list by their double-precision scores."""
    batch = _spelled(near.positions, space)
    valid = space.valid(batch)
    first, second = near.positions[valid].unbind(1)
    return top.offer(space.indices(batch)[valid], score.exact(first, second))
