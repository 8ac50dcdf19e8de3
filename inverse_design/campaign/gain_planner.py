"""The planner of a campaign: fit, search the whole space, and choose the batch of largest joint gain."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from inverse_design.acquisition.batch import (
    BatchAcquisition,
    BatchRules,
    Fallback,
    Fixed,
    Pool,
    Thompson,
    choose_batch,
)
from inverse_design.acquisition.gain import GAINS
from inverse_design.acquisition.joint_gain import LIKELY, JointEffects, JointGain, joint_effects, joint_gain
from inverse_design.campaign.picked_bounds import Ranker, as_near_as_noise, may_have_made, picked_bounds
from inverse_design.campaign.planner import PLAN_COLUMNS, Plan
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.candidates import PICKED_MAY_FAIL
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.objective import Objective
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.registered import read_constraint
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import Target
from inverse_design.search.api import Engine, search_notes
from inverse_design.search.exhaustive import search
from inverse_design.valuation import Aim, value
from surrogates.artefact import Origin, save_fitted
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import UnknownNameError
from surrogates.models.base import Surrogate, surrogate_name
from surrogates.models.registry import SURROGATES
from surrogates.models.wrappers.automatic import Automatic, best_identifying, calibrated
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.uncertainty.conformal.adaptive import MixedBatch


@dataclass(frozen=True)
class ShortList:
    """What a batch is chosen from."""

    batch: PerturbationBatch  # the candidates, the best first, and behind them what is pending
    choice: Pool  # the same for the chooser
    notes: tuple[str, ...]  # what is special about the search behind it


@dataclass(frozen=True)
class Lister:
    """Makes short lists of one space."""

    fitted: FittedCalibrated  # the surrogate
    space: CombinationSpace  # what may be proposed
    pending: PerturbationBatch  # what is on its way
    settings: CampaignSettings  # of the campaign, for the costs

    def best(self, objective: Objective, count: int) -> ShortList:
        """Find the best candidates that are not pending."""
        found = search(objective, self.fitted, self.space, count + len(self.pending))
        best = self.space.take(found.top.index)
        waiting = {tuple(row[row >= 0].tolist()) for row in self.pending.genes}
        free = [at for at, row in enumerate(best.genes) if tuple(row[row >= 0].tolist()) not in waiting]
        best = best.rows(torch.tensor(free[:count], dtype=torch.int64))
        genes = _stacked(best.genes, self.pending.genes)
        choice = Pool(genes, self._cost(genes), torch.arange(len(genes)) >= len(best))
        notes = search_notes(Engine(), found.certificate, self.fitted, self.space)
        return ShortList(self.fitted.vocabulary.dosed(genes), choice, notes)

    def _cost(self, genes: Int[Tensor, "b k"]) -> Tensor:
        entries, costs = self.fitted.vocabulary.entries, self.settings.costs
        own = [sum(costs.get(entries[i].target, 0.0) for i in row if i >= 0) for row in genes.tolist()]
        return torch.tensor(own, dtype=torch.float64) + self.settings.cost_per_well * self.settings.replicates


def _stacked(first: Int[Tensor, "b k"], second: Int[Tensor, "c l"]) -> Int[Tensor, "n j"]:
    """One below the other, with as many slots as the wider of the two."""
    width = max(first.shape[1], second.shape[1] if len(second) else 0)
    wide = [
        torch.nn.functional.pad(each, (0, width - each.shape[1]), value=-1)
        for each in (first, second)
        if len(each)
    ]
    return torch.cat(wide) if wide else first


JOINT_GAIN, THOMPSON = "expected_improvement", "thompson"
_AUTOMATIC = "automatic"
_LIKELIEST = "what most probably made the target, if anything did"
_CHANCE = f"{LIKELY:g} or more"


def require_plannable(settings: CampaignSettings, screen: Screen) -> None:
    """Refuse settings by which nothing could be planned, before a campaign stands on them.

    Raises:
        UnknownNameError: If there is no such surrogate or gain; the message names the nearest ones.
        SpaceError: If there are fewer genes or compounds than are to be given together.
        NothingToProposeError: If everything is measured or excluded.
    """
    surrogates, gains = (_AUTOMATIC, *SURROGATES.names()), (THOMPSON, *GAINS.names())
    if settings.surrogate not in surrogates:
        raise UnknownNameError.from_known("surrogate", settings.surrogate, surrogates)
    if settings.gain not in gains:
        raise UnknownNameError.from_known("gain", settings.gain, gains)
    _space_of(settings, screen)


@dataclass(frozen=True)
class GainPlanner:
    """Plans rounds by expected gain.

    The forward model is fitted anew to all that is known. The best candidates of the whole space by expected
    utility make a short list; their joint gains choose the batch one by one, knowing what is pending.
    Random picks are uniform over the short list, which for small spaces is the whole space.

    Gains do not take a target state as evidence on what made it, and may all be nothing. A batch by expected
    improvement goes on with the candidates under which the target is most likely: the best for a target that
    one of them reaches.
    """

    settings: CampaignSettings  # of the campaign
    target: Target  # where the cells should go
    surrogate: Surrogate | None = None  # the forward model; by default the one that the settings name
    listed: int = 300  # length of the short list
    draws: int = 1024  # joint draws, for gains that need them
    missed: tuple[float, ...] = ()  # share of the designed picks of each past round that were outside their bounds

    def plan(self, screen: Screen, count: int, *, pending: tuple[Perturbation, ...], seed: int) -> Plan:
        """Choose the experiments of a round.

        Raises:
            NothingToProposeError: If no candidate is left.
            DataError: If the screen, the target or a setting cannot be used.
        """
        model, fitted = self._fit(screen, seed)
        aim = Aim.at(self.target, screen)
        space = _space_of(self.settings, screen)
        lister = Lister(fitted, space, screen.vocabulary.batch(list(pending)), self.settings)
        selection = self._select(lister, aim, screen, count, seed=seed)
        table, notes = self._table(selection, fitted, aim, screen)
        return Plan(
            table=table,
            expected_gain=_gain_of(selection.outlook.together, selection.pool.choice, selection.chosen.numbers),
            notes=(*_notes(fitted, aim, space), *selection.pool.notes, *selection.remarks, *notes),
            model=_as_bytes(fitted, Origin.of(screen, model, seed=seed)),
        )

    def _select(self, lister: Lister, aim: Aim, screen: Screen, count: int, *, seed: int) -> "_Selection":
        """Choose the batch from a short list, the designed ones first."""
        fitted = lister.fitted
        ranker: Ranker = aim.objective
        outlook = _Outlook.of(lister.best(ranker, self.listed), fitted, aim, screen)
        promising = int(outlook.promising.sum())
        preference = self._preference(outlook, aim, seed=seed)
        by_likelihood = aim.is_state and self.settings.gain == JOINT_GAIN and promising < count
        if by_likelihood:
            likelihood = aim.likelihood(screen)
            if not promising:
                ranker = likelihood
                outlook = _Outlook.of(lister.best(ranker, self.listed), fitted, aim, screen)
            likeliest = Fixed(likelihood.utility(fitted, outlook.pool.batch).mean)
            preference = Fallback(outlook.together.only(outlook.promising), likeliest)
        generator = torch.Generator().manual_seed(seed)
        chosen = choose_batch(preference, outlook.pool.choice, self._rules(count), generator=generator)
        remarks = _prospects(promising, count, by_likelihood=by_likelihood)
        return _Selection(ranker, outlook, _designed_first(chosen), remarks)

    def _table(
        self, selection: "_Selection", fitted: FittedCalibrated, aim: Aim, screen: Screen
    ) -> tuple[pd.DataFrame, tuple[str, ...]]:
        """Lay the batch out; designed picks, which come first, have bounds of their own."""
        chosen, level = selection.chosen, self.settings.level
        batch = selection.pool.batch.rows(chosen.numbers)
        valuation = value(fitted, batch, aim, screen, level=level)
        lower, upper = (torch.tensor(valuation.table[name].to_numpy(dtype=float)) for name in ("lower", "upper"))
        some = torch.nonzero(~chosen.drawn).flatten()
        picks = batch.rows(some)
        random = (lower[some], upper[some])
        stated = picked_bounds(selection.ranker, fitted, picks, random, level=level, missed=self.missed)
        lower[some], upper[some] = stated.lower, stated.upper
        if aim.is_state:
            may = may_have_made(aim.likelihood(screen), fitted, selection.pool.batch, level=level)
            lower = as_near_as_noise(lower, may[chosen.numbers], aim.aligned, screen, level=level)
        table = valuation.table.rename(columns={aim.worth.name: "predicted"}).assign(
            lower=lower.tolist(),
            upper=upper.tolist(),
            chosen=["random" if drawn else "designed" for drawn in chosen.drawn.tolist()],
            log_probability=chosen.log_probability.tolist(),
        )
        shown = [*PLAN_COLUMNS, *(name for name in table if name not in PLAN_COLUMNS)]
        kept = tuple(note for note in valuation.notes if note != PICKED_MAY_FAIL)
        return table[shown], (*kept, *stated.notes)

    def _fit(self, screen: Screen, seed: int) -> tuple[Calibrated, FittedCalibrated]:
        """The one that identifies held-out doubles best; all candidates have parts that were measured alone."""
        name = self.settings.surrogate
        if self.surrogate is not None:
            bases: tuple[Surrogate, ...] = (self.surrogate,)
        else:
            bases = Automatic().bases if name == _AUTOMATIC else (SURROGATES.load(name)(),)
        best = best_identifying(calibrated(bases, screen, seed=seed))
        return next(Calibrated(base) for base in bases if surrogate_name(base) == best.name), best

    def _preference(self, outlook: "_Outlook", aim: Aim, *, seed: int) -> BatchAcquisition:
        name = self.settings.gain
        if name == JOINT_GAIN:
            return outlook.together
        belief = outlook.joint.believe(aim.worth, self.draws, seed=seed)
        if name == THOMPSON:
            return Thompson(belief.joint())
        # Where nothing is likely to improve on the incumbent, the best that the batch itself may hold is worth it.
        hope = bool(outlook.promising.any())
        rival = aim.incumbent.utility if hope else float(belief.joint().min())
        return Fixed(GAINS.load(name)().score(belief, rival))

    def _rules(self, count: int) -> BatchRules:
        return BatchRules(
            size=count, most_per_gene=self.settings.max_per_gene, random_share=self.settings.random_share
        )


@dataclass(frozen=True)
class _Outlook:
    """What the candidates of a short list gain, and which of them may improve on the incumbent at all."""

    pool: ShortList
    joint: JointEffects
    together: JointGain
    promising: Bool[Tensor, "b"]

    @classmethod
    def of(cls, pool: ShortList, fitted: FittedCalibrated, aim: Aim, screen: Screen) -> "_Outlook":
        joint = joint_effects(fitted, pool.batch, aim.aligned.columns, screen)
        alone = aim.worth.improvement(joint.marginal(), aim.incumbent.utility)
        promising = (alone.probability >= LIKELY) & ~pool.choice.pending
        return cls(pool, joint, joint_gain(joint, alone, aim.worth), promising)


@dataclass(frozen=True)
class _Selection:
    """A batch, and by what it was chosen from which short list."""

    ranker: Ranker
    outlook: _Outlook
    chosen: MixedBatch
    remarks: tuple[str, ...]

    @property
    def pool(self) -> ShortList:
        return self.outlook.pool


def _space_of(settings: CampaignSettings, screen: Screen) -> CombinationSpace:
    further = tuple(map(read_constraint, settings.constraints))
    rules = Constraints(excluded=settings.exclude, incompatible=settings.incompatible, further=further)
    return candidate_space(screen, settings.order, rules)


def _designed_first(chosen: MixedBatch) -> MixedBatch:
    order = torch.argsort(chosen.drawn.int(), stable=True)
    return replace(
        chosen,
        numbers=chosen.numbers[order],
        drawn=chosen.drawn[order],
        log_probability=chosen.log_probability[order],
    )


def _gain_of(together: JointGain, pool: Pool, numbers: Int[Tensor, "q"]) -> float:
    """What the batch adds to the joint expected improvement of what is pending."""
    for number in torch.nonzero(pool.pending).flatten().tolist():
        together = together.adding(number)
    before = together.total
    for number in numbers.tolist():
        together = together.adding(number)
    return together.total - before


def _prospects(promising: int, count: int, *, by_likelihood: bool) -> tuple[str, ...]:
    """Say which part of the batch is not expected to gain anything."""
    if not promising:
        rest = f"; the batch holds {_LIKELIEST}" if by_likelihood else ""
        return (f"warning: no candidate improves on the best measured with a chance of {_CHANCE}{rest}",)
    if promising < count:
        rest = f"; the rest of the batch is {_LIKELIEST}" if by_likelihood else ""
        return (f"{promising} candidate(s) improve on the best measured with a chance of {_CHANCE}{rest}",)
    return ()


def _notes(fitted: FittedCalibrated, aim: Aim, space: CombinationSpace) -> tuple[str, ...]:
    best = aim.incumbent
    notes = [
        f"space: {space.summary}; best measured: {best.label} with a {aim.worth.name} of"
        f" {aim.outcome(best.measured):.4g} ({aim.outcome(best.utility):.4g} without the luck of its noise)",
        f"model: {fitted.name}",
    ]
    held_out = fitted.held_out
    if held_out.conditions == 0:
        notes.append(
            "warning: no held-out combination could test the model or its error law; its gains are guesses"
        )
    elif held_out.ratio >= 1:
        notes.append(
            f"warning: the model does not beat additive: {held_out.ratio:.3f} of its squared error on"
            f" {held_out.conditions} held-out doubles"
        )
    return tuple(notes)


def _as_bytes(fitted: FittedCalibrated, origin: Origin) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_fitted(fitted, path, origin=origin)
        return path.read_bytes()
