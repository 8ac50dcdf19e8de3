"""Exact search over all pairs on a device: large tiles, and the best kept there until the last one is done."""

import math
import time
from collections.abc import Iterator

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.score import PairScore
from inverse_design.problem.set_rules import PairMask
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.device.shortlist import DeviceShortlist
from inverse_design.search.device.tiles import DeviceTiles, cells_on, single_precision
from inverse_design.search.pruning import Tile
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import Certificate, Progress, SearchResult

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

    Args:
        tiles: Quick scores on a device, by :func:`~inverse_design.search.device.tiles.device_tiles`.
        score: The same scores in double precision, here.
        k: How many pairs.
        space: What may be proposed; its orders other than two are not searched.
        progress: Called at the end; and by the processors, where they search.

    Raises:
        SpaceError: If the space has no pairs, or its entries are not those of the score.
        DataError: If a score is NaN or infinite (the candidate is named), or ``k`` is not positive.
    """
    began = time.perf_counter()
    space.span(2)  # refuses a space without pairs
    if tiles.size != len(space.entries):
        raise SpaceError(f"scores of {tiles.size} entries do not fit a space of {len(space.entries)}")
    near = DeviceShortlist.empty(k, tiles.device)
    with single_precision():
        for first, cells in _runs(tiles, space):
            hot, near = near.best_runs(cells.amax(1))
            near = near.merged(cells[hot], first[hot])
    found = near.settled(k, tiles.error, space, score, 2)
    if found is None:
        return search_pairs(score, k, space=space, progress=progress)
    total = math.comb(tiles.size, 2)
    if progress is not None:
        progress(total, total)
    top, rescored = found
    masked = total - space.count_valid_of(2)
    seconds = time.perf_counter() - began
    return SearchResult(top, Certificate(total, masked, rescored, tiles.error, seconds))


def _runs(
    tiles: DeviceTiles, space: CombinationSpace
) -> Iterator[tuple[Int64[Tensor, "n"], Float32[Tensor, "n c"]]]:
    """Score the valid pairs above the diagonal tile by tile, in runs of cells of a row; others are -infinity."""
    size, device, cells = tiles.size, tiles.device, cells_on(tiles)
    mask, measured = PairMask(space.rules), space.left_out_of(2)
    at = torch.searchsorted(measured[:, 0].contiguous(), torch.arange(size + 1)).tolist()
    start = 0
    while start < size:
        stop = min(size, start + max(1, min(cells // (size - start), -(-size // _ROW_BLOCKS))))
        rows, columns = stop - start, size - start
        runs = -(-columns // _RUN)
        out = torch.empty(rows, runs * _RUN, device=device)
        tile = Tile(start, stop, (start, size))
        tiles.into(out[:, :columns], tile)
        out[:, columns:] = -torch.inf
        out[:, :rows].masked_fill_(torch.ones(rows, rows, dtype=torch.bool, device=device).tril_(), -torch.inf)
        allowed = mask.tile(slice(start, stop), slice(start, size))
        if allowed is not None:
            out[:, :columns].masked_fill_(torch.from_numpy(~allowed).to(device), -torch.inf)
        here = (measured[at[start] : at[stop]] - start).to(device)
        out[here[:, 0], here[:, 1]] = -torch.inf
        first = torch.arange(start, stop, device=device)[:, None] * size + start
        yield (first + torch.arange(0, runs * _RUN, _RUN, device=device)).flatten(), out.view(-1, _RUN)
        start = stop
