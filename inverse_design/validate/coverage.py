"""How often conformal bounds and inverse sets hold of held-out perturbations, and how wide they are.

Of bounds, beside the posterior's own. Of sets and first rows, a held-out double is the target; the rows are the
held-out doubles of the fold, which nothing has seen and of which it is known what was measured; the first of them
is the one that a proposal would put first. Its distance is zero if it made the target, which then is its own
measurement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.candidates import DOUBTED
from inverse_design.problem.likelihood import TargetLikelihood, replicates
from inverse_design.problem.objective import Distance
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.first_rows import Bench, FirstRows, RowLaw, first_rows
from inverse_design.search.identification import NEAR, Identification, Rule, Total, asked_again, identify
from inverse_design.search.inverse_set import UNEXPLAINED, calibrate_set, inverse_set
from inverse_design.search.survey import surveys
from inverse_design.validate.judged import Columns
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import CalibrationError
from surrogates.evaluation.metrics import (
    all_covered_rows,
    covered_rows,
    expected_squared_errors,
    pit_shares,
    responding_readouts,
    squared_errors,
    width_rows,
)
from surrogates.models.base import Fitted
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.conformal import FittedConformal
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.models.wrappers.stated_errors import StatedErrors
from surrogates.uncertainty.posterior import Interval, Outcome, Posterior, ScalarPosterior


@dataclass(frozen=True)
class CachedFit:
    """A fitted model that predicts each batch once."""

    fitted: Fitted  # the model
    known: dict[bytes, Posterior] = field(default_factory=dict)  # by the ids of a batch

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
    """An outcome that is predicted of each posterior once."""

    outcome: Outcome  # what is predicted
    # What was, beside the posterior, by the identity of that.
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
    """Held-out perturbations of one novelty class."""

    code: int  # the class
    batch: PerturbationBatch  # the perturbations
    effects: Float[Tensor, "b g"]  # what was measured of each
    own: Bool[Tensor, "b g"]  # readouts that are targets of each
    states: Float[Tensor, "t g"]  # measured effects of held-out perturbations, which are targets in turn
    asks: Bool[Tensor, "t b"]  # for each state the perturbations that have it as a target, but its own maker


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
    """Judge conformal bounds."""
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
    """Leave out the held-out perturbations that say nothing of a class: the bounds stay, and take less time."""
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
    chosen = {"all": torch.ones_like(held.own), "responding": responding_readouts(posterior.mean), "own": held.own}
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


_LIKELY = 0.5  # from this probability on a first row is taken as the maker


@dataclass(frozen=True)
class FirstRowJudge:
    """A fitted surrogate, what its own held-out doubles say of first rows, and doubles that it has not seen."""

    bench: Bench  # the unseen doubles
    rows: FirstRows  # first rows of the held-out doubles of the surrogate
    training: Screen  # what it was fitted to
    seed: int  # fixes the draws of noise

    @classmethod
    def of(
        cls,
        fitted: FittedCalibrated,
        space: CombinationSpace,
        unseen: tuple[PerturbationBatch, Float[Tensor, "b g"]],
        *,
        training: Screen,
        found: Identification,
        seed: int,
    ) -> "FirstRowJudge":
        """Learn what first rows show."""
        batch, effects = unseen
        target = AlignedProfile.exact(range(effects.shape[1]), effects[0])
        prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
        stated = StatedErrors.of(fitted)
        rows = first_rows(TargetLikelihood(target, prior), prior, stated, space, found, seed=seed)
        return cls(Bench.of(stated.whole, batch, effects, space), rows, training, seed)

    def of_target(
        self, number: int, levels: Sequence[float], *, total: Total, explained: bool
    ) -> Mapping[str, float]:
        """Judge the first row of one of the doubles as a target."""
        fitted, effects = self.bench.fitted, self.bench.effects
        target = AlignedProfile.exact(range(effects.shape[1]), effects[number])
        prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
        row = self.bench.first(TargetLikelihood(target, prior), prior, number, total)
        likely = bool(row.probability[0] >= _LIKELY)
        found = {"first_probability": float(row.probability[0])}
        made = row.probability * (1.0 if explained else DOUBTED)
        for level in levels:
            try:
                noise = replicates(
                    target, self.training, fitted.evidence.get(SEEN_DOUBLE), variance=None, seed=self.seed
                )
                law = RowLaw.learn(self.rows, noise, level)
            except CalibrationError:
                continue
            stated = law.state(made, row.expected)
            holds = float((stated.lower <= row.measured) & (row.measured <= stated.upper))
            found[f"first_coverage_{percent(level)}"] = holds
            found[f"first_width_{percent(level)}"] = float(stated.upper - stated.lower)
            found[f"first_likely_coverage_{percent(level)}"] = holds if likely else torch.nan
            found[f"first_unlikely_coverage_{percent(level)}"] = torch.nan if likely else holds
        return found


_LISTED = 10  # candidates that a user is taken to look at


@dataclass(frozen=True)
class JudgedSets:
    """What was found of the sets of one fold."""

    # ``set_coverage_L`` and ``set_size_L`` for every level that could be calibrated; ``reachable``,
    # ``reachable_permuted`` and ``reachable_negated``, p-values of "some candidate explains this target";
    # ``probability`` of the first candidate and ``hit``, whether it is the truth; ``first_ten``, whether the truth
    # is among the first ten; ``log_probability`` of the truth, in nats; and what
    # :meth:`inverse_design.validate.coverage.FirstRowJudge.of_target` says of first rows.
    columns: Columns
    rules: Mapping[float, Rule]  # by which number the sets of each level were made
    candidates: int  # of how many the sets are
    refused: Mapping[str, str]  # by what could not be calibrated, why


def judge_sets(
    fitted: FittedCalibrated,
    space: CombinationSpace,
    batch: PerturbationBatch,
    effects: Float[Tensor, "b g"],
    levels: Sequence[float],
    *,
    seed: int,
    training: Screen | None = None,
    unexplained: bool = True,
) -> JudgedSets:
    """Make every held-out double the target once, and two that nothing explains of each.

    A target whose readouts are permuted is of the same size and is no effect of anything; a negated one is as
    smooth as any and points where no perturbation does.
    """
    judge = _Judge(fitted, space, identify(_likelihood(fitted, effects[0]), fitted, space, seed=seed))
    first = None
    if training is not None:
        unseen = (batch, effects)
        first = FirstRowJudge.of(fitted, space, unseen, training=training, found=judge.found, seed=seed)
    rules: dict[float, Rule] = {}
    refused: dict[str, str] = {}
    for level in levels:
        try:
            rules[level] = calibrate_set(judge.found, level).rule
        except CalibrationError as error:
            refused[f"{percent(level)} % set"] = str(error)
    smallest = 1 / (len(judge.found) + 1)
    telling = smallest <= UNEXPLAINED
    if not telling:
        refused["p-value"] = f"{len(judge.found)} held-out doubles give none below {smallest:.2g}"
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for number, effect in enumerate(effects):
        row, total = judge.of_target(batch.rows(torch.tensor([number])), effect, list(rules))
        if telling:
            row["reachable"] = judge.reachable(effect)
        if telling and unexplained:
            shuffled = effect[torch.randperm(len(effect), generator=generator)]
            row["reachable_permuted"] = judge.reachable(shuffled)
            row["reachable_negated"] = judge.reachable(-effect)
        if first is not None:
            explained = row.get("reachable", 1.0) > UNEXPLAINED
            row |= first.of_target(number, levels, total=total, explained=explained)
        rows.append(row)
    columns = {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in rows[0]}
    return JudgedSets(columns, rules, space.count_valid, refused)


@dataclass(frozen=True)
class _Judge:
    """A fitted surrogate that knows how well its cross-fits identify."""

    fitted: FittedCalibrated
    space: CombinationSpace
    found: Identification

    def of_target(
        self, truth: PerturbationBatch, effect: Float[Tensor, "g"], levels: Sequence[float]
    ) -> tuple[dict[str, float], Total]:
        """Find the sets of a target of which the truth is known, and the sums over all candidates."""
        look = surveys([_likelihood(self.fitted, effect)], self.fitted, self.space, NEAR)[0]
        likelihood, listed, log_sum = look.known, look.best(NEAR), look.log_sum
        best = float(listed.score[0])
        found = (self.space.take(listed.index[:_LISTED]).genes[:, :2] == truth.genes[0, :2]).all(1)
        row = {
            "probability": float(torch.tensor(best - log_sum).exp()),
            "hit": float(found[0]),
            "first_ten": float(found.any()),
        }
        density = likelihood.utility(self.fitted, truth).mean
        row["log_probability"] = float(density[0]) - log_sum
        for level in levels:
            answer = inverse_set(
                likelihood, self.fitted, self.space, listed, log_sum=log_sum, found=self.found, level=level
            )
            row[f"set_coverage_{percent(level)}"] = float(answer.holds(density)[0])
            row[f"set_size_{percent(level)}"] = float(answer.size)
        return row, Total(log_sum, likelihood.log_sums)

    def reachable(self, effect: Float[Tensor, "g"]) -> float:
        """Take the p-value of a target, as the set of it states it."""
        found = asked_again(self.found, _likelihood(self.fitted, effect), self.fitted, self.space)
        return (1 + int((found.misfit >= found.asked_misfit).sum())) / (len(found) + 1)


def _likelihood(fitted: FittedCalibrated, effect: Float[Tensor, "g"]) -> TargetLikelihood:
    prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
    return TargetLikelihood(AlignedProfile.exact(range(len(effect)), effect), prior)
