"""Asking for a round: planned without a lock, recorded under one.

The plan rests on the starting screen and all results so far, averaged over replicates, and on what experiments
cost: reagents, wells, and a fee for each round.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from inverse_design.acquisition.acquisition import ACQUISITIONS
from inverse_design.acquisition.batch import BatchRules
from inverse_design.campaign.rounds import Batch, batch_of, open_round, partial_utilities
from inverse_design.campaign.settings import AUTOMATIC, JOINT_GAIN, CampaignSettings
from inverse_design.campaign.store.events import OPEN_STATES, Asked, columns_of
from inverse_design.campaign.store.protocol import Log, WritableLog
from inverse_design.campaign.wells import Known, Wells, counting_wells, known_from, left_out_remarks, partial_words
from inverse_design.errors import NothingToProposeError, PlanError, SpaceError
from inverse_design.planning.costs import Costs, Sizes
from inverse_design.planning.plan import Outline, Work
from inverse_design.problem.batch_wide import BatchWide, batch_wide, levels_of
from inverse_design.problem.constraints import Constraint, Constraints, read_constraint
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import Target, is_state
from inverse_design.recommend.pair_hits import default_recommender, recommend_within
from inverse_design.recommend.pair_process import MOST_COMPARED
from inverse_design.recommend.protocol import (
    PERTURBATION,
    RECOMMENDERS,
    DecisionState,
    Recommendation,
    Recommender,
)
from surrogates.data.descriptors import gene_descriptors
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError, some_of
from surrogates.executors import Workers
from surrogates.fit_cache import FitCache

_SHOWN = 3
_FITTED = frozenset({"gains", "thompson", "exploration", "log_improvement", "likeliest", "state_match"})


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


@dataclass(frozen=True)
class Basis:
    """What a round is planned on."""

    sequence: int  # number of the last event that counts
    known: Known  # all that was measured then
    pending: tuple[Perturbation, ...]  # experiments whose results were still to come, or are no part of a fit
    round: int  # number of the round
    seed: int  # for the recommender
    spent: float  # what all rounds before cost
    wells: Wells  # what counts of the results

    @property
    def screen(self) -> Screen:
        """The conditions of which every readout is known."""
        return self.known.screen

    @property
    def notes(self) -> tuple[str, ...]:
        """What is no part of the plan although it was recorded."""
        lacking = partial_words(self.known.partial, self.screen.readouts)
        named = some_of(lacking, _SHOWN, sep="; ")
        said = f"{len(lacking)} conditions lack readouts and are no part of the fit: {named}"
        return (*left_out_remarks(self.wells), *([said] if lacking else []))


def basis_of(log: Log, start: Screen, settings: CampaignSettings, target: Target) -> Basis:
    """Collect what the next round is planned on.

    A condition that lacks readouts, but none of the target's, is not proposed again: it stands with the
    experiments that are pending.
    """
    newest = log.newest("asked")
    number = 1 + (newest.event.round if newest is not None and isinstance(newest.event, Asked) else 0)
    wells = counting_wells(log, start)
    known = known_from(start, wells.blocks)
    waiting = [one.perturbation for one in log.experiments(states=OPEN_STATES)]
    waiting += partial_utilities(known, target)
    return Basis(
        sequence=log.head(),
        known=known,
        pending=tuple(start.vocabulary.parse(label) for label in dict.fromkeys(waiting)),
        round=number,
        seed=seed_of(settings.seed, number),
        spent=spent_on(log, settings),
        wells=wells,
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
    """Refuse settings by which nothing could be recommended, before a campaign stands on them."""
    from surrogates.models.registry import SURROGATES  # noqa: PLC0415 - models take seconds to import

    for kind, name, known in (
        ("surrogate", settings.surrogate, (AUTOMATIC, *SURROGATES.names())),
        ("recommender", settings.recommender, (AUTOMATIC, *RECOMMENDERS.names())),
        ("gain", settings.gain, ACQUISITIONS.names()),
    ):
        if name not in known:
            raise UnknownNameError.from_known(kind, name, known)
    space_of(settings, screen)


def space_of(
    settings: CampaignSettings, screen: Screen, *, within: tuple[int, ...] | None = None
) -> CombinationSpace:
    """Everything that may be recommended, of some vocabulary ids or of all."""
    further = named_constraints(settings)
    if within is not None:  # which keep the conditions of whole batches
        further = tuple(each for each in further if not isinstance(each, BatchWide))
    rules = Constraints(excluded=settings.exclude, incompatible=settings.incompatible, further=further)
    return candidate_space(screen, settings.order, rules, within=within)


def named_constraints(settings: CampaignSettings) -> tuple[Constraint, ...]:
    """Read the constraints that the settings name."""
    return tuple(map(read_constraint, settings.constraints))


def states_by_level(state: DecisionState, settings: CampaignSettings) -> dict[str, DecisionState]:
    """Restrict a state to the candidates of each value of the conditions that a batch shares; none without any."""
    conditions, screen = batch_wide(named_constraints(settings)), state.measured
    found = {}
    for level, within in levels_of(conditions, screen.vocabulary).items() if conditions else ():
        try:
            found[level] = replace(state, candidates=space_of(settings, screen, within=within))
        except (NothingToProposeError, SpaceError):  # too few names have this value, or all is measured
            continue
    if conditions and not found:
        raise NothingToProposeError("no candidate is left whose parts share a value; relax a constraint")
    return found


def state_of(
    basis: Basis,
    settings: CampaignSettings,
    target: Target,
    *,
    started: int,
    missed: tuple[float, ...],
    cache: FitCache | None = None,
) -> DecisionState:
    """Make the state that a round is decided on."""
    return DecisionState(
        measured=basis.screen,
        target=target,
        candidates=space_of(settings, basis.screen),
        started=started,
        describe=partial(gene_descriptors, basis.screen.vocabulary.targets),
        rules=BatchRules(settings.max_per_gene, settings.random_share),
        surrogate=settings.surrogate,
        level=settings.level,
        missed=missed,
        cache=cache,
    )


def recommender_name(settings: CampaignSettings, state: DecisionState, name: str | None = None) -> tuple[str, str]:
    """Name the recommender of this round: the one that is stated, else that of the settings, else the default."""
    why = "as asked for"
    if name is None:
        name, why = settings.recommender, "named by the settings of the campaign"
    if name == AUTOMATIC and settings.gain != JOINT_GAIN:
        name, why = "gains", f"the settings of the campaign name the gain {settings.gain}"
    elif name == AUTOMATIC:
        name, why = default_recommender(state)
    return name, why


def chosen_recommender(
    settings: CampaignSettings, state: DecisionState, name: str | None = None
) -> tuple[Recommender, str]:
    """Take the recommender of this round, and say why."""
    name, why = recommender_name(settings, state, name)
    said = f"recommender: {name} ({why})"
    if name == "gains":
        from inverse_design.recommend.gains import Gains  # noqa: PLC0415 - models take seconds to import

        return Gains(settings.gain), said
    return RECOMMENDERS.load(name)(), said


def round_outline(
    recommender: Recommender | str | None,
    count: int,
    seed: int,
    state: DecisionState,
    settings: CampaignSettings,
    *,
    workers: Workers = 1,
) -> Outline:
    """Outline what choosing a round will cost; of a recommender of another package nothing is known."""
    from inverse_design.planning.work import fit_notes, fit_work  # noqa: PLC0415 - models take seconds to import
    from inverse_design.recommend.gains import SHORT_LIST, Gains  # noqa: PLC0415 - the same

    screen = state.measured
    sizes, space = Sizes.of(screen), state.candidates
    what = f"a round of {count} after {sizes.line}"
    name = "" if isinstance(recommender, Recommender) else recommender_name(settings, state, recommender)[0]
    if name in _FITTED:
        asked = len(state.target.on(screen.readouts).columns)
        stated = None if state.surrogate == AUTOMATIC else state.surrogate
        listed = sizes.terms(listed=SHORT_LIST, asked=asked)
        chosen = chosen_recommender(settings, state, name)[0]
        kept = isinstance(chosen, Gains) and chosen.is_fitted(state, seed)
        fit = fit_work(sizes, stated, share=0.0 if kept else 1.0, workers=workers)
        return Outline(what, {"plan": [*fit, Work("values", listed)]}, fit_notes(stated))
    known, most = int((screen.batch.order == 2).sum()), MOST_COMPARED if name == "pair_hits" else math.inf
    candidates = space.size if isinstance(space, CombinationSpace) else len(space)
    terms = sizes.terms(candidates=candidates, known=min(known, most), count=count)
    kind = f"replay {name}"
    if kind not in Costs.measured().seconds:
        return Outline(what, {"plan": [Work("unknown", terms)]}, (f"how long {name or 'it'} takes is not known",))
    return Outline(what, {"plan": [Work(kind, terms)]})


def planned(
    recommender: Recommender | str | None,
    count: int,
    basis: Basis,
    state: DecisionState,
    settings: CampaignSettings,
) -> Recommendation:
    """Let a recommender choose, check what it recommends, and leave out what cannot be paid."""
    if count < 1:
        raise PlanError(f"{count} experiments are asked for; ask for at least 1")
    chosen, said = recommender, list[str]()
    if chosen is None or isinstance(chosen, str):
        chosen, why = chosen_recommender(settings, state, chosen)
        said = [why]
    levels = states_by_level(state, settings)
    if levels:
        plan = recommend_sharing(chosen, levels, count, pending=basis.pending, seed=basis.seed)
    else:
        plan = recommend_within(chosen, state, count, pending=basis.pending, seed=basis.seed)
    plan = replace(plan, notes=(*basis.notes, *said, *plan.notes))
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
    made again. It does not if somebody else asked, something happened to one of its experiments, or a result that
    it may rest on was taken back or corrected.
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
    """Say whether a chosen experiment became open or was recorded, or any result was changed, since the basis."""
    changed = [log.newest("retracted"), log.newest("corrected")]
    if any(one is not None and one.sequence > basis.sequence for one in changed):
        return True
    found = log.experiments(perturbations=labels)
    if any(one.state in OPEN_STATES for one in found):
        return True
    return any(each.sequence > basis.sequence for each in log.measurements([one.number for one in found]))


def recommend_sharing(
    recommender: Recommender,
    levels: Mapping[str, DecisionState],
    count: int,
    *,
    pending: tuple[Perturbation, ...],
    seed: int,
) -> Recommendation:
    """Let a recommender choose a batch among the candidates of each value, and take the one that gains most.

    Where a recommender does not say what a batch gains, the one with the best predicted outcomes is taken, of as
    many experiments as the smallest batch has.
    """
    plans = {}
    for level, state in levels.items():
        try:
            plans[level] = recommend_within(recommender, state, count, pending=pending, seed=seed)
        except NothingToProposeError:
            continue
    plans = {level: plan for level, plan in plans.items() if len(plan.table)}
    if not plans:
        raise NothingToProposeError(f"no candidate is left at any of {len(levels)} values: {', '.join(levels)}")
    worth, unit = _worth(plans, state=is_state(next(iter(levels.values())).target))
    best = max(plans, key=worth.__getitem__)
    others = [f"{level} ({worth[level]:.3g})" for level in plans if level != best]
    behind = f", before {', '.join(others)}" if others else ""
    none = [level for level in levels if level not in plans]
    empty = f"; nothing is left at {', '.join(none)}" if none else ""
    said = f"all experiments of this batch share {best}: {unit} {worth[best]:.3g}{behind}{empty}"
    return replace(plans[best], notes=(said, *plans[best].notes))


def _worth(plans: Mapping[str, Recommendation], *, state: bool) -> tuple[Mapping[str, float], str]:
    gains = {level: plan.expected_gain for level, plan in plans.items()}
    if all(map(math.isfinite, gains.values())) or len(plans) == 1:
        return gains, "expected gain"
    fewest = min(len(plan.table) for plan in plans.values())
    if all("predicted" in plan.table for plan in plans.values()):
        sign = -1.0 if state else 1.0
        found = {
            level: float((sign * plan.table["predicted"]).nlargest(fewest).mean()) for level, plan in plans.items()
        }
        if all(map(math.isfinite, found.values())):
            return found, f"mean utility predicted of its best {fewest}"
    raise PlanError(
        "the recommender says neither what a batch gains nor what it predicts, so that batches at"
        f" {', '.join(plans)} cannot be compared; name another one, such as gains (--recommender gains)"
    )
