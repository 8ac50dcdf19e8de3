"""Mixtures: the posterior of an ensemble, and the weights of a linear opinion pool.

The pool ``sum_m w_m p_m`` [Stone 1961] scores at least as well as the mean of its members, and an expert that is
sure and wrong costs it ``-log`` of the weight of the others at most. The weights maximise the mean log probability
of what came true, by expectation maximisation.
"""

from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import DataError
from surrogates.uncertainty.posterior import Interval, Posterior

_HALVINGS = 60  # of the bracket around a quantile: to the last digit of double precision


@dataclass(frozen=True)
class Mixture:
    """A mixture of posteriors with equal weights.

    Its variance is the mean of the members' variances plus the variance of their means [Lakshminarayanan 2017,
    section 2.4]: noise that more data would not remove, and disagreement that they would.
    """

    members: tuple[Posterior, ...]  # posteriors of the same perturbations; at least one

    def __post_init__(self) -> None:
        """Refuse a mixture of nothing."""
        if not self.members:
            raise DataError("a mixture needs at least one member")

    @property
    def mean(self) -> Float[Tensor, "b g"]:
        """Expected effects."""
        return self._means.mean(0)

    @property
    def epistemic(self) -> Float[Tensor, "b g"]:
        """Variance of the members' means: how much they disagree."""
        return (self._means - self.mean).square().mean(0)

    @property
    def aleatoric(self) -> Float[Tensor, "b g"]:
        """Mean of the members' variances."""
        return torch.stack([each.variance for each in self.members]).mean(0)

    @property
    def variance(self) -> Float[Tensor, "b g"]:
        """Variance of each effect."""
        return self.aleatoric + self.epistemic

    @property
    def scale(self) -> Float[Tensor, "b"]:
        """Mean of the members' scales; their disagreement is in :attr:`factor`."""
        return torch.stack([each.scale for each in self.members]).mean(0)

    @property
    def factor(self) -> Float[Tensor, "b g r"]:
        """Low-rank part of the covariance: the members' deviations from the mean, then their own factors."""
        share: float = len(self.members) ** -0.5
        deviations = (self._means - self.mean).permute(1, 2, 0)
        factors = [each.factor for each in self.members if each.factor is not None]
        return share * torch.cat([deviations, *factors], dim=2)

    def sample(self, count: int, *, seed: int) -> Float[Tensor, "s b g"]:
        """Draw effects: each draw is from one member, the same for all perturbations."""
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randint(len(self.members), (count,), generator=generator)
        seeds = torch.randint(2**31, (len(self.members),), generator=generator).tolist()
        effects = self.mean.new_empty(count, *self.mean.shape)
        for number, (member, own) in enumerate(zip(self.members, seeds, strict=True)):
            effects[drawn == number] = member.sample(int((drawn == number).sum()), seed=own)
        return effects

    def interval(self, level: float) -> Interval:
        """Central interval of each effect on its own, between quantiles of the mixture of normal members.

        The quantiles have no closed form; they lie between the smallest and the largest of the members' own, and
        halving finds them.
        """
        tail = (1 - level) / 2
        return Interval(self._quantile(tail), self._quantile(1 - tail), level)

    @property
    def _means(self) -> Float[Tensor, "s b g"]:
        return torch.stack([each.mean for each in self.members])

    def _quantile(self, probability: float) -> Float[Tensor, "b g"]:
        means = self._means
        deviations = torch.stack([each.variance for each in self.members]).sqrt()
        own = means + deviations * NormalDist().inv_cdf(probability)
        low: Tensor = own.amin(0)
        high: Tensor = own.amax(0)
        spread = deviations.clamp(min=torch.finfo(means.dtype).tiny)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            below = torch.special.ndtr((middle - means) / spread).mean(0) < probability
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return (low + high) / 2


_LEAST = 0.02  # an expert that counts less is left out
_PRIOR = 1.0  # as if so many cases had been seen that speak for all experts alike
_ROUNDS, _SETTLED = 1000, 1e-9


def pool_weights(log_probability: Float[Tensor, "m n"]) -> Float[Tensor, "m"]:
    """Weigh experts by the probabilities that they gave to what came true."""
    m, n = log_probability.shape
    weights = torch.full((m,), 1 / m, dtype=torch.float64)
    for _ in range(_ROUNDS):
        share = (weights.log()[:, None] + log_probability).softmax(0)
        better = (share.sum(1) + _PRIOR / m) / (n + _PRIOR)
        change = float((better - weights).abs().max())
        weights = better
        if change < _SETTLED:
            break
    kept = torch.where(weights < min(_LEAST, 1 / m), 0.0, weights)
    return kept / kept.sum()


def pooled(log_probability: Float[Tensor, "m n"], weights: Float[Tensor, "m"]) -> Float[Tensor, "n"]:
    """Average probabilities."""
    return (weights.log()[:, None] + log_probability).logsumexp(0)
