"""The baselines that stand beside every model: no change, the mean perturbation, the matching mean."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import PairFactors, PairScale, require_one_context, sum_over_interventions
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic


def residual_variance(residuals: Float[Tensor, "n g"]) -> Float[Tensor, "g"]:
    """Estimate the error variance of each readout from a model's own training residuals.

    These are in-sample, hence optimistic. An honest error model is learnt from held-out perturbations by a wrapper
    around the model; this one only makes the posterior proper.
    """
    return residuals.square().mean(0).clamp(min=torch.finfo(residuals.dtype).eps)


@dataclass(frozen=True)
class FittedMean:
    """Predicts the average, over the interventions of a perturbation, of one row per intervention.

    The control is predicted to have no effect.
    """

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    rows: Float[Tensor, "v g"]  # what each entry stands for, in the unit of the screen
    variance: Float[Tensor, "g"]  # in-sample residual variance of each readout, see :func:`residual_variance`

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        return isotropic(_average(self.rows, batch), self.variance)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs: the average of two rows."""
        return PairFactors.without_interactions(self.rows / 2)

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs: one for every pair."""
        return PairScale.constant(len(self.rows))

    def set_rows(self, order: int) -> Float[Tensor, "v g"]:
        """Share the average of some rows out among them."""
        return self.rows / order


@dataclass(frozen=True)
class NoChange:
    """Predicts that nothing has any effect."""

    def fit(self, screen: Screen, *, seed: int) -> FittedMean:  # noqa: ARG002 - nothing is random
        """Learn only how large effects are.

        Args:
            screen: Measured effects in one context.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has several contexts.
        """
        return _fitted(screen, screen.effects.new_zeros(len(screen.vocabulary), len(screen.readouts)))


@dataclass(frozen=True)
class PerturbationMean:
    """Predicts the mean of all training effects, whatever the perturbation."""

    def fit(self, screen: Screen, *, seed: int) -> FittedMean:  # noqa: ARG002 - nothing is random
        """Learn the mean effect.

        Args:
            screen: Measured effects in one context.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has several contexts.
        """
        return _fitted(screen, screen.effects.mean(0).expand(len(screen.vocabulary), -1))


@dataclass(frozen=True)
class MatchingMean:
    """Predicts from the training conditions that share an intervention [Viñas Torné 2025].

    Each intervention stands for the mean of all training conditions that contain it, or for the mean of all
    conditions if none does; a perturbation is the average over its interventions. A combination that was itself in
    the training data is therefore not reproduced.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedMean:  # noqa: ARG002 - nothing is random
        """Learn the mean of the conditions that contain each intervention.

        Args:
            screen: Measured effects in one context.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has several contexts.
        """
        rows, slots = torch.nonzero(screen.batch.present, as_tuple=True)
        entries = screen.batch.genes[rows, slots]
        empty = screen.effects.new_zeros(len(screen.vocabulary), len(screen.readouts))
        count = torch.bincount(entries, minlength=len(empty))[:, None]
        means = empty.index_add(0, entries, screen.effects[rows]) / count.clamp(min=1)
        return _fitted(screen, torch.where(count > 0, means, screen.effects.mean(0)))


def _fitted(screen: Screen, rows: Float[Tensor, "v g"]) -> FittedMean:
    require_one_context(screen)
    variance = residual_variance(screen.effects - _average(rows, screen.batch))
    return FittedMean(screen.vocabulary, screen.readouts, screen.single_rows >= 0, rows, variance)


def _average(rows: Float[Tensor, "v g"], batch: PerturbationBatch) -> Float[Tensor, "b g"]:
    return sum_over_interventions(rows, batch) / batch.order.clamp(min=1)[:, None]
