"""A posterior whose variances were learnt from held-out errors; how errors go together stays as it was."""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.uncertainty.posterior import Interval, Posterior


@dataclass(frozen=True)
class StatedPosterior:
    """A posterior with other variances, and the same mean and correlations.

    Attributes:
        base: The posterior that it is made of, of positive variances.
        variance: Variance of each effect.
        downwards: How far below the mean a band goes that holds all readouts at once, up to a factor that is the
            same for all perturbations.
        upwards: How far above.
    """

    base: Posterior
    variance: Float[Tensor, "b g"]
    downwards: Float[Tensor, "b g"]
    upwards: Float[Tensor, "b g"]

    @property
    def mean(self) -> Float[Tensor, "b g"]:
        """Expected effects."""
        return self.base.mean

    @property
    def scale(self) -> Float[Tensor, "b"]:
        """How much wider than a shared covariance each perturbation's distribution is, in all its readouts."""
        return self.base.scale * self.variance.sum(1) / self.base.variance.sum(1)

    @property
    def factor(self) -> Float[Tensor, "b g r"] | None:
        """Low-rank part of each perturbation's covariance, or ``None``."""
        factor = self.base.factor
        return None if factor is None else factor * self._ratio[:, :, None]

    def sample(self, count: int, *, seed: int) -> Float[Tensor, "s b g"]:
        """Draw effects.

        Args:
            count: Number of draws ``s``.
            seed: Fixes the draws.

        Returns:
            Independent draws.
        """
        return self.mean + self._ratio * (self.base.sample(count, seed=seed) - self.mean)

    def interval(self, level: float) -> Interval:
        """Central normal interval of each effect on its own.

        Args:
            level: Nominal probability, between 0 and 1.

        Returns:
            The bounds.
        """
        spread = NormalDist().inv_cdf((1 + level) / 2) * self.variance.sqrt()
        return Interval(self.mean - spread, self.mean + spread, level)

    @cached_property
    def _ratio(self) -> Float[Tensor, "b g"]:
        """Standard deviation of each effect in units of what it was."""
        tiny = torch.finfo(self.variance.dtype).tiny
        return (self.variance / self.base.variance.clamp(min=tiny)).sqrt()
