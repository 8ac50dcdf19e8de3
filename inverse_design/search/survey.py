"""What a whole space says of a target: the sum that turns log densities into probabilities, and a count."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.pair_mask import PairMask
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from surrogates.data.vocabulary import PerturbationBatch

_ROWS = 256
_BATCH = 4096


@dataclass(frozen=True)
class Survey:
    """The scores of all valid candidates, summed up.

    Attributes:
        log_sum: Logarithm of the sum of their exponentials.
        reached: How many of them are at least as large as the cut.
    """

    log_sum: float
    reached: int

    @classmethod
    def empty(cls) -> "Survey":
        """Start with no candidate."""
        return cls(-math.inf, 0)

    def merge(self, other: "Survey") -> "Survey":
        """Add the survey of other candidates.

        Args:
            other: Of the same score and cut.

        Returns:
            That of all.
        """
        both = torch.tensor([self.log_sum, other.log_sum], dtype=torch.float64)
        return Survey(float(both.logsumexp(0)), self.reached + other.reached)


def survey_pairs(score: PairScore, space: CombinationSpace, *, cut: float = math.inf) -> Survey:
    """Sum the exponentials of the scores of all valid pairs, and count those that reach a cut.

    Blocks are in single precision, which is finest near zero: there the likely pairs and the cut have to be.

    Args:
        score: Log density of each pair of ``space.entries``, up to a constant.
        space: The space; only its pairs count.
        cut: The score to reach.

    Returns:
        Sum and count.
    """
    first, last = space.span(2)
    inside = space.excluded[(space.excluded >= first) & (space.excluded < last)]
    measured = space.take(torch.as_tensor(inside.astype("int64"))).genes[:, :2].contiguous()
    left_out = torch.searchsorted(space.entries, measured)
    mask = PairMask(space.rules)
    total = Survey.empty()
    for start in range(0, score.size, _ROWS):
        stop = min(score.size, start + _ROWS)
        block = score.block(start, stop).double()
        block.masked_fill_(torch.ones_like(block, dtype=torch.bool).tril(), -torch.inf)
        here = left_out[(left_out[:, 0] >= start) & (left_out[:, 0] < stop)] - start
        block[here[:, 0], here[:, 1]] = -torch.inf
        allowed = mask.tile(slice(start, stop), slice(start, None))
        if allowed is not None:
            block.masked_fill_(torch.from_numpy(~allowed), -torch.inf)
        total = total.merge(_of(block.flatten(), cut))
    return total


def survey_stream(
    score: Callable[[PerturbationBatch], Float[Tensor, "b"]],
    space: CombinationSpace,
    *,
    order: int,
    cut: float = math.inf,
) -> Survey:
    """Sum the exponentials of the scores of all valid combinations of one order, and count those that reach a cut.

    Args:
        score: Log density of each combination, up to a constant.
        space: The space.
        order: The order to survey.
        cut: The score to reach.

    Returns:
        Sum and count.
    """
    first, last = space.span(order)
    total = Survey.empty()
    for start in range(first, last, _BATCH):
        batch = space.batch(start, min(last, start + _BATCH))
        batch = batch.rows(torch.nonzero(space.valid(batch)).flatten())
        total = total.merge(_of(score(batch), cut))
    return total


def _of(scores: Float[Tensor, "m"], cut: float) -> Survey:
    return Survey(float(scores.logsumexp(0)), int((scores >= cut).sum()))
