"""The main job: from a screen and a target to a ranked list of candidates."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist

import pandas as pd
import torch

from inverse_design.problem.causal_paths import graph_of
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.explanation import Explanation, explain
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Objective
from inverse_design.problem.question import Order, ask, candidate_space, log_prior
from inverse_design.problem.registered import ObjectiveName, make_objective
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile, ProfileTarget, ScalarTarget, Target
from inverse_design.search.exhaustive import probabilities, search
from inverse_design.search.topk import Progress, SearchResult
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.automatic import Automatic
from surrogates.models.base import Surrogate
from surrogates.models.calibrated import FittedCalibrated

_FAR = 1e6  # standard deviations, more than any effect


@dataclass(frozen=True)
class Proposal:
    """A ranked list of candidates and what is known about it.

    Attributes:
        table: One row per candidate: rank, perturbation, order, utility, lower, upper, probability, novelty,
            nearest_measured, reason.
        explanations: Why, for each row of the table.
        search: The certified answer of the search.
        space: What was searched.
        fitted: The surrogate with its error laws.
        target: What was asked for.
        notes: What the reader should know, most important first.
    """

    table: pd.DataFrame
    explanations: tuple[Explanation, ...]
    search: SearchResult
    space: CombinationSpace
    fitted: FittedCalibrated
    target: Target
    notes: tuple[str, ...]


def propose(  # noqa: PLR0913 - the verb's own words; all but two have defaults
    screen: Screen,
    target: str | Target,
    *,
    order: Order = "2",
    top: int = 20,
    objective: ObjectiveName | None = None,
    constraints: Constraints | None = None,
    prior: Mapping[str, float] | None = None,
    surrogate: Surrogate | None = None,
    level: float = 0.9,
    seed: int = 0,
    progress: Progress | None = None,
) -> Proposal:
    """Rank every candidate of a space by how well it reaches a target.

    Args:
        screen: Measured effects in one context.
        target: A condition of the screen (its profile is then left out of the training data), or a target.
        order: Singles, pairs, or both.
        top: How many candidates to return.
        objective: ``likelihood`` by default for profiles, ``projection`` for signatures and scalars.
        constraints: What may be proposed.
        prior: Prior weight of genes, one where not named.
        surrogate: The forward model; by default the one that identifies held-out doubles best.
        level: Nominal probability of the interval on the utility.
        seed: Fixes everything that is random.
        progress: Called with how many pairs were scored, of how many.

    Returns:
        The ranked list; equal input gives equal output.

    Raises:
        DataError: If the screen, the target or a constraint cannot be used.
        NothingToProposeError: If the constraints leave no candidate.
    """
    if not 0 < level < 1:
        raise DataError(f"level {level} of the interval is not between 0 and 1")
    question = ask(screen, target)
    space = candidate_space(question.training, order, constraints)
    aligned = question.target.on(screen.readouts)
    weights = log_prior(screen, prior)
    chosen = make_objective(question.target, aligned, objective, weights)
    models = Automatic() if surrogate is None else Automatic((surrogate,))
    fitted = models.fit(question.training, seed=seed)
    found = search(chosen, fitted, space, top, progress=progress)
    batch = space.take(found.top.index)
    explanations = explain(fitted, batch, _endless(question.target, aligned), question.training)
    table = _table(chosen, fitted, batch, explanations, level)
    if isinstance(question.target, ProfileTarget):
        likelihood = TargetLikelihood(aligned, weights)
        table["probability"] = probabilities(likelihood, fitted, space, batch).numpy()
    notes = _notes(fitted, space, question.training)
    return Proposal(table, explanations, found, space, fitted, question.target, notes)


def _endless(target: Target, aligned: AlignedProfile) -> AlignedProfile:
    """Move the end of a mere direction out of reach: of a signature, more is never too much."""
    reached = isinstance(target, ProfileTarget) or (isinstance(target, ScalarTarget) and target.goal == "reach")
    return aligned if reached else replace(aligned, values=aligned.values * _FAR)


def _table(
    objective: Objective,
    fitted: FittedCalibrated,
    batch: PerturbationBatch,
    explanations: tuple[Explanation, ...],
    level: float,
) -> pd.DataFrame:
    utility = objective.utility(fitted, batch)
    half = NormalDist().inv_cdf((1 + level) / 2) * utility.variance.sqrt()
    codes = novelty_code(batch, fitted.measured_alone).tolist()
    return pd.DataFrame({
        "rank": range(1, len(batch) + 1),
        "perturbation": [fitted.vocabulary.perturbation(genes).label for genes in batch.genes],
        "order": batch.order.tolist(),
        "utility": utility.mean.tolist(),
        "lower": (utility.mean - half).tolist(),
        "upper": (utility.mean + half).tolist(),
        "probability": math.nan,
        "novelty": [novelty_name(code) for code in codes],
        "nearest_measured": [each.nearest for each in explanations],
        "reason": [each.reason for each in explanations],
    })  # fmt: skip


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
    notes.append(f"error law of {law.origin!r}: rank {rank}, learnt from {law.support} held-out perturbations")
    graph = graph_of(fitted.base)
    if graph is not None:
        edges = int((graph.edges != 0).sum())
        notes.append(
            f"causal graph of {edges:,} edges: trust {graph.trust:.2f} where a target was never acted on, weight"
            f" {graph.residual_weight:.2f} of what edges leave where it was"
        )
    unseen = [screen.vocabulary.entries[int(each)].label for each in torch.nonzero(screen.single_rows < 0)]
    if unseen:
        shown = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        notes.append(f"left out, as never measured alone: {shown}")
    return tuple(notes)
