"""The baselines beside every model: no change, means, and combinations as the sum of their parts, or scaled."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, class_distance, novelty_code, seen_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import (
    PairFactors,
    PairScale,
    require_one_context,
    single_effects,
    sum_over_interventions,
)
from surrogates.models.directions import ShrunkEffects
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

_ROWS = 64  # that are squared together


def residual_variance(residuals: Float[Tensor, "n g"]) -> Float[Tensor, "g"]:
    """Estimate the error variance of each readout from a model's own training residuals.

    These are in-sample, hence optimistic. An honest error model is learnt from held-out perturbations by a wrapper
    around the model; this one only makes the posterior proper.
    """
    total = torch.stack([rows.square().sum(0) for rows in residuals.split(_ROWS)]).sum(0)
    return (total / len(residuals)).clamp(min=torch.finfo(residuals.dtype).eps)


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
        """Learn only how large effects are."""
        return _fitted(screen, screen.effects.new_zeros(len(screen.vocabulary), len(screen.readouts)))


@dataclass(frozen=True)
class PerturbationMean:
    """Predicts the mean of all training effects, whatever the perturbation."""

    def fit(self, screen: Screen, *, seed: int) -> FittedMean:  # noqa: ARG002 - nothing is random
        """Learn the mean effect."""
        return _fitted(screen, screen.effects.mean(0).expand(len(screen.vocabulary), -1))


@dataclass(frozen=True)
class MatchingMean:
    """Predicts from the training conditions that share an intervention [Viñas Torné 2025].

    Each intervention stands for the mean of all training conditions that contain it, or for the mean of all
    conditions if none does; a perturbation is the average over its interventions. A combination that was itself in
    the training data is therefore not reproduced.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedMean:  # noqa: ARG002 - nothing is random
        """Learn the mean of the conditions that contain each intervention."""
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


@dataclass(frozen=True)
class CombinationLaw:
    """How the combinations of one novelty class depart from the sum of their parts: ``scale * sum + offset``."""

    code: int  # the novelty class, as numbered by :func:`surrogates.data.novelty.novelty_code`
    scale: float  # factor on the sum
    offset: Float[Tensor, "g"]  # what is added to each readout


@dataclass(frozen=True)
class FittedScaledAdditive:
    """Sums of single effects, with a law for each novelty class of combinations that the training data had."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    # Effect of each entry given alone, the mean single effect where it was not measured alone; or what makes it.
    singles: Float[Tensor, "v g"] | ShrunkEffects
    # One per novelty class with training combinations; with none, combinations are plain sums.
    laws: tuple[CombinationLaw, ...]
    variance: Float[Tensor, "g"]  # in-sample error variance of each readout

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        mean = self._sums(batch)
        codes = torch.where(batch.order > 1, novelty_code(batch, self.measured_alone), -1)
        for code in torch.unique(codes[codes >= 0]).tolist():
            law = self._law(code)
            mean[codes == code] = law.scale * mean[codes == code] + law.offset
        return isotropic(mean, self.variance)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs."""
        return PairFactors.without_interactions(self._scaled(self._law(SEEN_DOUBLE), 2))

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        return PairScale.constant(len(self.singles))

    def set_rows(self, order: int) -> Float[Tensor, "v g"]:
        """Share the scale and the offset of a class of combinations out among their parts."""
        return self._scaled(self._law(seen_code(order)), order)

    @property
    def table(self) -> Float[Tensor, "v g"]:
        """Effect of each entry given alone."""
        return self.singles if isinstance(self.singles, Tensor) else self.singles.rows()

    def _scaled(self, law: CombinationLaw, order: int) -> Float[Tensor, "v g"]:
        """Share out what a law makes of a sum of so many rows; a table that was just made is not copied."""
        made = (
            self.singles * law.scale if isinstance(self.singles, Tensor) else self.singles.rows().mul_(law.scale)
        )
        return made.add_(law.offset / order)

    def _sums(self, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
        if isinstance(self.singles, Tensor):
            return sum_over_interventions(self.singles, batch)
        entries, place = batch.genes[batch.present].unique(return_inverse=True)
        genes = batch.genes.clone()
        genes[batch.present] = place
        return sum_over_interventions(self.singles.rows(entries), replace(batch, genes=genes))

    def _law(self, code: int) -> CombinationLaw:
        """Take the law of a class, or else of the nearest class that has one."""
        unchanged = CombinationLaw(code, 1.0, torch.zeros_like(self.variance))
        return min(self.laws, key=lambda law: class_distance(law.code, code), default=unchanged)


@dataclass(frozen=True)
class Additive:
    """Predicts the sum of the measured single effects.

    An intervention that was never measured alone contributes the mean of all single effects.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:  # noqa: ARG002 - nothing is random
        """Look the single effects up; the variance is that of combinations, which are not used, or of singles."""
        return _with_laws(screen, laws=())


@dataclass(frozen=True)
class ScaledAdditive:
    """Predicts ``scale * sum + offset`` with the scale and the offset of the perturbation's novelty class.

    For the training combinations of a class, with ``sum`` over measured single effects (the mean single effect for
    interventions never measured alone), the scale is ``<sum, effect> / <sum, sum>`` and the offset the mean
    remainder, shrunk by ``n / (n + shrinkage)``. A class without training combinations borrows from the nearest
    one; without any, combinations are plain sums. Single perturbations are predicted as by :class:`Additive`.

    Attributes:
        shrinkage: How many combinations it takes for an offset to count half; not negative.
    """

    shrinkage: float = 5.0

    def __post_init__(self) -> None:
        """Refuse a negative shrinkage."""
        if not self.shrinkage >= 0:
            raise DataError(f"shrinkage {self.shrinkage!r} is negative; take 0 for none")

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:  # noqa: ARG002 - nothing is random
        """Learn the law of each novelty class of combinations; the variance is in-sample, hence optimistic."""
        singles, measured_alone = single_effects(screen)
        codes = torch.where(screen.batch.order > 1, novelty_code(screen.batch, measured_alone), -1)
        laws = []
        for code in torch.unique(codes[codes >= 0]).tolist():
            rows = torch.nonzero(codes == code).flatten()
            sums = sum_over_interventions(singles, screen.batch.rows(rows))
            laws.append(self._law(code, sums, screen.effects[rows]))
        return _with_laws(screen, laws=tuple(laws))

    def _law(self, code: int, sums: Float[Tensor, "n g"], effects: Float[Tensor, "n g"]) -> CombinationLaw:
        tiny = torch.finfo(sums.dtype).tiny
        scale = float((sums * effects).sum() / sums.square().sum().clamp(min=tiny))
        remainder = (effects - scale * sums).mean(0)
        return CombinationLaw(code, scale, remainder * len(sums) / (len(sums) + self.shrinkage))


def _with_laws(screen: Screen, *, laws: tuple[CombinationLaw, ...]) -> FittedScaledAdditive:
    singles, measured_alone = single_effects(screen)
    together = torch.nonzero(screen.batch.order > 1).flatten()
    spread = residual_variance(singles if bool(measured_alone.all()) else singles[measured_alone])
    fitted = FittedScaledAdditive(screen.vocabulary, screen.readouts, measured_alone, singles, laws, spread)
    if not len(together):
        return fitted
    residuals = screen.effects[together] - fitted.predict(screen.batch.rows(together)).mean
    return replace(fitted, variance=residual_variance(residuals))
