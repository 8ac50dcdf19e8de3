"""Distributions over effects, which every fitted surrogate returns, and over one number per perturbation.

Mixtures are the posterior of an ensemble, and what a linear opinion pool weighs. The pool ``sum_m w_m p_m`` [Stone
1961] scores at least as well as the mean of its members, and an expert that is sure and wrong costs it ``-log`` of
the weight of the others at most. The weights maximise the mean log probability of what came true, by expectation
maximisation.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.errors import DataError
from surrogates.summary import summary
from surrogates.uncertainty.error_model import FactorCovariance


@dataclass(frozen=True)
class Interval:
    """Bounds with names."""

    lower: Float[Tensor, "b g"]  # lower bounds
    upper: Float[Tensor, "b g"]  # upper bounds
    level: float  # nominal probability between them
    __repr__ = summary


@runtime_checkable
class Posterior(Protocol):
    """A distribution over the effects of ``b`` perturbations on ``g`` readouts."""

    @property
    def mean(self) -> Float[Tensor, "b g"]:
        """Expected effects."""
        ...

    @property
    def variance(self) -> Float[Tensor, "b g"]:
        """Variance of each effect."""
        ...

    @property
    def scale(self) -> Float[Tensor, "b"]:
        """How much wider than a shared covariance each perturbation's distribution is; ones if they are alike."""
        ...

    @property
    def factor(self) -> Float[Tensor, "b g r"] | None:
        """Low-rank part of each perturbation's covariance, or ``None``."""
        ...

    def sample(self, count: int, *, seed: int) -> Float[Tensor, "s b g"]:
        """Draw effects."""
        ...

    def interval(self, level: float) -> Interval:
        """Central interval of each effect on its own."""
        ...


@dataclass(frozen=True)
class Scatter:
    """The coefficients with which parts add up are scattered: effects vary along the parts' own effects."""

    effects: Float[Tensor, "v g"]  # effect of each vocabulary entry
    genes: Int[Tensor, "b k"]  # entries of each perturbation, ``-1`` where empty
    deviation: Float[Tensor, "b"]  # standard deviation of the coefficients of each perturbation

    @cached_property
    def directions(self) -> Float[Tensor, "b g k"]:
        """What one standard deviation of each coefficient changes; computed when it is asked for."""
        sizes = self.deviation[:, None] * (self.genes >= 0)
        slots = [
            self.effects[ids.clamp(min=0)] * size[:, None] for ids, size in zip(self.genes.T, sizes.T, strict=True)
        ]
        return torch.stack(slots, dim=2)


@dataclass(frozen=True)
class GaussianPosterior:
    """Normal effects whose covariance is a scale times a shared factor covariance, plus scattered coefficients.

    With scale ``v``, shared covariance ``C`` and directions ``u_k`` it is ``v C + sum_k u_k u_k^T``.

    Attributes:
        scale: Factor on the covariance, one per perturbation: how much surer or less sure the model is here
            than for the held-out perturbations the covariance was learnt from.
    """

    mean: Float[Tensor, "b g"]  # expected effects
    scale: Float[Tensor, "b"]
    covariances: tuple[FactorCovariance, ...]  # the distinct covariances, usually one per novelty class
    group: Int[Tensor, "b"]  # which of them each perturbation has
    scatter: Scatter | None = None  # of the coefficients of each perturbation's parts, ``None`` for none
    __repr__ = summary

    @property
    def variance(self) -> Float[Tensor, "b g"]:
        """Variance of each effect."""
        shared = self.scale[:, None] * torch.stack([each.variance for each in self.covariances])[self.group]
        return shared if self.scatter is None else shared + self.scatter.directions.square().sum(2)

    @property
    def factor(self) -> Float[Tensor, "b g r"]:
        """Low-rank part of each perturbation's covariance: padded to the largest rank, then the scatter."""
        rank = max(each.loadings.shape[1] for each in self.covariances)
        padded = [
            torch.nn.functional.pad(each.loadings, (0, rank - each.loadings.shape[1])) for each in self.covariances
        ]
        shared = self.scale.sqrt()[:, None, None] * torch.stack(padded)[self.group]
        return shared if self.scatter is None else torch.cat([shared, self.scatter.directions], dim=2)

    def sample(self, count: int, *, seed: int) -> Float[Tensor, "s b g"]:
        """Draw effects."""
        generator = torch.Generator().manual_seed(seed)
        b, g = self.mean.shape
        noise = torch.stack([each.draw(count * b, generator=generator) for each in self.covariances])
        chosen = noise.reshape(len(self.covariances), count, b, g)[self.group, :, torch.arange(b)].transpose(0, 1)
        effects = self.mean + self.scale.sqrt()[:, None] * chosen
        if self.scatter is None:
            return effects
        directions = self.scatter.directions
        sizes = torch.randn(count, b, directions.shape[2], generator=generator, dtype=self.mean.dtype)
        return effects + torch.einsum("sbk,bgk->sbg", sizes, directions)

    def interval(self, level: float) -> Interval:
        """Central normal interval of each effect on its own."""
        half = NormalDist().inv_cdf((1 + level) / 2)
        spread = half * self.variance.sqrt()
        return Interval(self.mean - spread, self.mean + spread, level)


def isotropic(mean: Float[Tensor, "b g"], variance: Float[Tensor, "g"]) -> GaussianPosterior:
    """Give every perturbation the same independent error in each readout."""
    b = len(mean)
    covariance = FactorCovariance.independent(variance)
    return GaussianPosterior(mean, mean.new_ones(b), (covariance,), torch.zeros(b, dtype=torch.int64))


@dataclass(frozen=True)
class ScalarPosterior:
    """A distribution over one number of some perturbations, such as their utility."""

    mean: Float[Tensor, "b"]  # expected value; of a utility, larger is better
    variance: Float[Tensor, "b"]  # its variance


@dataclass(frozen=True)
class ScalarInterval:
    """Bounds on one number of some perturbations."""

    lower: Float[Tensor, "b"]  # lower bounds
    upper: Float[Tensor, "b"]  # upper bounds
    level: float  # nominal probability between them
    __repr__ = summary


@runtime_checkable
class Outcome(Protocol):
    """A number that can be predicted from a predicted effect, and computed from a measured one.

    The distance to a target is one, and so is the score of a signature.
    """

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the number.

        Args:
            posterior: Predicted effects.

        Returns:
            Its expectation and variance for each perturbation.
        """
        ...

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Tell the number of measured effects.

        Args:
            effects: One row per perturbation.

        Returns:
            One number each.
        """
        ...


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
