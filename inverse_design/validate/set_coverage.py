"""How often the inverse conformal set holds the truth, and how often the bounds of a first row hold its distance.

A held-out double is the target. The rows are the held-out doubles of the fold, which nothing has seen and of which
it is known what was measured; the first of them is the one that a proposal would put first. Its distance is zero
if it made the target, which then is its own measurement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.candidates import DOUBTED
from inverse_design.problem.likelihood import TargetLikelihood, replicates
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.exhaustive import evidence, normalised, search
from inverse_design.search.first_rows import Bench, FirstRows, RowLaw, first_rows
from inverse_design.search.inverse_set import (
    NEAR,
    UNEXPLAINED,
    Identification,
    Rule,
    Total,
    asked_again,
    calibrate_set,
    identify,
    inverse_set,
)
from inverse_design.validate.interval_coverage import percent
from inverse_design.validate.judged import Columns
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.stated_errors import StatedErrors

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
    """What was found of the sets of one fold.

    Attributes:
        columns: ``set_coverage_L`` and ``set_size_L`` for every level that could be calibrated; ``reachable``,
            ``reachable_permuted`` and ``reachable_negated``, p-values of "some candidate explains this target";
            ``probability`` of the first candidate and ``hit``, whether it is the truth; ``first_ten``, whether
            the truth is among the first ten; ``log_probability`` of the truth, in nats; and what
            :meth:`inverse_design.validate.set_coverage.FirstRowJudge.of_target` says of first rows.
    """

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
        likelihood = normalised(_likelihood(self.fitted, effect), self.fitted, self.space)
        listed = search(likelihood, self.fitted, self.space, NEAR).top
        best = float(listed.score[0])
        log_sum = evidence(likelihood, self.fitted, self.space, peak=best).log_sum
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
