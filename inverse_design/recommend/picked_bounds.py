"""Bounds for designed picks: calibrated on the best pick of every round that can be replayed on known data.

Picks are the best of many, and their errors differ from those of random candidates. For a state they are nearer
than expected: they resemble what made the target, and so do their errors. For a direction they fall short of it.
Both are seen in rounds that are replayed on known data. A fit that has not seen some perturbations picks the best
of them, and the error of that pick counts, signed and in standard deviations that the model states:

* for a state, every held-out perturbation is a target once, and the others of its fold are the candidates; the
  wanted target is one more for every fold;
* for a direction, the candidates are small groups of held-out perturbations, as large as leaves 20 rounds.

A pick is bounded by the conformal quantiles of these errors on either side, and never more narrowly than a random
candidate. One that may have made a state itself, by its posterior probability, can be as near as noise lets it.
Errors of past picks are among the replayed ones, and the level follows the misses of past rounds
(:mod:`surrogates.uncertainty.conformal.rounds`).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import SignedProjection, SquaredDistance
from inverse_design.problem.target import AlignedProfile
from surrogates.data.novelty import novelty_code, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.models.wrappers.stated_errors import measurement_variance
from surrogates.uncertainty.conformal.quantiles import attainable_level, conformal_quantile, least_count
from surrogates.uncertainty.conformal.rounds import AdaptiveLevel
from surrogates.uncertainty.posterior import ScalarPosterior

Ranker = SquaredDistance | TargetLikelihood | SignedProjection

_TARGETS, _CANDIDATES = 60, 200  # of a fold: more say hardly more, and cost their product
_FEWEST_ROUNDS = 20
_LIKE_RANDOM = "bounds of designed picks are those of random candidates, and may hold less often"


@dataclass(frozen=True)
class Replayed:
    """The best picks of replayed rounds."""

    error: Float[Tensor, "n"]  # measured less predicted outcome of each, in its stated standard deviations

    def __len__(self) -> int:
        return len(self.error)

    def bounds(self, predicted: ScalarPosterior, level: float) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Bound the outcome of new picks."""
        side, spread = (1 + level) / 2, predicted.variance.sqrt()
        low, high = (conformal_quantile(each, side) for each in (-self.error, self.error))
        return predicted.mean - low * spread, predicted.mean + high * spread


def replayed(ranker: Ranker, fitted: FittedCalibrated, code: int) -> Replayed:
    """Replay rounds on the held-out perturbations of a novelty class."""
    held_out = [(fold, torch.nonzero(fold.codes == code).flatten()[:_CANDIDATES]) for fold in fitted.cross]
    group = max(2, sum(len(rows) for _, rows in held_out) // _FEWEST_ROUNDS)
    picks = [
        _best_error(each, bench, among)
        for fold, rows in held_out
        if isinstance(fold.fitted, FittedCalibrated) and len(rows) > 1
        for bench in [_Bench.of(fold.fitted, fold, rows)]
        for each, among in _rounds(ranker, bench, group)
    ]
    return Replayed(torch.stack(picks) if picks else torch.zeros(0, dtype=torch.float64))


@dataclass(frozen=True)
class _Bench:
    """Perturbations that were measured and that a fit has not seen."""

    fitted: FittedCalibrated
    batch: PerturbationBatch
    effects: Float[Tensor, "n g"]

    @classmethod
    def of(cls, fitted: FittedCalibrated, fold: HeldOutFit, rows: Int[Tensor, "n"]) -> "_Bench":
        return cls(fitted, fold.batch.rows(rows), fold.effects[rows])


def _rounds(ranker: Ranker, bench: _Bench, group: int) -> Iterator[tuple[Ranker, Int[Tensor, "c"]]]:
    """Say in every round what is wanted, and which perturbations are the candidates."""
    rows = torch.arange(len(bench.batch))
    if isinstance(ranker, SignedProjection):
        yield from ((ranker, some) for some in rows.split(group) if len(some) > 1)
        return
    yield ranker, rows
    for made in rows[:_TARGETS].tolist():
        wanted = replace(ranker.target, values=bench.effects[made, ranker.target.columns])
        yield replace(ranker, target=wanted), rows[rows != made]


def _best_error(ranker: Ranker, bench: _Bench, among: Int[Tensor, "c"]) -> Float[Tensor, ""]:
    """Pick the best, and see by how much it errs."""
    batch = bench.batch.rows(among)
    best = int(ranker.utility(bench.fitted, batch).mean.argmax())
    predicted = ranker.outcome.predicted(bench.fitted.predict(batch.rows(torch.tensor([best]))))
    measured = ranker.outcome.measured(bench.effects[among[best]][None])
    spread = predicted.variance.sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    error: Tensor = ((measured - predicted.mean) / spread)[0]
    return error


@dataclass(frozen=True)
class PickedBounds:
    """Bounds of designed picks."""

    lower: Float[Tensor, "b"]  # lower bounds
    upper: Float[Tensor, "b"]  # upper bounds
    notes: tuple[str, ...]  # what stands behind them


def picked_bounds(
    ranker: Ranker,
    fitted: FittedCalibrated,
    batch: PerturbationBatch,
    random: tuple[Float[Tensor, "b"], Float[Tensor, "b"]],
    *,
    level: float,
    missed: Sequence[float] = (),
) -> PickedBounds:
    """Bound designed picks, class by class."""
    lower, upper = (each.clone() for each in random)
    needed, notes = least_count((1 + level) / 2), []
    codes = novelty_code(batch, fitted.measured_alone)
    for code in codes.unique().tolist():
        past, rows = replayed(ranker, fitted, code), torch.nonzero(codes == code).flatten()
        if len(past) < needed:
            few = f"{len(past)} rounds could be replayed, {needed} are needed"
            notes.append(f"warning: {_LIKE_RANDOM} ({novelty_name(code)}: {few})")
            continue
        stated = _followed(level, missed, len(past))
        low, high = past.bounds(ranker.outcome.predicted(fitted.predict(batch.rows(rows))), stated)
        lower[rows], upper[rows] = torch.minimum(lower[rows], low), torch.maximum(upper[rows], high)
        after = f", at {100 * stated:.3g} % after the misses of past rounds" if stated > level else ""
        notes.append(f"those of designed picks also hold the best picks of {len(past)} replayed rounds{after}")
    return PickedBounds(lower, upper, tuple(notes))


def _followed(level: float, missed: Sequence[float], rounds: int) -> float:
    """The level after the misses of past rounds: not below the nominal one, nor above what the rounds support."""
    adaptive = AdaptiveLevel.start(level)
    for share in missed:
        adaptive = adaptive.updated(share)
    return min(max(1 - adaptive.alpha, level), 2 * attainable_level(rounds) - 1)


def may_have_made(
    likelihood: TargetLikelihood, fitted: FittedCalibrated, batch: PerturbationBatch, *, level: float
) -> Bool[Tensor, "b"]:
    """Say which candidates may have made a target state themselves."""
    tail = (1 - level) / 2
    density = likelihood.utility(fitted, batch).mean
    codes, may = novelty_code(batch, fitted.measured_alone), density.softmax(0) >= tail
    for code in codes[may].unique().tolist():
        makers = _makers(likelihood, fitted, code)
        least = -conformal_quantile(-makers, 1 - tail) if len(makers) else -torch.inf
        may &= (codes != code) | (density >= least)
    return may


def _makers(likelihood: TargetLikelihood, fitted: FittedCalibrated, code: int) -> Float[Tensor, "n"]:
    """Log density of each held-out perturbation under itself, by a fit that has not seen it."""
    found = []
    for fold in fitted.cross:
        if isinstance(fold.fitted, FittedCalibrated):
            for row in torch.nonzero(fold.codes == code)[:_TARGETS].flatten().tolist():
                wanted = replace(likelihood.target, values=fold.effects[row, likelihood.target.columns])
                one = fold.batch.rows(torch.tensor([row]))
                found.append(replace(likelihood, target=wanted).utility(fold.fitted, one).mean)
    return torch.cat([*found, torch.zeros(0, dtype=torch.float64)])


def as_near_as_noise(
    lower: Float[Tensor, "b"], may: Bool[Tensor, "b"], target: AlignedProfile, screen: Screen, *, level: float
) -> Float[Tensor, "b"]:
    """Lower the bounds of candidates that may have made a target state themselves."""
    noise = measurement_variance(screen)[target.columns] * target.weights
    mean, square = float(noise.sum()), float(noise.square().sum())
    nearest = 0.0
    if mean > 0:
        # The square of the noise, by a gamma distribution of its mean and variance.
        quantile = scipy.special.gammaincinv(mean**2 / (2 * square), (1 - level) / 2) * 2 * square / mean
        nearest = math.sqrt(quantile / float(target.weights.sum()))
    return torch.where(may, lower.clamp(max=nearest), lower)
