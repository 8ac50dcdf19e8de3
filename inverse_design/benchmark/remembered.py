"""Predictions that are made once: bounds of several kinds, levels and targets ask the same models the same."""

from dataclasses import dataclass, field, replace

from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import Fitted
from surrogates.models.conformal import FittedConformal
from surrogates.models.held_out import HeldOutFit
from surrogates.uncertainty.posterior import Posterior
from surrogates.uncertainty.scalar import Outcome, ScalarPosterior


@dataclass(frozen=True)
class RememberedFit:
    """A fitted model that predicts each batch once.

    Attributes:
        fitted: The model.
        known: Its predictions, by the ids of the batch; the doses follow from the ids.
    """

    fitted: Fitted
    known: dict[bytes, Posterior] = field(default_factory=dict)

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.fitted.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.fitted.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.fitted.measured_alone

    def predict(self, batch: PerturbationBatch) -> Posterior:
        """Predict as the model does; the same batch gives the same object.

        Args:
            batch: Ids of the vocabulary.

        Returns:
            The model's posterior.
        """
        ids = batch.genes.numpy().tobytes()
        if ids not in self.known:
            self.known[ids] = self.fitted.predict(batch)
        return self.known[ids]


@dataclass(frozen=True)
class RememberedOutcome:
    """An outcome that is foretold of each posterior once.

    Attributes:
        outcome: What is foretold.
        known: What was, beside the posterior, by the identity of that.
    """

    outcome: Outcome
    known: dict[int, tuple[Posterior, ScalarPosterior]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it."""
        return self.outcome.name

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the number.

        Args:
            posterior: Predicted effects.

        Returns:
            Its expectation and variance for each perturbation.
        """
        if id(posterior) not in self.known:  # which cannot be another's, as the posterior is kept
            self.known[id(posterior)] = posterior, self.outcome.predicted(posterior)
        return self.known[id(posterior)][1]

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Tell the number of measured effects.

        Args:
            effects: One row per perturbation.

        Returns:
            One number each.
        """
        return self.outcome.measured(effects)


def remembered(calibrated: FittedConformal) -> FittedConformal:
    """Let all models of a calibration remember.

    Args:
        calibrated: A model with conformal bounds.

    Returns:
        The same bounds, sooner.
    """
    folds = tuple(HeldOutFit(RememberedFit(fold.fitted), fold.batch, fold.effects) for fold in calibrated.folds)
    return replace(calibrated, fitted=RememberedFit(calibrated.fitted), folds=folds)
