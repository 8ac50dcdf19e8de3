"""The sum over a whole space that turns log densities into probabilities."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from surrogates.data.vocabulary import PerturbationBatch

_ROWS = 256
_BATCH = 65536


def log_sum_pairs(score: PairScore, space: CombinationSpace) -> float:
    """Sum the exponentials of the scores of all valid pairs.

    Args:
        score: Log density of each pair of ``space.entries``, up to a constant.
        space: The space; only its pairs count.

    Returns:
        The logarithm of the sum.
    """
    total = -math.inf
    for start in range(0, score.size, _ROWS):
        stop = min(score.size, start + _ROWS)
        block = score.block(start, stop).double()
        rows, columns = torch.nonzero(torch.ones_like(block).triu(1), as_tuple=True)
        pairs = space.entries[torch.stack([rows + start, columns + start], dim=1)]
        inside = block[rows, columns][space.valid(space.vocabulary.dosed(pairs))]
        total = _log_add(total, inside)
    return total


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
