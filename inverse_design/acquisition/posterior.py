"""Posteriors of the utility of some candidates: the argument of every acquisition.

Two acquisitions are read off the members directly: the share of draws in which a candidate is the best, and the
knowledge gradient [Frazier 2008]. A result at ``x`` gives the members weights ``p(y | member)``; the gradient is
the expected rise of the best expected utility after it, zero where the result could change no decision.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.errors import DataError
from surrogates.uncertainty.posterior import ScalarPosterior


@dataclass(frozen=True)
class UtilityPosterior:
    """A distribution over the utility of ``b`` candidates; larger utility is better.

    Attributes:
        draws: Joint draws, one row per member of an ensemble or sample of a posterior, or ``None`` where nothing
            is known of how the candidates depend on each other.
    """

    mean: Float[Tensor, "b"]  # expected utility of each
    variance: Float[Tensor, "b"]  # its variance
    draws: Float[Tensor, "s b"] | None = None

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, numbers that are not finite, and negative variances."""
        sizes = {self.mean.shape, self.variance.shape, *([] if self.draws is None else [self.draws.shape[1:]])}
        if len(sizes) > 1:
            raise DataError(f"means, variances and draws of {sorted(map(tuple, sizes))} candidates; one of each")
        for what, values in (("mean", self.mean), ("variance", self.variance), ("draw", self.draws)):
            if values is not None and not bool(values.isfinite().all()):
                bad = int((~values.isfinite()).sum())
                raise DataError(f"{bad} {what}(s) of the utility are not finite; leave those candidates out")
        if bool((self.variance < 0).any()):
            raise DataError(f"variance {float(self.variance.min()):g} of a utility is negative")

    @classmethod
    def of(cls, posterior: ScalarPosterior) -> "UtilityPosterior":
        """Take the mean and variance that an objective predicts."""
        return cls(posterior.mean.double(), posterior.variance.double())

    @classmethod
    def of_members(cls, members: Float[Tensor, "s b"]) -> "UtilityPosterior":
        """Take members of an ensemble, or draws of a posterior, each as likely as any other to be right.

        Raises:
            DataError: If there is no member.
        """
        if not len(members):
            raise DataError("no member tells the utility of the candidates; give at least one")
        draws = members.double()
        return cls(draws.mean(0), draws.var(0, correction=0), draws)

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def deviation(self) -> Float[Tensor, "b"]:
        """Standard deviation of each utility."""
        return self.variance.sqrt()

    def joint(self) -> Float[Tensor, "s b"]:
        """Take the joint draws, for what cannot do without.

        Raises:
            DataError: If there are none.
        """
        if self.draws is None:
            raise DataError(
                "this needs joint draws of the utilities: take `UtilityPosterior.of_members`, or a gain"
                " that reads means and variances only"
            )
        return self.draws

    def rows(self, index: Int[Tensor, "m"]) -> "UtilityPosterior":
        """Take some of the candidates."""
        draws = None if self.draws is None else self.draws[:, index]
        return replace(self, mean=self.mean[index], variance=self.variance[index], draws=draws)


@dataclass(frozen=True)
class Optimum:
    """Share of joint draws in which a candidate is among the ``k`` best of those offered.

    For ``k = 1`` it is the probability of being the optimum; their sum over a batch is the probability that the
    batch holds it [Fromer et al. 2025]. Candidates that tie at the last place share it.
    """

    k: int = 1  # how many count as best

    def __post_init__(self) -> None:
        """Refuse to count none."""
        if self.k < 1:
            raise DataError(f"k is {self.k}; count at least the one best candidate")

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Score candidates.

        Raises:
            DataError: If the belief has no draws, or too few candidates.
        """
        draws = belief.joint()
        if self.k > len(belief):
            raise DataError(f"the {self.k} best of {len(belief)} candidates are all of them; take a smaller k")
        last = draws.topk(self.k, dim=1).values[:, -1:]
        above, level = (draws > last).double(), (draws == last).double()
        places: Tensor = (self.k - above.sum(1, keepdim=True)) / level.sum(1, keepdim=True)
        return (above + places * level).mean(0)


_OUTCOMES = 5  # of the noise, for each member: nodes of Gauss-Hermite quadrature
_LEAST_NOISE = 1e-6  # of the deviation of the members: a result without noise would leave one member


@dataclass(frozen=True)
class LookAhead:
    """Expected rise of the best posterior mean by one experiment."""

    noise: float  # standard deviation of the measured utility about the true one, not negative

    def __post_init__(self) -> None:
        """Refuse noise that is negative or not finite."""
        if not 0 <= self.noise < math.inf:
            raise DataError(
                f"noise {self.noise} is negative or not finite; give the error of one measured utility"
            )

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:
        """Score candidates, in ``O(b² s²)``.

        Raises:
            DataError: If the belief has no draws.
        """
        draws = belief.joint()
        before = max(float(belief.mean.max()), incumbent)
        rises = [self._after(draws, number, incumbent) - before for number in range(len(belief))]
        return torch.tensor(rises, dtype=torch.float64).clamp(min=0)

    def _after(self, draws: Float[Tensor, "s b"], number: int, incumbent: float) -> float:
        """Expected best once the result of a candidate is known, over members and noise."""
        own = draws[:, number]
        noise = max(self.noise, _LEAST_NOISE * float(own.std(correction=0)), torch.finfo(own.dtype).tiny)
        nodes, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(_OUTCOMES))
        total = 0.0
        for node, weight in zip(nodes, weights / weights.sum(), strict=True):
            results = own + noise * node
            credible = (-((results[:, None] - own) / noise).square() / 2).softmax(1)
            best = (credible @ draws).amax(1).clamp(min=incumbent)
            total += float(weight * best.mean())
        return total
