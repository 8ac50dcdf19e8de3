"""How often conformal bounds hold of held-out perturbations, beside the posterior's own, and how wide they are."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.objective import Distance
from inverse_design.problem.target import AlignedProfile
from inverse_design.validate.judged import Columns
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.evaluation.coverage import (
    all_covered_rows,
    covered_rows,
    expected_squared_errors,
    pit_shares,
    responding_readouts,
    width_rows,
)
from surrogates.evaluation.metrics import squared_errors
from surrogates.models.base import Fitted
from surrogates.models.wrappers.conformal import FittedConformal
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.uncertainty.posterior import Interval, Outcome, Posterior, ScalarPosterior


@dataclass(frozen=True)
class CachedFit:
    """A fitted model that predicts each batch once.

    Attributes:
        known: Its predictions, by the ids of the batch; the doses follow from the ids.
    """

    fitted: Fitted  # the model
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
        """Predict as the model does; the same batch gives the same object."""
        ids = batch.genes.numpy().tobytes()
        if ids not in self.known:
            self.known[ids] = self.fitted.predict(batch)
        return self.known[ids]


@dataclass(frozen=True)
class CachedOutcome:
    """An outcome that is predicted of each posterior once.

    Attributes:
        known: What was, beside the posterior, by the identity of that.
    """

    outcome: Outcome  # what is predicted
    known: dict[int, tuple[Posterior, ScalarPosterior]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What to call it."""
        return self.outcome.name

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the number."""
        if id(posterior) not in self.known:  # which cannot be another's, as the posterior is kept
            self.known[id(posterior)] = posterior, self.outcome.predicted(posterior)
        return self.known[id(posterior)][1]

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Tell the number of measured effects."""
        return self.outcome.measured(effects)


def remembered(calibrated: FittedConformal) -> FittedConformal:
    """Let all models of a calibration cache their predictions."""
    folds = tuple(HeldOutFit(CachedFit(fold.fitted), fold.batch, fold.effects) for fold in calibrated.folds)
    return replace(calibrated, fitted=CachedFit(calibrated.fitted), folds=folds)


GROUPS = ("all", "responding", "own")


@dataclass(frozen=True)
class HeldOutClass:
    """Held-out perturbations of one novelty class.

    Attributes:
        asks: For each state the perturbations that have it as a target: never the one that made it.
    """

    code: int  # the class
    batch: PerturbationBatch  # the perturbations
    effects: Float[Tensor, "b g"]  # what was measured of each
    own: Bool[Tensor, "b g"]  # readouts that are targets of each
    states: Float[Tensor, "t g"]  # measured effects of held-out perturbations, which are targets in turn
    asks: Bool[Tensor, "t b"]


def percent(level: float) -> str:
    """Write a level into the name of a metric."""
    return f"{100 * level:.6g}"


def judge_posterior(posterior: Posterior, held: HeldOutClass, levels: Sequence[float]) -> Columns:
    """Judge what a model says of its own uncertainty."""
    columns: dict[str, Tensor] = {
        "pit": pit_shares(posterior, held.effects),
        "sharpness": posterior.variance.sqrt().mean(1),
        "spread": expected_squared_errors(posterior),
        "error": squared_errors(posterior.mean, held.effects),
    }
    for level in levels:
        columns |= _of_interval("posterior_", posterior.interval(level), posterior, held)
    return columns


def judge_intervals(
    calibrated: FittedConformal, posterior: Posterior, held: HeldOutClass, levels: Sequence[float]
) -> Columns:
    """Judge conformal bounds.

    Raises:
        CalibrationError: If too few perturbations were held out for a level.
    """
    columns: dict[str, Tensor] = {}
    every, quick = torch.ones_like(held.own), remembered(calibrated)
    small = {level: standing_behind(quick, held.code, level) for level in levels}
    bands = {level: each.band(held.batch, level) for level, each in small.items()}
    for level, each in small.items():
        columns |= _of_interval("", each.interval(held.batch, level), posterior, held)
        columns[f"band_coverage_{percent(level)}"] = all_covered_rows(bands[level], held.effects)
        columns[f"band_width_{percent(level)}"] = width_rows(bands[level], every)
    return {**columns, **_of_distances(small, bands, held)}


def standing_behind(calibrated: FittedConformal, code: int, level: float) -> FittedConformal:
    """Leave out the held-out perturbations that say nothing of a class: the bounds are the same, and sooner there.

    Raises:
        CalibrationError: If there are too few for the level.
    """
    kept = torch.zeros(len(calibrated.codes), dtype=torch.bool)
    kept[calibrated.calibration(code, level).rows] = True
    folds = []
    for fold, mask in zip(
        calibrated.folds, kept.split([len(fold.batch) for fold in calibrated.folds]), strict=True
    ):
        if bool(mask.any()):
            rows = torch.nonzero(mask).flatten()
            folds.append(HeldOutFit(fold.fitted, fold.batch.rows(rows), fold.effects[rows]))
    return replace(calibrated, folds=tuple(folds))


def implied_distances(band: Interval, target: Float[Tensor, "g"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Bound the root mean square distance to a target by what a band allows each readout."""
    below, above = band.lower - target, target - band.upper
    nearest = torch.maximum(below, above).clamp(min=0)
    farthest = torch.maximum(below.abs(), above.abs())
    return nearest.square().mean(1).sqrt(), farthest.square().mean(1).sqrt()


def _of_interval(kind: str, interval: Interval, posterior: Posterior, held: HeldOutClass) -> Columns:
    chosen = {
        "all": torch.ones_like(held.own),
        "responding": responding_readouts(posterior.mean),
        "own": held.own,
    }
    said = percent(interval.level)
    coverage = {
        f"{kind}coverage_{said}_{group}": covered_rows(interval, held.effects, chosen[group]) for group in GROUPS
    }
    return coverage | {f"{kind}width_{said}_{group}": width_rows(interval, chosen[group]) for group in GROUPS}


def _of_distances(
    calibrated: dict[float, FittedConformal], bands: dict[float, Interval], held: HeldOutClass
) -> Columns:
    """Average over the targets of each perturbation: it is the unit, its targets share its error."""
    found = {level: torch.full((3, *held.asks.shape), torch.nan, dtype=torch.float64) for level in calibrated}
    for number, (state, asks) in enumerate(zip(held.states, held.asks, strict=True)):
        rows = torch.nonzero(asks).flatten()
        if not len(rows):
            continue
        outcome = CachedOutcome(Distance(AlignedProfile.exact(range(len(state)), state)))
        truth = outcome.measured(held.effects[rows])
        for level, each in calibrated.items():
            bounds, band = each.scalar(outcome, held.batch.rows(rows), level), bands[level]
            low, high = implied_distances(Interval(band.lower[rows], band.upper[rows], level), state)
            found[level][0, number, rows] = ((bounds.lower <= truth) & (truth <= bounds.upper)).double()
            found[level][1, number, rows] = bounds.upper - bounds.lower
            found[level][2, number, rows] = high - low
    names = ("distance_coverage", "distance_width", "implied_width")
    return {
        f"{name}_{percent(level)}": each.nanmean(0)
        for level, three in found.items()
        for name, each in zip(names, three, strict=True)
    }
