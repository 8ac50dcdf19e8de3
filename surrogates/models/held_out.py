"""Perturbations that a fit has not seen, and what it predicts of them: the material of every calibration."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.novelty import novelty_code
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted
from surrogates.uncertainty.conformal import refuse_nan
from surrogates.uncertainty.residuals import StandardResiduals


@dataclass(frozen=True)
class HeldOutFit:
    """A fitted model, and what was measured of perturbations that it has not seen.

    The unit is the perturbation. Cells, wells or replicates of one perturbation are not exchangeable with those of
    another: they share its error, so that many of them tell hardly more than one.

    Attributes:
        fitted: A model that was fitted without them.
        batch: The perturbations, each once.
        effects: What was measured of each.
    """

    fitted: Fitted
    batch: PerturbationBatch
    effects: Float[Tensor, "n g"]

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, effects that are NaN, and rows that are no perturbations of their own."""
        if len(self.batch) != len(self.effects):
            raise CalibrationError(
                f"{len(self.batch)} held-out perturbations come with {len(self.effects)} effects"
            )
        if self.effects.shape[1] != len(self.fitted.readouts):
            raise CalibrationError(
                f"held-out effects of {self.effects.shape[1]} readouts do not fit a model of"
                f" {len(self.fitted.readouts)}"
            )
        refuse_nan(self.effects)
        distinct, counts = torch.unique(self.batch.genes, dim=0, return_counts=True)
        if bool((counts > 1).any()):
            most = int(counts.argmax())
            label = self.fitted.vocabulary.perturbation(distinct[most]).label
            raise CalibrationError(
                f"{label!r} stands in {int(counts[most])} of {len(self.batch)} held-out rows. Cells, wells and"
                " replicates of one perturbation share its error: intervals calibrated on them hold for more of"
                " the same, and fail for new perturbations. Give one effect per perturbation, such as the mean of"
                " its cells"
            )

    @property
    def codes(self) -> Int[Tensor, "n"]:
        """Novelty class of each held-out perturbation, given what the model has seen."""
        return novelty_code(self.batch, self.fitted.measured_alone)


@dataclass(frozen=True)
class HeldOutPredictions:
    """What models predicted of perturbations that none of them had seen.

    Attributes:
        batch: The perturbations; one that several models held out stands there as often.
        measured: Measured effect of each.
        mean: Predicted effect of each.
        scale: Posterior scale of each prediction.
    """

    batch: PerturbationBatch
    measured: Float[Tensor, "n g"]
    mean: Float[Tensor, "n g"]
    scale: Float[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.measured)

    @property
    def residuals(self) -> Float[Tensor, "n g"]:
        """Measured minus predicted."""
        return self.measured - self.mean

    @property
    def standardised(self) -> StandardResiduals:
        """The residuals in units of the posterior scale: what error laws are learnt from."""
        return StandardResiduals.of(self.residuals, self.scale)

    @classmethod
    def of(cls, fitted: Fitted, batch: PerturbationBatch, measured: Float[Tensor, "n g"]) -> "HeldOutPredictions":
        """Predict what a model has not seen.

        Args:
            fitted: The model.
            batch: The perturbations.
            measured: What was measured of each.

        Returns:
            Both side by side.
        """
        posterior = fitted.predict(batch)
        return cls(batch, measured, posterior.mean, posterior.scale)

    @classmethod
    def pooled(cls, parts: Sequence["HeldOutPredictions"]) -> "HeldOutPredictions":
        """Pool what several models predicted.

        Args:
            parts: Predictions of the same readouts in the same vocabulary, at least one.

        Returns:
            All of them, part after part.
        """
        return cls(
            PerturbationBatch(
                torch.cat([part.batch.genes for part in parts]), torch.cat([part.batch.dose for part in parts])
            ),
            torch.cat([part.measured for part in parts]),
            torch.cat([part.mean for part in parts]),
            torch.cat([part.scale for part in parts]),
        )
