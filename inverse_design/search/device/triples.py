"""Exact search over all triples on a device: the best third entry of every pair is a max-plus product."""

import math
import time

import torch
from jaxtyping import Float32
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.set_rules import PairMask
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.bounded import search_bounded
from inverse_design.search.device.shortlist import DeviceShortlist
from inverse_design.search.device.tiles import ProductTiles, single_precision
from inverse_design.search.pruning import Tile
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.errors import DataError

_SIDE, _DEPTH = {"cpu": 64}, {"cpu": 64}  # of the cubes that are added up at a time: they stay in cache
_ORDER = 3


def search_triples_on(
    score: PairwiseSetScore,
    k: int,
    *,
    space: CombinationSpace,
    device: str,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the ``k`` best valid triples by looking at all of them.

    The score of a triple is ``P_ij + P_ik + P_jk``. For all pairs the largest ``P_ik + P_jk`` of a third entry is
    a matrix product in which products are sums and sums are maxima. The pairs with the best thirds are looked at
    with all thirds, and the best triples ranked in double precision, here. What this does not prove is searched
    by :func:`~inverse_design.search.bounded.search_bounded`, which gives the same answer.
    """
    began = time.perf_counter()
    if score.order != _ORDER:
        raise DataError(f"sets of order {score.order} are no triples; search them by bounds")
    space.span(_ORDER)
    if score.size != len(space.entries):
        raise SpaceError(f"scores of {score.size} entries do not fit a space of {len(space.entries)}")
    with single_precision():
        pairs = _later_pairs(score, space, device)
        near = DeviceShortlist.empty(k, device)
        hot, near = near.best_runs((best_thirds(pairs) + pairs).flatten())
        first, second = hot // score.size, hot % score.size
        cells = pairs[first] + pairs[second] + pairs[first, second, None]
        found = near.merged(cells, hot * score.size).near(k, 2 * score.error, space, _ORDER)
    if found is None:
        return search_bounded(score, k, space=space, progress=progress)
    index = space.indices(space.vocabulary.dosed(space.entries[found.positions]))
    top, rescored = TopK.empty(k).offer(index, score.exact(found.positions)), len(index)
    total = math.comb(score.size, _ORDER)
    if progress is not None:
        progress(total, total)
    masked = total - space.count_valid_of(_ORDER)
    return SearchResult(top, Certificate(total, masked, rescored, score.error, time.perf_counter() - began))


def best_thirds(pairs: Float32[Tensor, "v v"]) -> Float32[Tensor, "v v"]:
    """Find the largest ``pairs_ik + pairs_jk`` over all ``k``, for every ``i < j``."""
    size, kind = len(pairs), pairs.device.type
    side, depth = _SIDE.get(kind, 512), _DEPTH.get(kind, 32)
    found = torch.full_like(pairs, -torch.inf)
    for i in range(0, size, side):
        for j in range(i, size, side):
            best = found[i : i + side, j : j + side]
            for k in range(j, size, depth):
                one, other = pairs[i : i + side, k : k + depth], pairs[j : j + side, k : k + depth]
                torch.maximum(best, (one[:, None] + other).amax(2), out=best)
    return found


def _later_pairs(score: PairwiseSetScore, space: CombinationSpace, device: str) -> Float32[Tensor, "v v"]:
    """Score the pairs that some triple may hold, in the cell of the earlier entry's row; others are -infinity."""
    size, mask = score.size, PairMask(space.rules, _ORDER)
    pairs = torch.empty(size, size, device=device)
    ProductTiles(score.product, device).into(pairs, Tile(0, size, (0, size)))
    pairs.masked_fill_(torch.ones_like(pairs, dtype=torch.bool).tril_(), -torch.inf)
    allowed = mask.tile(slice(0, size), slice(0, size))
    if allowed is not None:
        pairs.masked_fill_(torch.from_numpy(~allowed).to(device), -torch.inf)
    return pairs
