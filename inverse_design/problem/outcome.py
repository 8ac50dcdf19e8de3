"""What an experiment will show of a candidate: numbers that a measurement can prove wrong."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.forms import form_on, traces
from inverse_design.problem.target import AlignedProfile
from surrogates.uncertainty.posterior import Posterior
from surrogates.uncertainty.scalar import ScalarPosterior

DISTANCE = "distance"


def squared_distance(posterior: Posterior, target: AlignedProfile) -> ScalarPosterior:
    """Foretell the weighted squared distance of an effect to a profile.

    With ``y ~ N(m, S)`` and weights ``W``, ``(t - y)^T W (t - y)`` has mean ``(t - m)^T W (t - m) + tr(W S)`` and
    variance ``2 tr(W S W S) + 4 (t - m)^T W S W (t - m)``.

    Args:
        posterior: Predicted effects.
        target: The profile.

    Returns:
        Mean and variance for each perturbation.
    """
    root = target.weights.sqrt()
    gap = (target.values - posterior.mean[:, target.columns]) * root
    trace, square = traces(posterior, target)
    spread = form_on(posterior, target, gap * root)
    return ScalarPosterior(gap.square().sum(1) + trace, 2 * square + 4 * spread)


@dataclass(frozen=True)
class Distance:
    """The root mean square distance of an effect to a profile, over its readouts, in the unit of the screen.

    Attributes:
        target: The profile, in the coordinates of the screen; weights count as in every mean.
    """

    target: AlignedProfile

    @property
    def name(self) -> str:
        """What to call it."""
        return DISTANCE

    def expected(self, posterior: Posterior) -> Float[Tensor, "b"]:
        """Foretell the distance without its variance, which takes far longer.

        Args:
            posterior: Predicted effects.

        Returns:
            The root of the expected square.
        """
        columns, weights = self.target.columns, self.target.weights
        gap = self.target.values - posterior.mean[:, columns]
        return ((gap.square() + posterior.variance[:, columns]) @ weights / weights.sum()).sqrt()

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the distance: the root of the expected square, with the variance of a first-order expansion.

        Args:
            posterior: Predicted effects.

        Returns:
            Expectation and variance.
        """
        square, total = squared_distance(posterior, self.target), self.target.weights.sum()
        tiny = torch.finfo(square.mean.dtype).tiny
        return ScalarPosterior(
            (square.mean / total).sqrt(), square.variance / (4 * square.mean.clamp(min=tiny) * total)
        )

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Measure the distance.

        Args:
            effects: On all readouts of the screen.

        Returns:
            One distance per row.
        """
        gap = self.target.values - effects[:, self.target.columns]
        return ((gap.square() * self.target.weights).sum(1) / self.target.weights.sum()).sqrt()
