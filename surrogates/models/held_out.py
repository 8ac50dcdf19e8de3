"""A fit with perturbations that it has not seen: the material of every calibration."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.novelty import novelty_code
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted
from surrogates.uncertainty.conformal import refuse_nan


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
