"""Exact search over all pairs on a device: large tiles, and the best kept there until the last one is done."""

import math
import time
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.score import PairScore
from inverse_design.problem.set_rules import PairMask
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.device.shortlist import DeviceShortlist
from inverse_design.search.device.tiles import DeviceTiles, cells_on, single_precision
from inverse_design.search.one_pass import PairPass, pass_over_pairs
from inverse_design.search.pruning import Tile
from inverse_design.search.scan import search_pairs, spelled
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK

_RUN = 64  # cells that share one maximum
_ROW_BLOCKS = 4  # at least, so that little is multiplied below the diagonal


def search_pairs_on(
    tiles: DeviceTiles,
    score: PairScore,
    k: int,
    *,
    space: CombinationSpace,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the ``k`` best valid pairs of a space, as :func:`~inverse_design.search.scan.search_pairs` does.

    A device makes the quick scores, which choose the pairs that ``score`` ranks in double precision here: the
    answer is that of the processors bit for bit. It is not waited for before the last tile. What cannot be proven
    by what it kept, as where very many pairs tie or fewer than ``k`` are valid, is searched by the processors.
    """
    began = time.perf_counter()
    space.span(2)  # refuses a space without pairs
    if tiles.size != len(space.entries):
        raise SpaceError(f"scores of {tiles.size} entries do not fit a space of {len(space.entries)}")
    near = DeviceShortlist.empty(k, tiles.device, tiles.dtype)
    with single_precision():
        for first, cells in _runs(tiles, space):
            hot, near = near.best_runs(cells.amax(1))
            near = near.merged(cells[hot], first[hot])
    found = near.near(k, 2 * tiles.error, space, 2)
    if found is None:
        return search_pairs(score, k, space=space, progress=progress)
    index = space.indices(spelled(found.positions, space))
    top = TopK.empty(k).offer(index, score.exact(*found.positions.unbind(1)))
    total = math.comb(tiles.size, 2)
    if progress is not None:
        progress(total, total)
    masked = total - space.count_valid_of(2)
    seconds = time.perf_counter() - began
    return SearchResult(top, Certificate(total, masked, len(index), tiles.error, seconds))


def pass_over_pairs_on(
    tiles: DeviceTiles,
    score: PairScore,
    k: int,
    *,
    space: CombinationSpace,
    margin: float = 0.0,
    progress: Progress | None = None,
) -> PairPass:
    """Find the pairs near the ``k``-th best and sum over all, as :func:`.one_pass.pass_over_pairs` does."""
    near = DeviceShortlist.empty(max(1, k), tiles.device, tiles.dtype)
    log_sum = torch.full((), -torch.inf, device=tiles.device, dtype=torch.float64)
    with single_precision():
        for first, cells in _runs(tiles, space):
            log_sum = torch.logaddexp(log_sum, cells.flatten().double().logsumexp(0))
            if k:
                hot, near = near.best_runs(cells.amax(1))
                near = near.merged(cells[hot], first[hot])
    if progress is not None:
        progress(total := math.comb(tiles.size, 2), total)
    if not k:
        none = torch.empty(0, 2, dtype=torch.int64)
        return PairPass(none, score.exact(*none.unbind(1)), math.inf, float(log_sum), 0, 0)
    found = near.near(k, margin + 2 * score.error + 4 * tiles.error, space, 2)
    if found is None:
        return pass_over_pairs(score, k, space=space, margin=margin, progress=progress)
    scores = score.exact(*found.positions.unbind(1))
    return PairPass(found.positions, scores, found.cut + tiles.error, float(log_sum), 0, 0)


def _runs(
    tiles: DeviceTiles, space: CombinationSpace
) -> Iterator[tuple[Int64[Tensor, "n"], Float[Tensor, "n c"]]]:
    """Score the valid pairs above the diagonal tile by tile, in runs of cells of a row; others are -infinity."""
    size, device, cells = tiles.size, tiles.device, cells_on(tiles)
    mask, measured = PairMask(space.rules), space.left_out_of(2)
    at = torch.searchsorted(measured[:, 0].contiguous(), torch.arange(size + 1)).tolist()
    start = 0
    while start < size:
        stop = min(size, start + max(1, min(cells // (size - start), -(-size // _ROW_BLOCKS))))
        rows, columns = stop - start, size - start
        runs = -(-columns // _RUN)
        out = torch.empty(rows, runs * _RUN, device=device, dtype=tiles.dtype)
        tile = Tile(start, stop, (start, size))
        tiles.into(out[:, :columns], tile)
        out[:, columns:] = -torch.inf
        out[:, :rows].masked_fill_(torch.ones(rows, rows, dtype=torch.bool, device=device).tril_(), -torch.inf)
        allowed = mask.whole_tile(slice(start, stop), slice(start, size))
        if allowed is not None:
            out[:, :columns].masked_fill_(torch.from_numpy(~allowed).to(device), -torch.inf)
        here = (measured[at[start] : at[stop]] - start).to(device)
        out[here[:, 0], here[:, 1]] = -torch.inf
        first = torch.arange(start, stop, device=device)[:, None] * size + start
        yield (first + torch.arange(0, runs * _RUN, _RUN, device=device)).flatten(), out.view(-1, _RUN)
        start = stop
