"""The main job: from a screen and a target to a ranked list of candidates."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from inverse_design.candidates import Inquiry, candidates_table, percentage, spread_table
from inverse_design.errors import NothingToProposeError
from inverse_design.fitting import ScreenFit, SurrogateLike, calibrated_fit
from inverse_design.planning.course import Course, Watch
from inverse_design.planning.question import Answerable, Prepared, Request, Tamed
from inverse_design.problem.constraints import Constraint, Constraints
from inverse_design.problem.explanation import Explanation, explain, graph_of
from inverse_design.problem.likelihood import Baselines, TargetLikelihood, baselines
from inverse_design.problem.objective import DISTANCE, ObjectiveName, OwnObjective, SquaredDistance
from inverse_design.problem.problem import (
    STANDARD,
    Order,
    data_remarks,
    range_remark,
    readout_remark,
    scale_remark,
)
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import ProfileTarget, Target, endless
from inverse_design.screens import ScreenLike
from inverse_design.search.api import CandidateList, Engine, Turns, best_by_turns, search_notes
from inverse_design.search.first_rows import RowLaw
from inverse_design.search.inverse_set import LISTED, CandidatePosterior, InverseSet
from inverse_design.search.survey import can_be_surveyed, is_calibrated
from inverse_design.search.topk import SearchResult, TopK
from inverse_design.targets import TargetLike
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.errors import DataError, some_of
from surrogates.fit_cache import USER_CACHE, FitCache
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.stated_errors import decompose
from surrogates.registry import installed_version
from surrogates.summary import MOST_LINES, as_html, lines_of, wrapped
from surrogates.team import fits_over
from surrogates.threads import limited_threads, threads_for
from surrogates.uncertainty.conformal.quantiles import require_level

if TYPE_CHECKING:
    from anndata import AnnData

_VERDICT_LINES = 3  # of what a console shows
_LARGEST_WITH_SET = 2  # order up to which the inverse set is read off a list of the best


@dataclass(frozen=True)
class Proposal:
    """A ranked list of candidates and what is known about it.

    Attributes:
        table: One row per candidate: rank, perturbation, order, utility, distance, lower, upper, beats_nothing,
            probability, in_set, novelty, nearest_measured, reason. ``distance`` is what a new measurement of the
            candidate is expected to differ from the target, as a root mean square over the target's readouts, in
            the unit of the screen; ``lower`` and ``upper`` bound it. One statement per row: with its
            ``probability`` the candidate made the target, and what is left is the noise of measurements (nothing,
            if the measurement itself is looked up); else it is what the error model says of rows chosen like
            these. A target that is no state has no distance, and ``lower`` and ``upper`` bound the utility.
            ``beats_nothing`` is whether what is expected is better than doing nothing. ``probability`` is empty
            where the target does not seem to be in the unit of the screen.
        explanations: Why, for each row of the table.
        search: The certified answer of the search.
        space: What was searched.
        fitted: The surrogate with its error models.
        target: What was asked for.
        notes: What the reader should know, most important first.
        spread: Why the effect of each row is unsure, as standard deviations (root mean square over the target's
            readouts): ``epistemic``, which more data would remove, ``aleatoric``, and the part of it that is
            ``measurement``.
        baselines: The distance (or score) of doing nothing and of the best measured condition.
        training: What was learnt from; without the target, if that is a condition of the screen.
        level: Probability of the bounds, and of the set.
        inverse_set: The smallest list of candidates that holds the perturbation behind the target, with
            probability ``level``; ``None`` for targets that are no state, and where too few doubles could be held
            out; for sets of three and more there is none.
        turns: The searches that filled the table by turns, for a state that need not have been made by any of the
            candidates; the table then has a column ``found_by``, its utility is the likelihood's, which ``search``
            is of, and probability and set are still about which candidate made the state. ``None`` where one
            search ranks.
        replicates: The distance by which two measurements of one perturbation differ, where that is known.
    """

    table: pd.DataFrame
    explanations: tuple[Explanation, ...]
    search: SearchResult
    space: CombinationSpace
    fitted: FittedCalibrated
    target: Target
    notes: tuple[str, ...]
    spread: pd.DataFrame
    baselines: Baselines
    training: Screen
    level: float = 0.9
    inverse_set: InverseSet | None = None
    turns: Turns | None = None
    replicates: float | None = None

    @property
    def unit(self) -> str:
        """Of effects and distances."""
        standard = self.training.provenance.get("unit") == STANDARD
        return "in usual single effects" if standard else "unit of the screen"

    @property
    def verdict(self) -> str:
        """The answer in plain words: the first row, how sure it is, and what it is worth."""
        best, at = self.table.iloc[0], self.baselines
        bounded = DISTANCE if DISTANCE in self.table else "utility"
        behind = at.best < best[bounded] if bounded == DISTANCE else at.best > best[bounded]
        nothing = f"doing nothing {at.nothing:.3g}"
        nothing += f"; {at.best_label}, which was measured, has {at.best:.3g}" if behind else ""
        bounds = "" if math.isnan(best["lower"]) else f" ({best['lower']:.3g} to {best['upper']:.3g})"
        noise = "" if self.replicates is None else f"; replicates differ by {self.replicates:.3g}"
        expected = f"Expected {bounded} {best[bounded]:.3g}{bounds}; {nothing}{noise}."
        if not bool(self.table["beats_nothing"].any()):
            return f"No row beats doing nothing. First: {best['perturbation']}. {expected}"
        return f"Best of {self.space.count_valid:,}: {best['perturbation']}{self._sure}. {expected}"

    @property
    def _sure(self) -> str:
        share, promise = float(self.table["probability"].iloc[0]), self.fitted.promise
        if math.isnan(share):
            return ""
        behind = "" if promise is None else f" (calibrated on {len(promise.parts)} held-out pairs)"
        made = "made this state" if self.turns is None else "made this state, if a candidate did"
        return f", {percentage(share)} likely to have {made}{behind}"

    def report(self, path: str | Path, *, truth: str = "") -> Path:
        """Write one self-contained page about it: verdict, candidates with reasons, figures, downloads.

        Args:
            path: An .html file, which is replaced if it is there.
            truth: The label of a held-out condition to mark.

        Returns:
            The file.
        """
        from inverse_design.report import write_page  # noqa: PLC0415 - figures and templates, where they are wanted
        from inverse_design.report.proposals import proposal_page  # noqa: PLC0415 - the same

        return write_page(proposal_page(self, truth=truth), path)

    def to_anndata(self) -> "AnnData":
        """Lay candidates and their predicted effects out as scverse's tools take them.

        Returns:
            One observation per row of the table, with its columns; the readouts as variables, with the effect
            ``wanted`` of each (NaN where the target names none); predicted effects as ``X``, the layers ``lower``
            and ``upper`` (NaN where nothing calibrates them); verdict and provenance in ``uns["inverse_design"]``.
        """
        fit = ScreenFit(self.training, self.fitted)
        found = fit.predict(list(self.table["perturbation"]), level=self.level).to_anndata()
        found.obs = self.table.set_index("perturbation")
        aligned = self.target.on(self.fitted.readouts)
        found.var["wanted"] = pd.Series(aligned.values.numpy(), found.var_names[aligned.columns.numpy()])
        known, kept = self.training.provenance, found.uns["inverse_design"]
        kept |= {"verdict": self.verdict, "target": self.target.name, "model": self.fitted.name}
        kept |= {"provenance": json.dumps(dict(known)), "version": installed_version("inverse-design")}
        kept["notes"] = [*self.notes, *kept["notes"]]
        return found

    def __repr__(self) -> str:
        warnings = [note for note in self.notes if note.startswith("warning")]
        more = f" (and {len(warnings) - 1} more warnings)" if len(warnings) > 1 else ""
        said = wrapped(f"Proposal for {self.target.name!r}: {self.verdict}")[:_VERDICT_LINES]
        found = () if self.inverse_set is None else (self.inverse_set.line,)
        return lines_of(
            *said,
            *(*warnings[:1], *found)[: MOST_LINES - 1 - len(said)],
            f"table of {len(self.table)} of {self.space.count_valid:,} candidates, model {self.fitted.name},"
            f" explanations, notes{more}",
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self).splitlines()[:-1], self.table.drop(columns=["order", "reason"]), rows=20)


def propose(  # noqa: PLR0913 - the verb's own words; all but two have defaults
    screen: ScreenLike,
    target: TargetLike,
    *,
    order: Order = "2",
    top: int = 20,
    objective: ObjectiveName | OwnObjective | None = None,
    constraints: Constraints | Sequence[Constraint] | None = None,
    prior: Mapping[str, float] | None = None,
    surrogate: SurrogateLike = None,
    level: float = 0.9,
    standardise: bool = False,
    seed: int = 0,
    engine: Engine | None = None,
    progress: Watch | None = None,
    cache: FitCache | None = USER_CACHE,
) -> Proposal:
    """Rank every candidate of a space by how well it reaches a target.

    Example:
        >>> propose(screen, "KLF1+CEBPE", surrogate="scaled_additive").table["perturbation"][0]
        'CEBPE+KLF1'
        >>> len(propose(screen, {"GATA1": 2.0, "SPI1": -1.0}, surrogate="additive", top=5).table)
        5

    Args:
        screen: Measured effects in one context: a screen, or what :func:`read_screen` reads as it is.
        target: The label of a condition of the screen (its profile is then left out of the training data); the
            path of a table or a ``.toml`` file; a Series or dict of wanted effects by readout; an ``AnnData`` of
            cells in the wanted state and of their control; or a target.
        order: How many interventions are given together; ``both`` for singles and pairs. Three and more are
            searched exactly where the utility is a sum over pairs, and by a beam where not: the notes say which.
        top: How many candidates to return.
        objective: ``likelihood`` by default for profiles, ``projection`` for signatures and scalars; or a function
            of mean and variance of the predicted effects, both candidates by readouts of the screen, that gives
            one number for each candidate, of which larger is better.
        constraints: What may be proposed; a list of constraints, your own among them, does as well.
        prior: Prior weight of genes, one where not named.
        surrogate: The forward model: a name, a configuration, or a regressor of scikit-learn; no other is then
            fitted. By default the one that identifies held-out doubles best.
        level: Probability of the bounds, and of the set.
        standardise: Whether each readout counts in units of the root mean square of its single effects, for
            readouts that are measured in units of their own; targets are given in the unit of the screen.
        seed: Fixes everything that is random.
        engine: Where fit and search run; by default in this process. The answer does not depend on it.
        progress: Called with how far all of the work is; the logger ``inverse_design`` says it, too.
        cache: Where fits are kept, and looked up: another target or constraint then takes the search alone.
            ``None`` to fit in any case. The answer does not depend on it.

    Returns:
        The ranked list; equal input gives equal output.

    Raises:
        DataError: If the screen, the target or a constraint cannot be used.
        NothingToProposeError: If the constraints leave no candidate.
        ExecutorError: If the workers of the engine die again and again.
        WorkerError: If one dies during a fit, or the scheduler cannot be used.
    """
    request = Request(
        order=order,
        objective=objective,
        constraints=constraints,
        prior=prior,
        surrogate=surrogate,
        standardise=standardise,
        seed=seed,
        engine=engine,
        cache=cache,
    )
    return proposal_for(request.prepared(screen, target), top=top, level=level, progress=progress)


def proposal_for(prepared: Prepared, *, top: int, level: float, progress: Watch | None) -> Proposal:
    """Answer what was asked, found to be answerable, and planned."""
    require_level(level)
    asked, tamed = prepared.asked, prepared.tamed
    solve = partial(_propose, top=top, level=level, course=prepared.plan.begin(progress))
    with limited_threads(threads_for(asked.screen)), fits_over(asked.request.runner.crew):
        found = solve(asked)
        moved = () if tamed is None else _moved(found, prepared, tamed, solve)
    said = (f"unit: {STANDARD}",) if asked.request.standardise else ()
    return replace(found, notes=(*moved, *found.notes, *said))


def _propose(asked: Answerable, *, top: int, level: float, course: Course) -> Proposal:
    screen, question, space, aligned = asked.screen, asked.question, asked.space, asked.aligned
    chosen, beside, seed = asked.objective, asked.beside, asked.request.seed
    runner = asked.request.runner
    with course.stage():
        fitted = calibrated_fit(question.training, asked.request.surrogate, unseen=False, seed=seed, beside=beside)
    listed = max(top, LISTED) if space.orders[-1] <= _LARGEST_WITH_SET else top
    likelihood = TargetLikelihood(aligned, asked.log_prior) if isinstance(question.target, ProfileTarget) else None
    posterior = None
    with course.stage() as tick:
        summed = likelihood if fitted.experts or is_calibrated(fitted) else None
        if summed is not None and not asked.by_turns and isinstance(chosen, TargetLikelihood):
            posterior = runner.survey(summed, fitted, space, listed, progress=tick)
        elif summed is not None and can_be_surveyed(space):
            posterior = replace(runner, ledger=None).survey(summed, fitted, space, LISTED)
        likelihood = likelihood if posterior is None else posterior.likelihood
        if asked.by_turns and likelihood is not None:
            listing = best_by_turns(
                likelihood, fitted, space, top, engine=runner, seed=seed, progress=tick, beside=beside
            )
        elif posterior is not None and likelihood is not None and isinstance(chosen, TargetLikelihood):
            listing = CandidateList(likelihood, posterior.search.top.index[:top], posterior.search)
        else:
            searched = runner.search(chosen, fitted, space, listed, progress=tick)
            listing = CandidateList(chosen, searched.top.index[:top], searched)
    chosen, found = listing.objective, listing.search
    if not len(listing.index):
        raise NothingToProposeError(f"no candidate was found among {space.summary}; relax a constraint")
    batch = space.take(listing.index)
    explanations = explain(fitted, batch, endless(question.target, aligned), question.training)
    inquiry = Inquiry(question, aligned, chosen, likelihood, fitted, space, level, seed, beside)
    with course.stage() as tick:
        placed = inquiry.place(batch, posterior, tick)
        law = inquiry.law(placed)
        bounds, nothing = inquiry.bounds(batch, placed, law), baselines(chosen.outcome, question.training)
    table = candidates_table(chosen, fitted, batch, bounds, explanations, nothing=nothing)
    if listing.turns is not None:
        table.insert(list(table.columns).index("utility"), "found_by", list(listing.turns.found_by))
    table["probability"] = placed.probability.numpy()
    if placed.inverse_set is not None:
        table["in_set"] = pd.Series(placed.inverse_set.holds(placed.density).tolist(), dtype="boolean")
    losing = _no_better(inquiry, table, nothing, law, runner)
    remarks = (*data_remarks(screen), *scale_remark(question, aligned))
    remarks += readout_remark(question.training, question.target)
    remarks += range_remark(question.target, aligned, question.training)
    notes = (*losing, *remarks, *_notes(fitted, space, question.training), *bounds.notes)
    notes += (*search_notes(runner, found.certificate, fitted, space), *listing.notes, *placed.notes)
    shown = replace(found, top=TopK(top, found.top.index[:top], found.top.score[:top]))
    return Proposal(
        table=table,
        explanations=explanations,
        search=shown,
        space=space,
        fitted=fitted,
        target=question.target,
        notes=tuple(sorted(notes, key=lambda note: not note.startswith("warning"))),
        spread=spread_table(
            decompose(inquiry.stated.whole, batch, question.training), table["perturbation"], aligned.columns
        ),
        baselines=nothing,
        training=question.training,
        level=level,
        inverse_set=placed.inverse_set,
        turns=listing.turns,
        replicates=None if law is None else law.noise.mean,
    )


def _moved(
    found: Proposal, prepared: Prepared, tamed: Tamed, solve: Callable[[Answerable], Proposal]
) -> tuple[str, ...]:
    """Name a condition of outlying effects if another candidate came first, were they of the usual size."""
    try:
        again = solve(Answerable.of(prepared.asked.request, tamed.screen, prepared.target))
    except DataError:  # the target is then out of range
        return ()
    first, other = (str(each.table["perturbation"].iloc[0]) for each in (found, again))
    if first == other:
        return ()
    return (
        f"warning: condition {tamed.label!r} moves the answer: its effects are {tamed.times:.3g} times the usual"
        f" size; were they of that size, {other} would come first: check how it was measured",
    )


def _no_better(
    inquiry: Inquiry, table: pd.DataFrame, nothing: Baselines, law: RowLaw | None, runner: Engine
) -> tuple[str, ...]:
    """Say so if no row is expected to be better than doing nothing, and whether any other candidate is."""
    if bool(table["beats_nothing"].any()):
        return ()
    name, space, fitted = nothing.name, inquiry.space, inquiry.fitted
    best = float(table[DISTANCE].min() if name == DISTANCE else table["utility"].max())
    said = f"{best:.3g} is expected of the best row, doing nothing is at {nothing.nothing:.3g} ({name})"
    if name != DISTANCE or space.orders[-1] > _LARGEST_WITH_SET:
        return (f"warning: no row beats doing nothing: {said}",)
    nearest = space.take(runner.search(SquaredDistance(inquiry.aligned), fitted, space, 1).top.index)
    zero = torch.zeros(1, dtype=torch.float64)
    expected = inquiry.bounds(nearest, CandidatePosterior(zero, zero, None, ()), law).expected
    if not bool(nothing.beaten(expected)[0]):
        return (f"warning: no candidate beats doing nothing: {said}",)
    label = fitted.vocabulary.perturbation(nearest.genes[0]).label
    found = (
        f"{label}, not in the list, is expected at {float(expected[0]):.3g}; the objective distance ranks by that"
    )
    return (f"warning: no row beats doing nothing: {said}; {found}",)


def _notes(fitted: FittedCalibrated, space: CombinationSpace, screen: Screen) -> tuple[str, ...]:
    """What the reader should know; a model that does not beat the additive one comes first."""
    held_out, law = fitted.held_out, fitted.law(SEEN_DOUBLE)
    notes = [f"space: {space.summary}"]
    if held_out.conditions == 0:
        notes.insert(0, "warning: no held-out combination could test the model or its error law")
    else:
        ratio = f"{held_out.ratio:.3f} of additive's on {held_out.conditions} held-out doubles (cross-fitted)"
        if held_out.ratio >= 1:
            notes.insert(0, f"warning: the model does not beat additive: squared error {ratio}")
        else:
            notes.append(f"squared error {ratio}")
    rank = law.covariance.loadings.shape[1]
    behind = fitted.evidence.get(SEEN_DOUBLE)
    genes = f" of {len(behind.batch.genes.unique())} genes" if behind is not None and law.support else ""
    learnt = f"of {law.origin!r}: rank {rank}, learnt from {law.support} held-out perturbations{genes}"
    notes.append(f"error law {learnt if law.support else law.origin}")
    notes += _promise(fitted, space)
    if (graph := graph_of(fitted.base)) is not None:
        notes.append(graph.remark)
    unseen = [screen.vocabulary.entries[int(each)].label for each in torch.nonzero(screen.single_rows < 0)]
    if unseen:
        notes.append(f"left out, as never measured alone: {some_of(unseen, 5)}")
    return tuple(notes)


def _promise(fitted: FittedCalibrated, space: CombinationSpace) -> list[str]:
    """What held-out truths say of the probabilities, and who names."""
    promise = fitted.promise
    if promise is None:
        return []
    among = min(space.count_valid, Calibrated.candidates)
    said = (
        f"promise: a held-out truth gets a mean log probability of {promise.mean:.2f} ±"
        f" {promise.standard_error:.2f} among as many as {among:,} candidates"
        f" (a blind guess {-math.log(max(1, among)):.2f}), by {len(promise.parts)} doubles that"
        " nothing behind it had seen"
    )
    named = [f"{expert.fitted.name} {expert.weight:.2f}" for expert in fitted.experts]
    return [said, f"named by {', '.join(named)}"] if named else [said]
