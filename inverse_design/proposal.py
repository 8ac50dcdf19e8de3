"""The main job: from a screen and a target to a ranked list of candidates."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Literal

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.errors import SpaceError, TargetError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.explanation import Explanation, explain
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Correlation, Objective, SignedProjection, SquaredDistance
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile, ProfileTarget, ScalarTarget, Target
from inverse_design.search.normaliser import log_sum_pairs, log_sum_stream
from inverse_design.search.pairs import search_pairs
from inverse_design.search.stream import search_stream
from inverse_design.search.topk import Progress, SearchResult
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.automatic import Automatic
from surrogates.models.base import Surrogate
from surrogates.models.calibrated import FittedCalibrated

ObjectiveName = Literal["likelihood", "distance", "pearson", "cosine", "projection"]
Order = Literal["1", "2", "both"]
_STREAMED_NUMBERS = 2**23  # effects held at a time when candidates are streamed, 64 MiB
_FAR = 1e6  # standard deviations, more than any effect
_ORDERS: Mapping[Order, tuple[int, ...]] = {"1": (1,), "2": (2,), "both": (1, 2)}


@dataclass(frozen=True)
class Question:
    """A screen to learn from, and what is asked of it.

    Attributes:
        training: The screen without the target condition.
        target: Where the cells should go.
    """

    training: Screen
    target: Target


def ask(screen: Screen, target: str | Target) -> Question:
    """Turn a condition of the screen into a target, taking it out of the training data.

    Args:
        screen: Measured effects in one context.
        target: A condition such as ``"CEBPE+KLF1"``, or any other target.

    Returns:
        The question.

    Raises:
        UnknownNameError: If there is no such condition; the message names the nearest ones.
    """
    if not isinstance(target, str):
        return Question(screen, target)
    row = screen.row_of(screen.vocabulary.parse(target))
    # Without standard errors: the error laws are learnt from measured effects and so hold that noise already.
    profile = ProfileTarget(screen.labels[row], screen.readouts, screen.effects[row])
    return Question(screen.rows([each for each in range(len(screen)) if each != row]), profile)


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
    log_prior = _log_prior(screen, prior)
    chosen = make_objective(question.target, aligned, objective, log_prior)
    models = Automatic() if surrogate is None else Automatic((surrogate,))
    fitted = models.fit(question.training, seed=seed)
    found = search(chosen, fitted, space, top, progress=progress)
    batch = space.take(found.top.index)
    explanations = explain(fitted, batch, _endless(question.target, aligned), question.training)
    table = _table(chosen, fitted, batch, explanations, level)
    if isinstance(question.target, ProfileTarget):
        table["probability"] = probabilities(TargetLikelihood(aligned, log_prior), fitted, space, batch).numpy()
    notes = _notes(fitted, space, question.training)
    return Proposal(table, explanations, found, space, fitted, question.target, notes)


def candidate_space(screen: Screen, order: Order, constraints: Constraints | None) -> CombinationSpace:
    """Build the space over the interventions that were measured alone.

    Args:
        screen: The training data.
        order: Singles, pairs, or both.
        constraints: What may be proposed.

    Returns:
        The space.
    """
    if order not in _ORDERS:
        raise SpaceError(f"order {order!r} is not one of {', '.join(_ORDERS)}")
    seen = torch.nonzero(screen.single_rows >= 0).flatten()
    return CombinationSpace.of(
        screen.vocabulary,
        orders=_ORDERS[order],
        constraints=constraints,
        measured=screen.batch,
        within=seen,
    )


def make_objective(
    target: Target, aligned: AlignedProfile, name: ObjectiveName | None, log_prior: Float[Tensor, "v"]
) -> Objective:
    """Choose the objective that fits a target.

    Args:
        target: Where the cells should go.
        aligned: The same in the coordinates of the screen.
        name: Which objective; the default of the target if ``None``.
        log_prior: Log prior weight of each vocabulary entry; only the likelihood has a use for it.

    Returns:
        The objective.

    Raises:
        TargetError: If the objective cannot judge such a target.
    """
    if name is not None and name not in _PROFILE_OBJECTIVES:
        raise UnknownNameError.from_known("objective", name, _PROFILE_OBJECTIVES)
    profile = isinstance(target, ProfileTarget)
    wanted = name or ("likelihood" if profile else "projection")
    if not profile:
        reach = isinstance(target, ScalarTarget) and target.goal == "reach"
        if wanted == "distance" or (reach and name is None):
            return SquaredDistance(aligned)
        if wanted == "projection" and not reach:
            return SignedProjection(aligned)
        raise TargetError(f"objective {wanted!r} cannot judge target {target.name!r}")
    return _PROFILE_OBJECTIVES[wanted](aligned, log_prior)


_PROFILE_OBJECTIVES: Mapping[str, Callable[[AlignedProfile, Tensor], Objective]] = {
    "likelihood": TargetLikelihood,
    "distance": lambda aligned, _: SquaredDistance(aligned),
    "pearson": lambda aligned, _: Correlation(aligned, "pearson"),
    "cosine": lambda aligned, _: Correlation(aligned, "cosine"),
    "projection": lambda aligned, _: SignedProjection(aligned),
}


def search(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the best candidates of a space: pairs by products where the objective factorises, else streamed.

    Args:
        objective: What candidates are worth.
        fitted: The surrogate.
        space: What may be proposed.
        top: How many.
        progress: Called with how many candidates were scored, of how many.

    Returns:
        The best, with the certificate.
    """
    score = objective.pair_score(fitted, space) if 2 in space.orders else None

    def value(batch: PerturbationBatch) -> Float[Tensor, "b"]:
        return objective.utility(fitted, batch).mean

    rank = fitted.law(SEEN_DOUBLE).covariance.loadings.shape[1]
    block = max(16, _STREAMED_NUMBERS // (len(fitted.readouts) * (1 + rank)))
    if score is None:
        return search_stream(space, value, top, block=block, progress=progress)
    pairs = search_pairs(score, top, space=space, progress=progress)
    if space.orders == (2,):
        return pairs
    return pairs.merge(search_stream(space, value, top, span=space.span(1), block=block))


def probabilities(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    batch: PerturbationBatch,
) -> Float[Tensor, "b"]:
    """Posterior probability of candidates given the target, over the whole space.

    Args:
        likelihood: Log density of the target, with the prior.
        fitted: The surrogate.
        space: All that could have made the target.
        batch: The candidates asked about.

    Returns:
        ``P(d | t)`` of each.
    """

    def value(some: PerturbationBatch) -> Float[Tensor, "b"]:
        return likelihood.utility(fitted, some).mean

    values = value(batch)
    peak = float(values.max())
    score = likelihood.pair_score(fitted, space) if 2 in space.orders else None
    sums = [
        # Blocks are in single precision, which is finest near zero: there the likely pairs have to be.
        log_sum_pairs(replace(score, constant=score.constant - peak), space) + peak
        if score is not None and order == 2
        else log_sum_stream(value, space, order=order)
        for order in space.orders
    ]
    total = torch.tensor(sums, dtype=torch.float64).logsumexp(0)
    return (values - total).exp()


def _endless(target: Target, aligned: AlignedProfile) -> AlignedProfile:
    """Move the end of a mere direction out of reach: of a signature, more is never too much."""
    reached = isinstance(target, ProfileTarget) or (isinstance(target, ScalarTarget) and target.goal == "reach")
    return aligned if reached else replace(aligned, values=aligned.values * _FAR)


def _log_prior(screen: Screen, prior: Mapping[str, float] | None) -> Float[Tensor, "v"]:
    """Logarithm of each entry's prior weight; a target stands for all its doses."""
    weights = dict(prior or {})
    for name, weight in weights.items():
        if name not in screen.vocabulary.targets and name not in screen.vocabulary.ids:
            raise UnknownNameError.from_known("gene or compound", name, screen.vocabulary.targets)
        if not 0 < weight < math.inf:
            raise DataError(f"prior weight {weight} of {name!r} is not positive; exclude the gene instead")
    chosen = [weights.get(entry.label, weights.get(entry.target, 1.0)) for entry in screen.vocabulary.entries]
    return torch.tensor(chosen, dtype=torch.float64).log()


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
    unseen = [screen.vocabulary.entries[int(each)].label for each in torch.nonzero(screen.single_rows < 0)]
    if unseen:
        shown = ", ".join(unseen[:5]) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
        notes.append(f"left out, as never measured alone: {shown}")
    return tuple(notes)
