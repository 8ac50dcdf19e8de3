"""Asking for a round: planned without a lock, recorded under one.

The plan rests on the starting screen and all results so far, averaged over replicates, and on what experiments
cost: reagents, wells, and a fee for each round.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int

from inverse_design.acquisition.acquisition import ACQUISITIONS
from inverse_design.acquisition.batch import BatchRules
from inverse_design.campaign.rounds import Batch, batch_of, open_round
from inverse_design.campaign.settings import AUTOMATIC, JOINT_GAIN, CampaignSettings
from inverse_design.campaign.store.events import OPEN_STATES, Asked, Block, columns_of
from inverse_design.campaign.store.protocol import Log, WritableLog
from inverse_design.errors import NothingToProposeError, PlanError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import Target
from inverse_design.recommend.choose import default_recommender, recommend_within
from inverse_design.recommend.protocol import (
    PERTURBATION,
    RECOMMENDERS,
    DecisionState,
    Recommendation,
    Recommender,
)
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY
from surrogates.errors import UnknownNameError


def experiment_cost(settings: CampaignSettings, label: str) -> float:
    """Add up what one experiment costs beside its round."""
    costs, parts = settings.costs, Perturbation.parse(label).interventions
    reagents = sum(costs.get(part.label, costs.get(part.target, 0.0)) for part in parts)
    return settings.replicates * settings.cost_per_well + reagents


def round_cost(settings: CampaignSettings, labels: Sequence[str]) -> float:
    """Add up what a round costs."""
    if not labels:
        return 0.0
    wells = len(labels) * settings.replicates
    plates = math.ceil(wells / (settings.plate_size - settings.controls))
    fixed = settings.cost_per_round + settings.cost_per_well * plates * settings.controls
    return fixed + sum(experiment_cost(settings, label) for label in labels)


def affordable(settings: CampaignSettings, labels: Sequence[str], *, left: float) -> list[int]:
    """Take experiments in their order as long as the round can be paid; one that is too dear is passed over."""
    taken: list[int] = []
    for place, label in enumerate(labels):
        if round_cost(settings, [*(labels[one] for one in taken), label]) <= left:
            taken.append(place)
    return taken


def known_screen(start: Screen, blocks: Iterable[Block]) -> Screen:
    """Average what was recorded, array by array.

    All wells of a perturbation count the same, whatever the round; its row in the starting screen counts like one
    well. With replicates, the noise ``s_g`` of one well is pooled over all perturbations, since the spread of two
    or three wells says little: the standard error of a mean of ``r`` wells is ``s_g / r^(1/2)``. Without, told
    rows get the median standard error of the starting screen, if it has any.
    """
    told = [block for block in blocks if not block.failed.all()]
    if not told:
        return start
    width = max(start.batch.genes.shape[1], *(block.genes.shape[1] for block in told))
    genes = np.concatenate([_widened(block.genes[~block.failed], width) for block in told])
    values = np.concatenate([block.values[~block.failed] for block in told])
    known = _widened(start.batch.genes.numpy(), width)
    rows, place = _placed(known, genes)
    count = np.bincount(place, minlength=len(rows))
    mean = _sums(values, place, len(rows)) / np.maximum(count, 1)[:, None]
    effects = mean.copy()
    first, weight = start.effects.numpy(), count[: len(known), None]
    effects[: len(known)] = (first + weight * mean[: len(known)]) / (1 + weight)
    errors = _standard_errors(start, values - mean[place], count)
    batch = start.vocabulary.dosed(torch.from_numpy(rows))
    return replace(
        start,
        effects=torch.from_numpy(effects),
        batch=batch,
        contexts=(start.contexts[0],) * len(rows),
        standard_errors=None if errors is None else torch.from_numpy(errors),
        annotations=type(start.annotations)(index=range(len(rows))),
    )


def _widened(genes: Int[np.ndarray, "m k"], width: int) -> Int[np.ndarray, "m w"]:
    empty = ((0, 0), (0, width - genes.shape[1]))
    return np.pad(genes.astype(np.int64), empty, constant_values=EMPTY)


def _placed(
    known: Int[np.ndarray, "n w"], told: Int[np.ndarray, "m w"]
) -> tuple[Int[np.ndarray, "u w"], Int[np.ndarray, "m"]]:
    """Number the distinct perturbations, those that are known first, and say which each well is."""
    every, inverse = np.unique(np.concatenate([known, told]), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    order = np.full(len(every), -1)
    order[inverse[: len(known)]] = np.arange(len(known))
    fresh = np.flatnonzero(order < 0)
    order[fresh] = len(known) + np.arange(len(fresh))
    return np.concatenate([known, every[fresh]]), order[inverse[len(known) :]]


def _sums(values: Float[np.ndarray, "m g"], place: Int[np.ndarray, "m"], size: int) -> Float[np.ndarray, "u g"]:
    sums = np.zeros((size, values.shape[1]))
    np.add.at(sums, place, values)
    return sums


def _standard_errors(
    start: Screen, gaps: Float[np.ndarray, "m g"], count: Int[np.ndarray, "u"]
) -> Float[np.ndarray, "u g"] | None:
    stated = None if start.standard_errors is None else start.standard_errors.numpy()
    freedom = int(count.sum() - np.count_nonzero(count))
    if freedom > 0:
        well = np.sqrt(np.square(gaps).sum(0) / freedom)
    elif stated is not None:
        well = np.median(stated, axis=0)
    else:
        return None
    first = np.broadcast_to(well, start.effects.shape) if stated is None else stated
    n, again = len(first), count[: len(first), None]
    errors = np.empty((len(count), gaps.shape[1]))
    errors[n:] = well / np.sqrt(count[n:, None])
    # the mean of the starting value, with its own error, and of `again` wells
    errors[:n] = np.sqrt(np.square(first) + again * np.square(well)) / (1 + again)
    return errors


@dataclass(frozen=True)
class Basis:
    """What a round is planned on."""

    sequence: int  # number of the last event that counts
    screen: Screen  # all that was known then
    pending: tuple[Perturbation, ...]  # experiments whose results were still to come
    round: int  # number of the round
    seed: int  # for the recommender
    spent: float  # what all rounds before cost


def basis_of(log: Log, start: Screen, settings: CampaignSettings) -> Basis:
    """Collect what the next round is planned on."""
    newest = log.newest("asked")
    number = 1 + (newest.event.round if newest is not None and isinstance(newest.event, Asked) else 0)
    vocabulary = start.vocabulary
    return Basis(
        sequence=log.head(),
        screen=known_screen(start, (Block.from_bytes(each) for each in log.blocks())),
        pending=tuple(vocabulary.parse(one.perturbation) for one in log.experiments(states=OPEN_STATES)),
        round=number,
        seed=seed_of(settings.seed, number),
        spent=spent_on(log, settings),
    )


def seed_of(seed: int, round_number: int) -> int:
    """Derive the seed of a round."""
    digest = hashlib.sha256(f"{seed}/{round_number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def spent_on(log: Log, settings: CampaignSettings) -> float:
    """Add up what all rounds cost; withdrawn experiments cost nothing."""
    if not (settings.cost_per_well or settings.cost_per_round or settings.costs):
        return 0.0
    rounds: dict[int, list[str]] = {}
    for one in log.experiments(states=("proposed", "ordered", "measured", "failed")):
        if one.round:
            rounds.setdefault(one.round, []).append(one.perturbation)
    return math.fsum(round_cost(settings, labels) for labels in rounds.values())


def require_settings(settings: CampaignSettings, screen: Screen) -> None:
    """Refuse settings by which nothing could be recommended, before a campaign stands on them.

    Raises:
        UnknownNameError: If there is no such surrogate, recommender or gain; the message names the nearest ones.
        SpaceError: If there are fewer genes or compounds than are to be given together.
        NothingToProposeError: If everything is measured or excluded.
    """
    from surrogates.models.registry import SURROGATES  # noqa: PLC0415 - models take seconds to import

    for kind, name, known in (
        ("surrogate", settings.surrogate, (AUTOMATIC, *SURROGATES.names())),
        ("recommender", settings.recommender, (AUTOMATIC, *RECOMMENDERS.names())),
        ("gain", settings.gain, ACQUISITIONS.names()),
    ):
        if name not in known:
            raise UnknownNameError.from_known(kind, name, known)
    space_of(settings, screen)


def space_of(settings: CampaignSettings, screen: Screen) -> CombinationSpace:
    """Everything that may be recommended."""
    from inverse_design.problem.registered import read_constraint  # noqa: PLC0415 - objectives need models

    rules = Constraints(
        excluded=settings.exclude,
        incompatible=settings.incompatible,
        further=tuple(map(read_constraint, settings.constraints)),
    )
    return candidate_space(screen, settings.order, rules)


def state_of(
    basis: Basis, settings: CampaignSettings, target: Target, *, started: int, missed: tuple[float, ...]
) -> DecisionState:
    """Make the state that a round is decided on."""
    from surrogates.data.gene_sets import gene_descriptors  # noqa: PLC0415 - reads tables, which few verbs need

    return DecisionState(
        measured=basis.screen,
        target=target,
        candidates=space_of(settings, basis.screen),
        started=started,
        descriptors=gene_descriptors(basis.screen.vocabulary.targets),
        rules=BatchRules(settings.max_per_gene, settings.random_share),
        surrogate=settings.surrogate,
        level=settings.level,
        missed=missed,
    )


def chosen_recommender(
    settings: CampaignSettings, state: DecisionState, name: str | None = None
) -> tuple[Recommender, str]:
    """Take the recommender that is named for this round, else that of the settings, else the default; say why.

    Raises:
        UnknownNameError: If there is no such recommender; the message names the nearest ones.
    """
    why = "as asked for"
    if name is None:
        name, why = settings.recommender, "named by the settings of the campaign"
    if name == AUTOMATIC and settings.gain != JOINT_GAIN:
        name, why = "gains", f"the settings of the campaign name the gain {settings.gain}"
    elif name == AUTOMATIC:
        name, why = default_recommender(state)
    said = f"recommender: {name} ({why})"
    if name == "gains":
        from inverse_design.recommend.gains import Gains  # noqa: PLC0415 - models take seconds to import

        return Gains(settings.gain), said
    return RECOMMENDERS.load(name)(), said


def planned(
    recommender: Recommender | str | None,
    count: int,
    basis: Basis,
    state: DecisionState,
    settings: CampaignSettings,
) -> Recommendation:
    """Let a recommender choose, check what it recommends, and leave out what cannot be paid.

    Raises:
        NothingToProposeError: If nothing is recommended, or the budget does not reach for any of it.
        PlanError: If the recommendation cannot be used.
    """
    if count < 1:
        raise PlanError(f"{count} experiments are asked for; ask for at least 1")
    chosen, said = recommender, list[str]()
    if chosen is None or isinstance(chosen, str):
        chosen, why = chosen_recommender(settings, state, chosen)
        said = [why]
    plan = recommend_within(chosen, state, count, pending=basis.pending, seed=basis.seed)
    plan = replace(plan, notes=(*said, *plan.notes))
    labels = _labels(plan, count, basis)
    if not labels:
        raise NothingToProposeError("the recommender finds no candidate that is left")
    table = plan.table.reset_index(drop=True).assign(**{PERTURBATION: labels})
    if settings.budget is None:
        return replace(plan, table=table)
    left = settings.budget - basis.spent
    kept = affordable(settings, labels, left=left)
    if not kept:
        cheapest = min(round_cost(settings, [label]) for label in labels)
        raise NothingToProposeError(
            f"{max(0.0, left):,.6g} of the budget are left, and a round with the cheapest of the proposed"
            f" experiments costs {cheapest:,.6g}"
        )
    if len(kept) == len(labels):
        return replace(plan, table=table)
    note = f"{len(labels) - len(kept)} proposed experiments were left out: {left:,.6g} of the budget are left"
    return replace(plan, table=table.iloc[kept].reset_index(drop=True), notes=(*plan.notes, note))


def record(
    log: WritableLog, plan: Recommendation, basis: Basis, *, count: int, beside: bool, actor: str
) -> Batch | None:
    """Write a plan down, unless the campaign has moved on in the meantime.

    A plan stays good while others record results of other experiments: its basis is recorded, so that it can be
    made again. It does not if somebody else asked, or something happened to one of its experiments.
    """
    there = None if beside else open_round(log)
    if there is not None:
        return batch_of(log, there)
    labels = tuple(plan.table[PERTURBATION])
    newest = log.newest("asked")
    last = newest.event.round if newest is not None and isinstance(newest.event, Asked) else 0
    if last + 1 != basis.round or (log.head() != basis.sequence and _has_moved(log, labels, basis)):
        return None
    gain = plan.expected_gain
    asked = Asked(
        round=basis.round,
        first=log.next_number(),
        perturbations=labels,
        columns=columns_of(plan.table),
        expected_gain=float(gain) if math.isfinite(gain) else None,
        notes=plan.notes,
        count=count,
        seed=basis.seed,
        basis=basis.sequence,
    )
    log.append(asked, actor=actor, artefact=plan.model)
    return batch_of(log, asked, fresh=True)


def _labels(plan: Recommendation, count: int, basis: Basis) -> list[str]:
    vocabulary = basis.screen.vocabulary
    try:
        labels = [vocabulary.parse(str(each)).label for each in plan.table[PERTURBATION]]
    except UnknownNameError as error:
        raise PlanError(f"the plan proposes something outside the vocabulary of the campaign: {error}") from error
    if len(labels) > count:
        raise PlanError(f"the plan proposes {len(labels)} experiments, and {count} were asked for")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise PlanError(f"the plan proposes {twice!r} twice; one row per experiment")
    waiting = {one.label for one in basis.pending}
    if both := next((label for label in labels if label in waiting), None):
        raise PlanError(f"the plan proposes {both!r}, whose result is still to come")
    return labels


def _has_moved(log: Log, labels: tuple[str, ...], basis: Basis) -> bool:
    """Say whether a chosen experiment became open, or was recorded, since the basis."""
    found = log.experiments(perturbations=labels)
    if any(one.state in OPEN_STATES for one in found):
        return True
    return any(each.sequence > basis.sequence for each in log.measurements([one.number for one in found]))
