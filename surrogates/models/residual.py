"""A model of what another model leaves over."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import Fitted, Surrogate
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic


@dataclass(frozen=True)
class FittedResidual:
    """The sum of a model and of the correction learnt on its residuals.

    Attributes:
        base: The first model.
        correction: The second, of the first one's residuals.
        variance: In-sample error variance of each readout.
    """

    base: Fitted
    correction: Fitted
    variance: Float[Tensor, "g"]

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.base.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.base.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.base.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations.

        Args:
            batch: Ids of this model's vocabulary.

        Returns:
            Effects with the same independent error for every perturbation.
        """
        return isotropic(self.base.predict(batch).mean + self.correction.predict(batch).mean, self.variance)


@dataclass(frozen=True)
class Residual:
    """Fits one surrogate, and another to its residuals on the training conditions.

    The residuals are in-sample: take a base of few parameters, such as scaled additive, or nothing is left to do.

    Attributes:
        base: What is fitted first.
        correction: What is fitted to the residuals. It sees them as effects, singles' included: those are zero
            when the base reproduces single effects.
    """

    base: Surrogate
    correction: Surrogate

    def fit(self, screen: Screen, *, seed: int) -> FittedResidual:
        """Fit the one, then the other.

        Args:
            screen: Measured effects in one context.
            seed: Fixes both fits.

        Returns:
            The fitted sum.

        Raises:
            DataError: If one of the two refuses the screen.
        """
        base = self.base.fit(screen, seed=seed)
        left = screen.effects - base.predict(screen.batch).mean
        correction = self.correction.fit(replace(screen, effects=left), seed=seed)
        return FittedResidual(base, correction, correction.predict(screen.batch).variance.mean(0))
