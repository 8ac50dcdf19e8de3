"""The sum over a whole space that turns log densities into probabilities."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from surrogates.data.vocabulary import PerturbationBatch

_ROWS = 256
_BATCH = 4096


def log_sum_pairs(score: PairScore, space: CombinationSpace) -> float:
    """Sum the exponentials of the scores of all valid pairs.

    Args:
        score: Log density of each pair of ``space.entries``, up to a constant.
        space: The space; only its pairs count.

    Returns:
        The logarithm of the sum.
    """
    first, last = space.span(2)
    inside = space.excluded[(space.excluded >= first) & (space.excluded < last)]
    measured = space.take(torch.as_tensor(inside.astype("int64"))).genes[:, :2].contiguous()
    left_out = torch.searchsorted(space.entries, measured)
    only_measured = space.count_valid_of(2) == last - first - len(inside)
    total = -math.inf
    for start in range(0, score.size, _ROWS):
        stop = min(score.size, start + _ROWS)
        block = score.block(start, stop).double()
        block.masked_fill_(torch.ones_like(block, dtype=torch.bool).tril(), -torch.inf)
        here = left_out[(left_out[:, 0] >= start) & (left_out[:, 0] < stop)] - start
        block[here[:, 0], here[:, 1]] = -torch.inf
        if not only_measured:
            block[~_valid(space, start, stop)] = -torch.inf
        total = float(torch.logaddexp(block.new_tensor(total), block.flatten().logsumexp(0)))
    return total


def _valid(space: CombinationSpace, start: int, stop: int) -> Bool[Tensor, "rows columns"]:
    """Which cells of a block may be proposed, where more than measured pairs is ruled out."""
    columns = len(space.entries) - start
    valid = torch.zeros(stop - start, columns, dtype=torch.bool)
    rows, others = torch.triu_indices(stop - start, columns, 1)
    pairs = space.entries[torch.stack([rows, others], dim=1) + start]
    valid[rows, others] = space.valid(space.vocabulary.dosed(pairs))
    return valid


def log_sum_stream(
    score: Callable[[PerturbationBatch], Float[Tensor, "b"]], space: CombinationSpace, *, order: int
) -> float:
    """Sum the exponentials of the scores of all valid combinations of one order.

    Args:
        score: Log density of each combination, up to a constant.
        space: The space.
        order: The order to sum over.

    Returns:
        The logarithm of the sum.
    """
    first, last = space.span(order)
    total = -math.inf
    for start in range(first, last, _BATCH):
        batch = space.batch(start, min(last, start + _BATCH))
        batch = batch.rows(torch.nonzero(space.valid(batch)).flatten())
        total = _log_add(total, score(batch))
    return total


def _log_add(total: float, scores: Float[Tensor, "m"]) -> float:
    return float(torch.cat([scores.new_tensor([total]), scores]).logsumexp(0))
