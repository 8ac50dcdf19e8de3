"""Asking for a round: planned without a lock, recorded under one."""

import hashlib
import math
from dataclasses import dataclass, replace

from inverse_design.campaign.batch import Batch, batch_of, open_round
from inverse_design.campaign.block import Block
from inverse_design.campaign.cost import affordable, round_cost
from inverse_design.campaign.events import Asked, columns_of
from inverse_design.campaign.knowledge import known_screen
from inverse_design.campaign.planner import PERTURBATION, Plan, Planner
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.state import OPEN_STATES
from inverse_design.campaign.store import Log, WritableLog
from inverse_design.errors import NothingToProposeError, PlanError
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError


@dataclass(frozen=True)
class Basis:
    """What a round is planned on.

    Attributes:
        sequence: Number of the last event that counts.
        screen: All that was known then.
        pending: Experiments whose results were still to come.
        round: Number of the round.
        seed: For the planner.
        spent: What all rounds before cost.
    """

    sequence: int
    screen: Screen
    pending: tuple[Perturbation, ...]
    round: int
    seed: int
    spent: float


def basis_of(log: Log, start: Screen, settings: CampaignSettings) -> Basis:
    """Collect what the next round is planned on.

    Args:
        log: Of the campaign.
        start: The starting screen.
        settings: Of the campaign.

    Returns:
        The basis.
    """
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
    """Derive the seed of a round.

    Args:
        seed: Of the campaign.
        round_number: Of the round.

    Returns:
        A number below ``2**31``.
    """
    digest = hashlib.sha256(f"{seed}/{round_number}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def spent_on(log: Log, settings: CampaignSettings) -> float:
    """Add up what all rounds cost; withdrawn experiments cost nothing.

    Args:
        log: Of the campaign.
        settings: Of the campaign.

    Returns:
        The sum.
    """
    if not (settings.cost_per_well or settings.cost_per_round or settings.costs):
        return 0.0
    rounds: dict[int, list[str]] = {}
    for one in log.experiments(states=("proposed", "ordered", "measured", "failed")):
        if one.round:
            rounds.setdefault(one.round, []).append(one.perturbation)
    return math.fsum(round_cost(settings, labels) for labels in rounds.values())


def planned(planner: Planner, count: int, basis: Basis, settings: CampaignSettings) -> Plan:
    """Let a planner plan, check what it proposes, and leave out what cannot be paid.

    Args:
        planner: Who plans.
        count: How many experiments are wanted.
        basis: What is known.
        settings: Of the campaign.

    Returns:
        The plan, with canonical labels.

    Raises:
        NothingToProposeError: If nothing is proposed, or the budget does not reach for anything proposed.
        PlanError: If the plan cannot be used.
    """
    if count < 1:
        raise PlanError(f"{count} experiments are asked for; ask for at least 1")
    plan = planner.plan(basis.screen, count, pending=basis.pending, seed=basis.seed)
    labels = _labels(plan, count, basis)
    if not labels:
        raise NothingToProposeError("the planner finds no candidate that is left")
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


def record(log: WritableLog, plan: Plan, basis: Basis, *, count: int, beside: bool, actor: str) -> Batch | None:
    """Write a plan down, unless the campaign has moved on in the meantime.

    A plan stays good while others tell results of other experiments: its basis is recorded, so that it can be made
    again. It does not if somebody else asked, or something happened to one of its experiments.

    Args:
        log: Of the campaign, locked.
        plan: What was planned.
        basis: What it was planned on.
        count: How many experiments were wanted.
        beside: Whether the round may stand beside open ones.
        actor: Who asks.

    Returns:
        The round; that of somebody else if one is open by now; ``None`` if it has to be planned again.
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


def _labels(plan: Plan, count: int, basis: Basis) -> list[str]:
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
    """Say whether a chosen experiment became open, or was told, since the basis."""
    found = log.experiments(perturbations=labels)
    if any(one.state in OPEN_STATES for one in found):
        return True
    return any(each.sequence > basis.sequence for each in log.measurements([one.number for one in found]))
