"""A user's own list of experiments: what each is worth and gains, and which of them a budget should buy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import pandas as pd
import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.batch import Affordable, best_affordable
from inverse_design.acquisition.joint_gain import LIKELY, JointEffects, joint_effects, joint_gain
from inverse_design.acquisition.quadratic import NormalScores
from inverse_design.acquisition.utility import EffectLaw, Incumbent, Nearness, Utility, best_measured, utility_of
from inverse_design.candidates import outcome_bounds, percentage
from inverse_design.fitting import SurrogateLike, calibrated_fit
from inverse_design.planning.course import Course, Watch
from inverse_design.planning.experiments import ListedExperiments
from inverse_design.problem.constraints import Constraint, Constraints
from inverse_design.problem.explanation import explain
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import SignedProjection, SquaredDistance
from inverse_design.problem.target import AlignedProfile, Target, endless
from inverse_design.screens import ScreenLike
from inverse_design.targets import TargetLike
from surrogates.data.novelty import novelty_code, novelty_name
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.executors import Workers
from surrogates.fit_cache import USER_CACHE, FitCache
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.summary import as_html, lines_of, wrapped
from surrogates.team import fits_over
from surrogates.threads import limited_threads, threads_for
from surrogates.uncertainty.conformal.quantiles import require_level

_AT_ONCE = 128  # candidates whose covariance factors are held together
MEASURED = "measured"
_HOPELESS = (
    "no experiment of the list is expected to gain anything; the order is that of how probably each made the"
    " target, or of how far it goes"
)


@dataclass(frozen=True)
class ScreenObjective:
    """What is wanted of effects on a screen, and the best that was measured."""

    utility: Utility  # of effects
    endless: AlignedProfile  # its target for explanations, with the end of a mere direction out of reach
    incumbent: Incumbent  # the best that was measured

    @classmethod
    def of(cls, target: Target, screen: Screen) -> "ScreenObjective":
        """Ask for a target on a screen."""
        aligned = target.on(screen.readouts)
        utility = utility_of(target, aligned)
        return cls(utility, endless(target, aligned), best_measured(utility, aligned, screen))

    @property
    def aligned(self) -> AlignedProfile:
        """The target in the coordinates of the screen."""
        return self.utility.target

    @property
    def searched(self) -> SquaredDistance | SignedProjection:
        """The objective of searches, whose outcome the utility is made of."""
        return SquaredDistance(self.aligned) if self.is_state else SignedProjection(self.aligned)

    @property
    def is_state(self) -> bool:
        """Whether there is a state to come near to; else there is a direction to go."""
        return isinstance(self.utility, Nearness)

    def likelihood(self, screen: Screen) -> TargetLikelihood:
        """Ask under which candidates the target is likely, which tells where no gain does."""
        return TargetLikelihood(self.aligned, torch.zeros(len(screen.vocabulary), dtype=torch.float64))

    def outcome(self, utility: float) -> float:
        """Turn a utility into the outcome that an experiment shows: a distance, or a projection."""
        return -utility if self.is_state else utility


@dataclass(frozen=True)
class Valuation:
    """What some experiments that were not done are worth."""

    # One row per candidate, in their order: perturbation, the outcome (``distance`` or ``projection``), lower,
    # upper, expected_gain, gain_lower, gain_upper, probability, novelty, nearest_measured, reason.
    table: pd.DataFrame
    joint: JointEffects  # the joint posterior of their effects
    alone: NormalScores  # how much each improves on the best observed
    notes: tuple[str, ...]  # what stands behind the bounds


def valuation_of(
    fitted: FittedCalibrated, batch: PerturbationBatch, objective: ScreenObjective, screen: Screen, *, level: float
) -> Valuation:
    """Value experiments."""
    joint = joint_effects(fitted, batch, objective.aligned.columns, screen)
    whole, folds = improvements(joint, objective)
    low, high = gain_interval(joint, whole.expected, folds, level=level)
    bounds = outcome_bounds(objective.searched, fitted, batch, level)
    reasons = [
        each
        for rows in torch.arange(len(batch)).split(_AT_ONCE)
        for each in explain(fitted, batch.rows(rows), objective.endless, screen, top=3)
    ]
    codes = novelty_code(batch, fitted.measured_alone).tolist()
    table = pd.DataFrame({
        "perturbation": [fitted.vocabulary.perturbation(genes).label for genes in batch.genes],
        bounds.name: bounds.expected.tolist(),
        "lower": bounds.lower.tolist(),
        "upper": bounds.upper.tolist(),
        "expected_gain": whole.expected.tolist(),
        "gain_lower": low.tolist(),
        "gain_upper": high.tolist(),
        "probability": whole.probability.tolist(),
        "novelty": [novelty_name(code) for code in codes],
        "nearest_measured": [each.nearest for each in reasons],
        "reason": [each.reason for each in reasons],
    })  # fmt: skip
    return Valuation(table, joint, whole, bounds.notes)


def improvements(joint: JointEffects, objective: ScreenObjective) -> tuple[NormalScores, Float[Tensor, "j b"]]:
    """Compare candidates with the best observed, by the whole fit and by each cross-fit."""
    b, law = len(joint), joint.marginal()
    every = EffectLaw(
        torch.cat([law.mean, *joint.leave_one_out()]),
        torch.cat([law.shared, torch.zeros_like(law.shared).repeat(len(joint.used), 1, 1)]),
        law.covariances,
        law.group.repeat(1 + len(joint.used)),
        law.spread.repeat(1 + len(joint.used)),
    )
    found = objective.utility.improvement(every, objective.incumbent.utility)
    rows = torch.arange(len(every.mean))
    return found.rows(rows[:b]), found.rows(rows[b:]).expected.reshape(-1, b)


def gain_interval(
    joint: JointEffects, expected: Float[Tensor, "b"], gains: Float[Tensor, "j b"], *, level: float
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Say how far the cross-fits agree on expected gains.

    Each fit without one of ``K`` parts of the combinations predicts a gain of its own; their jackknife error is
    ``((K - 1) / K sum_k (G_k - mean)²)^(1/2)``, with ``K - 1`` degrees of freedom.
    """
    folds, used = joint.folds, joint.used
    count = folds.clamp(min=1)
    centre = torch.where(used, gains, 0.0).sum(0) / count
    square = torch.where(used, (gains - centre).square(), 0.0).sum(0) * (folds - 1).clamp(min=0) / count
    quantile = torch.from_numpy(scipy.special.stdtrit((folds - 1).clamp(min=1).numpy(), (1 + level) / 2))
    half = torch.where(folds > 1, quantile * square.sqrt(), math.nan)
    return (expected - half).clamp(min=0), expected + half


@dataclass(frozen=True)
class Ranking:
    """A ranked list of experiments.

    Attributes:
        table: One row per experiment, the best first: rank, perturbation, the outcome (``distance`` or
            ``projection``), lower, upper, expected_gain, gain_lower, gain_upper, probability, novelty,
            nearest_measured, reason; with costs also cost and gain_per_cost, with a budget also chosen.
        affordable: The best set within the budget, as rows of the table; ``None`` without a budget.
    """

    table: pd.DataFrame
    affordable: Affordable | None
    incumbent: str  # name of the best that was measured
    best: float  # its outcome, without its noise
    fitted: FittedCalibrated  # the surrogate with its error models
    target: Target  # what was asked for
    notes: tuple[str, ...]  # what the reader should know, warnings first

    @property
    def verdict(self) -> str:
        """The answer in a sentence or two: the first experiment, what it is expected to gain, and how likely."""
        first = self.table.iloc[0]
        beside = f"the best that was measured is {self.incumbent}, {self.best:.3g}"
        if not float(self.table["probability"].max()) >= LIKELY:
            return (
                f"No experiment of the list is likely to gain anything: {beside}. First: {first['perturbation']}."
            )
        chance = percentage(float(first["probability"]))
        name = next(name for name in ("distance", "projection") if name in first)
        return (
            f"Best: {first['perturbation']}, {chance} likely to improve on what was measured. Expected {name}"
            f" {first[name]:.3g}, expected gain {first['expected_gain']:.3g}; {beside}."
        )

    def __repr__(self) -> str:
        bought = self.affordable
        return lines_of(
            *wrapped(self.verdict),
            f"Ranking for {self.target.name!r}, model {self.fitted.name}",
            "" if bought is None else f"the budget buys {len(bought.numbers)} for {bought.cost:,.6g}",
            *[note for note in self.notes if note.startswith("warning")][:1],
            f"table of {len(self.table)} rows, notes",
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self).splitlines()[:-1], self.table.drop(columns="reason"), rows=20)


def rank(  # noqa: PLR0913 - the verb's own words; all but three have defaults
    screen: ScreenLike,
    target: TargetLike,
    experiments: Sequence[str | Perturbation],
    *,
    costs: Sequence[float] | None = None,
    budget: float | None = None,
    constraints: Constraints | Sequence[Constraint] | None = None,
    surrogate: SurrogateLike = None,
    level: float = 0.9,
    standardise: bool = False,
    seed: int = 0,
    progress: Watch | None = None,
    cache: FitCache | None = USER_CACHE,
    workers: Workers = 1,
) -> Ranking:
    """Rank experiments that could be done by what they are expected to gain, per cost if costs are given.

    Example:
        >>> listed = ["CEBPE+KLF1", "AHR+KLF1"]
        >>> ranking = rank(screen, "CEBPE+KLF1", listed, costs=[2.0, 1.0], budget=2.0, surrogate="additive")
        >>> ranking.affordable.cost
        2.0

    Args:
        screen: Measured effects in one context: a screen, or what :func:`read_screen` reads as it is.
        target: A condition of the screen (its profile is then left out of the training data), or anything else
            that :func:`propose` takes as a target.
        experiments: Labels or perturbations, of any order; those that were measured are listed without gain.
        costs: Of each experiment, in any unit; not negative.
        constraints: What may be done; experiments that they rule out are left out of the list.
        budget: In the unit of the costs; every experiment costs one if no costs are given.
        surrogate: The forward model, as in :func:`propose`.
        level: Probability of all bounds.
        standardise: Whether each readout counts in units of its usual single effect, as in :func:`propose`.
        seed: Fixes the folds of the fit; nothing else is random.
        progress: Called with how far all of the work is; the logger ``inverse_design`` says it, too.
        cache: Where fits are kept, and looked up; ``None`` to fit in any case.
        workers: Processes that share a long fit, or the address of a scheduler of ``dask.distributed``. The answer
            does not depend on it.

    Returns:
        The ranked list; equal input gives equal output.

    Raises:
        UnknownNameError: If an experiment holds a gene that the screen does not know.
        DataError: If the list is empty or names an experiment twice, a cost cannot be one, or the screen or the
            target cannot be used.
        NothingToProposeError: If the budget is below the cheapest experiment, or all were measured or ruled out.
        WorkerError: If a worker dies, or the scheduler cannot be used.
    """
    require_level(level)
    asked = ListedExperiments.of(
        screen,
        target,
        experiments,
        costs=costs,
        budget=budget,
        constraints=constraints,
        surrogate=surrogate,
        standardise=standardise,
        seed=seed,
        cache=cache,
        workers=workers,
    )
    return ranking_of(asked, level=level, course=asked.plan.begin(progress))


def ranking_of(asked: ListedExperiments, *, level: float, course: Course) -> Ranking:
    """Rank what was found to be worth ranking, and planned."""
    require_level(level)
    question, batch, prices, done = asked.question, asked.batch, asked.prices, asked.done
    objective = ScreenObjective.of(question.target, question.training)
    few = partial(limited_threads, threads_for(question.training))
    with few(), fits_over(asked.workers), course.stage():
        fitted = calibrated_fit(
            question.training, asked.surrogate, unseen=asked.unseen, seed=asked.seed, beside=asked.beside
        )
    new = _sorted_by_label(torch.nonzero(~done).flatten(), batch, question.training)
    with few(), course.stage():
        valuation = valuation_of(fitted, batch.rows(new), objective, question.training, level=level)
        bought = None
        if asked.budget is not None:
            bought = best_affordable(
                joint_gain(valuation.joint, valuation.alone, objective.utility), prices[new], asked.budget
            )
    tie = valuation.table[objective.utility.name].tolist()
    if objective.is_state:  # where nothing is to be gained, what most probably made the target comes first
        tie = objective.likelihood(question.training).utility(fitted, batch.rows(new)).mean.tolist()
    known = _of_measured(batch.rows(torch.nonzero(done).flatten()), objective, question.training)
    fresh = _priced(valuation.table, prices[new], bought).assign(tie=tie)
    table = pd.concat([fresh, _priced(known, prices[done], None).assign(tie=0.0)])
    shown = _ordered(table, by_cost=asked.by_cost)
    return Ranking(
        table=shown.drop(columns=_unasked(asked)),
        affordable=bought and _in_rows(bought, valuation, shown),
        incumbent=objective.incumbent.label,
        best=objective.outcome(objective.incumbent.utility),
        fitted=fitted,
        target=question.target,
        notes=_notes(fitted, valuation, done, asked.remarks),
    )


def _sorted_by_label(rows: Int[Tensor, "c"], batch: PerturbationBatch, screen: Screen) -> Int[Tensor, "c"]:
    """The order of the list is no reason to buy one experiment and not another."""
    labels = [screen.vocabulary.perturbation(batch.genes[row]).label for row in rows.tolist()]
    return rows[torch.tensor(sorted(range(len(rows)), key=labels.__getitem__), dtype=torch.int64)]


def _of_measured(batch: PerturbationBatch, objective: ScreenObjective, screen: Screen) -> pd.DataFrame:
    """What was measured is known, and gains nothing."""
    labels = [screen.vocabulary.perturbation(genes).label for genes in batch.genes]
    rows = torch.tensor([screen.labels.index(label) for label in labels], dtype=torch.int64)
    utilities = objective.utility.utility(screen.effects[rows][:, objective.aligned.columns])
    said = f"measured already: its {objective.utility.name} is known"
    return pd.DataFrame({
        "perturbation": labels,
        objective.utility.name: [objective.outcome(each) for each in utilities.tolist()],
        "lower": math.nan,
        "upper": math.nan,
        "expected_gain": 0.0,
        "gain_lower": 0.0,
        "gain_upper": 0.0,
        "probability": 0.0,
        "novelty": MEASURED,
        "nearest_measured": labels,
        "reason": [said] * len(labels),
    })  # fmt: skip


def _priced(table: pd.DataFrame, prices: Float[Tensor, "b"], bought: Affordable | None) -> pd.DataFrame:
    """Add costs, gain per cost, and whether a row was bought."""
    chosen = [False] * len(table)
    for number in [] if bought is None else bought.numbers.tolist():
        chosen[number] = True
    gains = torch.tensor(table["expected_gain"].tolist(), dtype=torch.float64)
    rate = torch.where(gains > 0, gains / prices, 0.0)
    return table.assign(cost=prices.tolist(), gain_per_cost=rate.tolist(), chosen=chosen)


def _ordered(table: pd.DataFrame, *, by_cost: bool) -> pd.DataFrame:
    keys = ["gain_per_cost" if by_cost else "expected_gain", "tie", "perturbation"]
    # What was measured comes last among what gains nothing.
    ordered = table.assign(known=table["novelty"] == MEASURED).sort_values(
        ["known", *keys], ascending=[True, False, False, True], kind="stable"
    )
    ordered.insert(0, "rank", range(1, len(table) + 1))
    last = ["novelty", "nearest_measured", "reason"]
    first = [name for name in ordered if name not in {*last, "known", "tie"}]
    return ordered[[*first, *last]].reset_index(drop=True).astype({"chosen": "boolean"})


def _unasked(asked: ListedExperiments) -> list[str]:
    return ([] if asked.by_cost else ["cost", "gain_per_cost"]) + (["chosen"] if asked.budget is None else [])


def _in_rows(bought: Affordable, valuation: Valuation, shown: pd.DataFrame) -> Affordable:
    labels = valuation.table["perturbation"].to_numpy()[bought.numbers.numpy()]
    rows = [shown.index[shown["perturbation"] == label][0] for label in labels]
    return replace(bought, numbers=torch.tensor(rows, dtype=torch.int64))


def _notes(
    fitted: FittedCalibrated, valuation: Valuation, done: Bool[Tensor, "b"], remark: tuple[str, ...]
) -> tuple[str, ...]:
    held_out = fitted.held_out
    notes = [*remark, *valuation.notes]
    if held_out.conditions == 0:
        notes.append("warning: no held-out combination could test the model or its error law")
    elif held_out.ratio >= 1:
        notes.append(f"warning: the model does not beat additive: {held_out.ratio:.3f} of its squared error")
    largest, chance = (float(valuation.table[name].max()) for name in ("expected_gain", "probability"))
    if not largest > 0:
        notes.append(f"warning: {_HOPELESS}")
    elif chance < LIKELY:
        notes.append(
            f"warning: no experiment of the list is likely to gain anything: none has a chance of {LIKELY:g} or"
            f" more, and the largest expected gain is {largest:.2g}"
        )
    if count := int(done.sum()):
        notes.append(f"{count} of {len(done)} experiments were measured already and gain nothing")
    return tuple(sorted(notes, key=lambda note: not note.startswith("warning")))
