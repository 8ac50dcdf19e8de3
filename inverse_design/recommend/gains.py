"""Recommending by gains: fit, search the whole space, and choose the batch of largest joint gain."""

import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from jaxtyping import Bool
from torch import Tensor

from inverse_design.acquisition.acquisition import ACQUISITIONS, Acquisition, Fallback, Fixed
from inverse_design.acquisition.batch import ChosenBatch, choose_batch
from inverse_design.acquisition.joint_gain import LIKELY, JointEffects, JointGain, joint_effects, joint_gain
from inverse_design.acquisition.quadratic import NormalScores
from inverse_design.acquisition.utility import Utility, true_utility
from inverse_design.candidates import PICKED_MAY_FAIL
from inverse_design.problem.objective import Objective
from inverse_design.problem.space import CombinationSpace
from inverse_design.ranking import ScreenObjective, valuation_of
from inverse_design.recommend.picked_bounds import Ranker, as_near_as_noise, may_have_made, picked_bounds
from inverse_design.recommend.protocol import COLUMNS, DecisionState, Recommendation, best_first, joined_rows
from inverse_design.search.api import Engine, search_notes
from inverse_design.search.exhaustive import search
from surrogates.artefact import Origin, save_fitted
from surrogates.cached_fit import BesideFit, cached_fit
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.base import Surrogate, surrogate_name
from surrogates.models.registry import SURROGATES
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated

SHORT_LIST = 300  # candidates
AUTOMATIC = "automatic"  # a choice among several forward models
JOINT_GAIN, _LOG_IMPROVEMENT = "expected_improvement", "log_improvement"
_LIKELIEST = "what most probably made the target, if anything did"
_CHANCE = f"{LIKELY:g} or more"
_AT_ONCE = 4096  # candidates of a list that are valued together


@dataclass(frozen=True)
class Gains:
    """Chooses batches by what they are expected to gain.

    The forward model is fitted anew to all that is known. The best candidates of the whole space by expected
    utility make a short list; their joint gains choose the batch one by one, knowing what is pending.
    Random picks are uniform over the short list, which for small spaces is the whole space.

    Gains do not take a target state as evidence on what made it, and may all be nothing. A batch by expected
    improvement goes on with the candidates under which the target is most likely: the best for a target that
    one of them reaches.
    """

    acquisition: str = JOINT_GAIN  # what an experiment is worth, by its name
    surrogate: Surrogate | None = None  # the forward model; by default the one that the state names
    listed: int = SHORT_LIST  # length of the short list
    draws: int = 1024  # joint draws, for acquisitions that need them
    keeps_rules: ClassVar[bool] = True

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Choose the experiments of a round."""
        screen = state.measured
        model, fitted = self._fit(state, seed)
        objective = ScreenObjective.of(state.target, screen)
        selection = self._select(_Lister(state, fitted, pending), objective, count, seed=seed)
        table, notes = _table(selection, fitted, objective, state)
        return Recommendation(
            table=table,
            expected_gain=selection.gain,
            notes=(*_notes(fitted, objective, state), *selection.short.notes, *selection.remarks, *notes),
            model=_as_bytes(fitted, Origin.of(screen, model, seed=seed)),
        )

    def _select(self, lister: "_Lister", objective: ScreenObjective, count: int, *, seed: int) -> "_Selection":
        """Choose the batch from a short list, the designed ones first."""
        screen, fitted = lister.state.measured, lister.fitted
        ranker: Ranker = objective.searched
        outlook = _Outlook.of(lister.best(ranker, self.listed), fitted, objective, screen)
        promising = int(outlook.promising.sum())
        by_likelihood = objective.is_state and self.acquisition == JOINT_GAIN and promising < count
        if by_likelihood:
            likelihood = objective.likelihood(screen)
            if not promising:
                ranker = likelihood
                outlook = _Outlook.of(lister.best(ranker, self.listed), fitted, objective, screen)
            likeliest = Fixed(likelihood.utility(fitted, outlook.short.batch).mean)
            acquisition: Acquisition = Fallback(outlook.together.only(outlook.promising), likeliest)
        else:
            acquisition = self._acquisition(outlook, objective, screen, seed=seed)
        generator = torch.Generator().manual_seed(seed)
        short = outlook.short
        chosen = choose_batch(
            acquisition, short.batch.genes, lister.state.rules, count, generator=generator, pending=short.pending
        )
        remarks = _prospects(promising, count, by_likelihood=by_likelihood)
        return _Selection(ranker, outlook, _designed_first(chosen), remarks)

    def is_fitted(self, state: DecisionState, seed: int) -> bool:
        """Tell whether the fit that a batch is chosen by is kept."""
        if state.cache is None:
            return False
        surrogate = Automatic(self._bases(state, seed), unseen=None)
        return BesideFit.of_fit(surrogate, state.measured, seed=seed, cache=state.cache).has_fit

    def _bases(self, state: DecisionState, seed: int) -> tuple[Surrogate, ...]:
        name = state.surrogate
        if self.surrogate is not None:
            bases: tuple[Surrogate, ...] = (self.surrogate,)
        else:
            bases = Automatic().bases if name == AUTOMATIC else (SURROGATES.load(name)(),)
        told = Calibrated(bases[0]).holds_out(state.measured, seed=seed)
        return bases if told else bases[:1]  # nothing tells which of them is best

    def _fit(self, state: DecisionState, seed: int) -> tuple[Calibrated, FittedCalibrated]:
        """The one that identifies held-out doubles best; all candidates have parts that were measured alone."""
        bases = self._bases(state, seed)
        best = cached_fit(Automatic(bases, unseen=None), state.measured, seed=seed, cache=state.cache)
        return next(Calibrated(base) for base in bases if surrogate_name(base) == best.name), best

    def _acquisition(
        self, outlook: "_Outlook", objective: ScreenObjective, screen: Screen, *, seed: int
    ) -> Acquisition:
        name = self.acquisition
        if name == JOINT_GAIN:
            return outlook.together
        belief = outlook.joint.believe(objective.utility, self.draws, seed=seed)
        if name == _LOG_IMPROVEMENT and screen.standard_errors is not None:
            from inverse_design.acquisition.joint import LogImprovement  # noqa: PLC0415 - BoTorch takes seconds

            mean, variance = true_utility(objective.utility, objective.aligned, screen)
            noise = torch.randn(self.draws, len(mean), generator=torch.Generator().manual_seed(seed)).double()
            return LogImprovement(belief.joint(), (mean + noise * variance.sqrt()).amax(1))
        # Where nothing is likely to improve on the best observed, the best of the batch itself is sought.
        promising = bool(outlook.promising.any())
        incumbent = objective.incumbent.utility if promising else float(belief.joint().min())
        return ACQUISITIONS.load(name)(belief, incumbent)


def thompson_gains() -> Gains:
    """Each pick is the best candidate in a joint draw of its own."""
    return Gains("thompson")


def exploring_gains() -> Gains:
    """Picks are the candidates of which least is known."""
    return Gains("exploration")


def botorch_gains() -> Gains:
    """The joint expected improvement of BoTorch: qLogEI, or qLogNEI where errors of the measurements are known."""
    return Gains(_LOG_IMPROVEMENT)


@dataclass(frozen=True)
class _ShortList:
    """What a batch is chosen from."""

    batch: PerturbationBatch  # the candidates, the best first, and behind them what is pending
    pending: Bool[Tensor, "b"]
    notes: tuple[str, ...]  # what is special about the search behind it


@dataclass(frozen=True)
class _Lister:
    """Makes short lists of what may be recommended."""

    state: DecisionState
    fitted: FittedCalibrated
    pending: tuple[Perturbation, ...]

    def best(self, objective: Objective, count: int) -> _ShortList:
        """Find the best candidates that are not pending."""
        space, vocabulary = self.state.candidates, self.fitted.vocabulary
        waiting = vocabulary.batch(list(self.pending)).genes
        if isinstance(space, CombinationSpace):
            found = search(objective, self.fitted, space, count + len(waiting))
            best = space.take(found.top.index)
            held = {tuple(row[row >= 0].tolist()) for row in waiting}
            free = [at for at, row in enumerate(best.genes) if tuple(row[row >= 0].tolist()) not in held]
            best = best.rows(torch.tensor(free[:count], dtype=torch.int64))
            notes = search_notes(Engine(), found.certificate, self.fitted, space)
        else:
            left = self.state.open(self.pending)
            parts = [left.rows(rows) for rows in torch.arange(len(left)).split(_AT_ONCE)]
            score = torch.cat([objective.utility(self.fitted, part).mean for part in parts])
            best, notes = left.rows(best_first(score, count)), ()
        genes = joined_rows(best.genes, waiting) if len(waiting) else best.genes
        return _ShortList(vocabulary.dosed(genes), torch.arange(len(genes)) >= len(best), notes)


@dataclass(frozen=True)
class _Outlook:
    """What the candidates of a short list gain, and which of them may improve on the best observed at all."""

    short: _ShortList
    joint: JointEffects
    alone: NormalScores
    utility: Utility

    @classmethod
    def of(
        cls, short: _ShortList, fitted: FittedCalibrated, objective: ScreenObjective, screen: Screen
    ) -> "_Outlook":
        joint = joint_effects(fitted, short.batch, objective.aligned.columns, screen)
        alone = objective.utility.improvement(joint.marginal(), objective.incumbent.utility)
        return cls(short, joint, alone, objective.utility)

    @cached_property
    def promising(self) -> Bool[Tensor, "b"]:
        """Which of them may improve on the best observed."""
        return (self.alone.probability >= LIKELY) & ~self.short.pending

    @cached_property
    def together(self) -> JointGain:
        """What they gain together, drawn where it is asked for."""
        return joint_gain(self.joint, self.alone, self.utility)


@dataclass(frozen=True)
class _Selection:
    """A batch, and by what it was chosen from which short list."""

    ranker: Ranker
    outlook: _Outlook
    chosen: ChosenBatch
    remarks: tuple[str, ...]

    @property
    def short(self) -> _ShortList:
        return self.outlook.short

    @property
    def gain(self) -> float:
        """What the batch adds to the joint expected improvement of what is pending."""
        together = self.outlook.together
        for number in torch.nonzero(self.short.pending).flatten().tolist():
            together = together.adding(number)
        before = together.total
        for number in self.chosen.numbers.tolist():
            together = together.adding(number)
        return together.total - before


def _table(
    selection: _Selection, fitted: FittedCalibrated, objective: ScreenObjective, state: DecisionState
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Lay the batch out; designed picks, which come first, have bounds of their own."""
    chosen, level, screen = selection.chosen, state.level, state.measured
    batch = selection.short.batch.rows(chosen.numbers)
    valuation = valuation_of(fitted, batch, objective, screen, level=level)
    lower, upper = (torch.tensor(valuation.table[name].to_numpy(dtype=float)) for name in ("lower", "upper"))
    some = torch.nonzero(~chosen.drawn).flatten()
    random = (lower[some], upper[some])
    stated = picked_bounds(selection.ranker, fitted, batch.rows(some), random, level=level, missed=state.missed)
    lower[some], upper[some] = stated.lower, stated.upper
    if objective.is_state:
        may = may_have_made(objective.likelihood(screen), fitted, selection.short.batch, level=level)
        lower = as_near_as_noise(lower, may[chosen.numbers], objective.aligned, screen, level=level)
    table = valuation.table.rename(columns={objective.utility.name: "predicted"}).assign(
        lower=lower.tolist(),
        upper=upper.tolist(),
        chosen=["random" if drawn else "designed" for drawn in chosen.drawn.tolist()],
        log_probability=chosen.log_probability.tolist(),
    )
    shown = [*COLUMNS, *(name for name in table if name not in COLUMNS)]
    kept = tuple(note for note in valuation.notes if note != PICKED_MAY_FAIL)
    return table[shown], (*kept, *stated.notes)


def _designed_first(chosen: ChosenBatch) -> ChosenBatch:
    order = torch.argsort(chosen.drawn.int(), stable=True)
    return replace(
        chosen,
        numbers=chosen.numbers[order],
        drawn=chosen.drawn[order],
        log_probability=chosen.log_probability[order],
    )


def _prospects(promising: int, count: int, *, by_likelihood: bool) -> tuple[str, ...]:
    """Say which part of the batch is not expected to gain anything."""
    if not promising:
        rest = f"; the batch holds {_LIKELIEST}" if by_likelihood else ""
        return (f"warning: no candidate improves on the best measured with a chance of {_CHANCE}{rest}",)
    if promising < count:
        rest = f"; the rest of the batch is {_LIKELIEST}" if by_likelihood else ""
        return (f"{promising} candidate(s) improve on the best measured with a chance of {_CHANCE}{rest}",)
    return ()


def _notes(fitted: FittedCalibrated, objective: ScreenObjective, state: DecisionState) -> tuple[str, ...]:
    best, space = objective.incumbent, state.candidates
    held = space.summary if isinstance(space, CombinationSpace) else f"a list of {len(space):,} candidates"
    notes = [
        f"space: {held}; best measured: {best.label} with a {objective.utility.name} of"
        f" {objective.outcome(best.measured):.4g} ({objective.outcome(best.utility):.4g} without its noise)",
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
