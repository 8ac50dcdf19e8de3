"""A batch of which a part is drawn with known probabilities: what later weights and checks stand upon.

Greedy picks have no probability other than one, so that they say nothing of what was not picked. Some drawn
picks in each batch do, and their logged probabilities make the weights of
:mod:`surrogates.uncertainty.weighted`. Drawn picks come first, from the whole pool; greedy ones fill the rest.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.errors import DataError


@runtime_checkable
class DrawLaw(Protocol):
    """How likely candidates are to be drawn, given their utility."""

    def log_weights(self, utility: Float[Tensor, "c"]) -> Float[Tensor, "c"]:
        """Give the logarithm of each candidate's weight, up to a common constant; minus infinity excludes it."""
        ...


@dataclass(frozen=True)
class Softmax:
    """Weights ``exp(utility / temperature)``.

    Attributes:
        temperature: Utility that makes a candidate ``e`` times as likely, positive; infinite draws uniformly.
    """

    temperature: float

    def __post_init__(self) -> None:
        """Refuse a temperature that orders nothing."""
        if not self.temperature > 0:
            raise DataError(f"temperature {self.temperature} is not positive; a greedy batch needs no law")

    def log_weights(self, utility: Float[Tensor, "c"]) -> Float[Tensor, "c"]:
        """Give the logarithm of each candidate's weight, up to a common constant.

        Args:
            utility: Of each candidate, larger is better.

        Returns:
            ``utility / temperature``.
        """
        return utility.double() / self.temperature


@dataclass(frozen=True)
class UniformAbove:
    """The same weight for every candidate that is good enough, none for the others.

    Attributes:
        least: Smallest utility that may be drawn.
    """

    least: float

    @classmethod
    def top(cls, utility: Float[Tensor, "c"], share: float) -> "UniformAbove":
        """Take the best share of a pool.

        Args:
            utility: Of each candidate of the pool.
            share: Of the pool, above 0 and up to 1; at least one candidate is taken, and ties with the last.

        Returns:
            The law.

        Raises:
            DataError: If it is no share, or the pool is empty.
        """
        if not 0 < share <= 1 or not len(utility):
            raise DataError(f"share {share} of {len(utility)} candidates; take one above 0 and up to 1 of some")
        return cls(float(utility.topk(math.ceil(share * len(utility) - 1e-9)).values[-1]))

    def log_weights(self, utility: Float[Tensor, "c"]) -> Float[Tensor, "c"]:
        """Give the logarithm of each candidate's weight, up to a common constant.

        Args:
            utility: Of each candidate, larger is better.

        Returns:
            Zero where the utility is at least ``least``, minus infinity elsewhere.
        """
        return torch.where(utility >= self.least, 0.0, -torch.inf).double()


@dataclass(frozen=True)
class MixedBatch:
    """Candidates to be measured, and how each came to be chosen.

    Attributes:
        numbers: Of the candidates in the pool: the drawn ones in their order, then the greedy ones, best first.
        drawn: Which were drawn with a known probability; the others were taken for their utility.
        log_probability: Natural logarithm of the probability of each draw, given those before it; ``nan`` for the
            greedy picks, so that no weight can be made of them unawares.
    """

    numbers: Int[Tensor, "b"]
    drawn: Bool[Tensor, "b"]
    log_probability: Float[Tensor, "b"]


def mixed_batch(
    utility: Float[Tensor, "c"], count: int, *, share: float, law: DrawLaw, generator: torch.Generator
) -> MixedBatch:
    """Draw a share of a batch, and take the best of the rest.

    Draw ``t`` takes candidate ``x`` among those left, ``R_t``, with probability ``w_x / sum_{z in R_t} w_z``
    [Luce 1959; Plackett 1975]. Sorting ``log w`` plus standard Gumbel noise draws all of them at once [Yellott
    1977].

    Args:
        utility: Of each candidate of the pool, larger is better; finite.
        count: Size of the batch.
        share: Of the batch that is drawn, from 0 to 1; rounded up.
        law: How likely each candidate is to be drawn.
        generator: Source of randomness.

    Returns:
        The batch; each candidate is in it at most once.

    Raises:
        DataError: If the pool or what the law may draw is too small, the share is not one, or a utility is not
            finite.
    """
    _require_batch(utility, count, share)
    log_weights = law.log_weights(utility)
    draws = math.ceil(share * count - 1e-9)
    possible = int((log_weights > -torch.inf).sum())
    if draws > possible:
        raise DataError(f"{draws} candidates are to be drawn, and the law may draw {possible}; widen it")
    uniform = torch.rand(len(utility), generator=generator, dtype=torch.float64)
    gumbel = -(-uniform.clamp(min=torch.finfo(torch.float64).tiny).log()).log()
    drawn = (log_weights + gumbel).topk(draws).indices
    left = utility.double().clone()
    left[drawn] = -torch.inf
    greedy = left.topk(count - draws).indices
    none = torch.full((count - draws,), torch.nan, dtype=torch.float64)
    return MixedBatch(
        torch.cat([drawn, greedy]),
        torch.arange(count) < draws,
        torch.cat([log_probabilities(log_weights, drawn), none]),
    )


def log_probabilities(log_weights: Float[Tensor, "c"], drawn: Int[Tensor, "d"]) -> Float[Tensor, "d"]:
    """Give the probability of each draw without replacement, given those before it.

    Args:
        log_weights: Of all candidates of the pool.
        drawn: Numbers of the drawn ones, in their order.

    Returns:
        Natural logarithms, in double precision.
    """
    left = log_weights.double().clone()
    logs = []
    for number in drawn:
        logs.append(left[number] - left.logsumexp(0))
        left[number] = -torch.inf
    return torch.stack(logs) if logs else left.new_zeros(0)


def _require_batch(utility: Float[Tensor, "c"], count: int, share: float) -> None:
    if not 0 <= share <= 1:
        raise DataError(f"share {share} is not between 0 and 1; 0.25 draws a quarter of the batch")
    if not 1 <= count <= len(utility):
        raise DataError(f"a batch of {count} cannot be taken from {len(utility)} candidates")
    if not utility.isfinite().all():
        raise DataError(f"{int((~utility.isfinite()).sum())} of {len(utility)} utilities are not finite")
