"""Protocol ``reach``: how near the first candidates come to states that no candidate need have made.

For each fold of doubles everything is learnt from all singles and the other folds' doubles. The held-out doubles
are the candidates: their effects are known and no model has seen them, so that the true distance of each to any
state is known too. States of every kind of :func:`~inverse_design.problem.mismatch.asked_states` are asked for,
and the regret of the best of the first k candidates is measured against the best and the mean of all.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.mismatch import (
    AskedState,
    KnownEffects,
    Mismatch,
    asked_states,
    choose_mismatch,
    regret,
    regrets,
)
from inverse_design.problem.objective import Correlation, Distance, Objective, SquaredDistance
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.api import drafted
from inverse_design.search.topk import TopK
from inverse_design.validate.judged import variants_of
from surrogates.data.novelty import SEEN_DOUBLE, Split, double_splits, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.evaluation.intervals import NodeBootstrap, Row
from surrogates.evaluation.workers import in_order
from surrogates.executors import Workers
from surrogates.models.base import Surrogate
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.posterior import pooled

FIRSTS = (1, 3, 5)
FEWEST_CANDIDATES = 6  # one more than the longest list, so that something is left to regret
MEAN = "mean over kinds"
DEFAULT = "by turns"
PLAIN = "likelihood"
_MISSED, _EXPECTED = "likelihood, mismatch", "expected distance"
_MOST_GENES = 4  # of which a state is made: two doubles
_NOVELTY = novelty_name(SEEN_DOUBLE)


@dataclass(frozen=True)
class ReachReport:
    """What the protocol measured, and what it rests upon."""

    rows: list[Row]  # regrets by readouts, kind of state and method
    mismatches: Mapping[str, tuple[Mismatch, ...]]  # that each fold chose in its training data, by readouts
    candidates: tuple[int, ...]  # how many candidates each fold had
    left_out: int  # how many held-out doubles stood in folds with too few candidates


@dataclass(frozen=True)
class _Fold:
    """A fit, the candidates that it has not seen, and what it says of each for any target."""

    fitted: FittedCalibrated
    batch: PerturbationBatch
    mismatch: Mismatch
    mean: Float[Tensor, "n g"]
    space: CombinationSpace = field(repr=False)

    @classmethod
    def of(cls, fitted: FittedCalibrated, batch: PerturbationBatch, *, seed: int) -> "_Fold":
        readouts = len(fitted.readouts)
        every = AlignedProfile.exact(range(readouts), torch.zeros(readouts, dtype=torch.float64))
        space = CombinationSpace.of(fitted.vocabulary, orders=(2,), within=batch.genes[:, :2].unique())
        return cls(fitted, batch, choose_mismatch(fitted, every, seed=seed), fitted.predict(batch).mean, space)

    def scores(self, objective: Objective, fitted: FittedCalibrated) -> Float[Tensor, "n"]:
        """Score the candidates as a search would: by products where the model factorises."""
        score = objective.pair_score(fitted, self.space)
        if score is None:
            return objective.utility(fitted, self.batch).mean
        return score.exact(*torch.searchsorted(self.space.entries, self.batch.genes[:, :2].contiguous()).T)

    def likelihood(self, state: AskedState, target: AlignedProfile) -> Float[Tensor, "n"]:
        """Pool the experts' probabilities over the candidates that may be proposed, as a proposal does."""
        likelihood = TargetLikelihood(target, torch.zeros(len(self.fitted.vocabulary), dtype=torch.float64))
        if not self.fitted.experts:
            return self.scores(likelihood, self.fitted)
        barred = ~state.allowed(len(self.batch))
        logs = [self.scores(likelihood, expert.fitted) for expert in self.fitted.experts]
        weights = torch.tensor([expert.weight for expert in self.fitted.experts], dtype=torch.float64)
        return pooled(torch.stack(logs).masked_fill(barred, -torch.inf).log_softmax(1), weights)

    def correlation(self, objective: Correlation) -> Float[Tensor, "n"]:
        return self.scores(objective, self.fitted.without_offsets())


_SCORES: Mapping[str, Callable[[_Fold, AskedState], Float[Tensor, "n"]]] = {
    PLAIN: lambda fold, state: fold.likelihood(state, state.asked),
    _MISSED: lambda fold, state: fold.likelihood(state, fold.mismatch.on(state.asked, fold.fitted)),
    _EXPECTED: lambda fold, state: fold.scores(SquaredDistance(state.asked), fold.fitted),
    "distance of the mean": lambda fold, state: -Distance(state.asked).measured(fold.mean),
    "pearson": lambda fold, state: fold.correlation(Correlation(state.asked, "pearson")),
    "cosine": lambda fold, state: fold.correlation(Correlation(state.asked, "cosine")),
}
METHODS = (*_SCORES, DEFAULT)
REFERENCES = ("doing nothing", "nearest measured")


@dataclass(frozen=True)
class _Answered:
    """The regrets of all methods for one state."""

    state: AskedState
    double: tuple[int, ...]
    regrets: Mapping[str, tuple[float, ...]]


def measure_reach(
    screen: Screen,
    *,
    dataset: str,
    seed: int,
    model: Surrogate | None = None,
    workers: Workers = 1,
    progress: Callable[[int, int], None] | None = None,
) -> ReachReport:
    """Run the protocol with the readouts that are targets themselves removed, and with all readouts."""
    splits = list(double_splits(screen, seed=seed))
    large = [split for split in splits if len(split.test) >= FEWEST_CANDIDATES]
    if not large:
        raise DataError(
            f"no fold holds out {FEWEST_CANDIDATES} or more doubles of two measured singles, so that nothing can"
            " be chosen among candidates whose true distances are known"
        )
    rows, mismatches = [], {}
    variants = variants_of(screen)
    folds = [(view, split) for view in variants.values() for split in large]
    asked = enumerate(in_order(partial(_ask_all, model or Automatic(), seed), folds, workers=workers), 1)
    for variant in variants:
        answered, chosen = [], []
        for done, (found, mismatch) in islice(asked, len(large)):
            answered += found
            chosen.append(mismatch)
            if progress is not None:
                progress(done, len(folds))
        rows += _rows(answered, dataset, variant, seed)
        mismatches[variant] = tuple(chosen)
    sizes = tuple(len(split.test) for split in large)
    return ReachReport(rows, mismatches, sizes, sum(len(split.test) for split in splits) - sum(sizes))


def _ask_all(model: Surrogate, seed: int, part: tuple[Screen, Split]) -> tuple[list[_Answered], Mismatch]:
    screen, split = part
    fold = _fitted(screen, split, model, seed=seed)
    return _answered(fold, screen, split, seed=seed), fold.mismatch


def _fitted(screen: Screen, split: Split, model: Surrogate, *, seed: int) -> _Fold:
    fitted = model.fit(screen.rows(split.train), seed=seed)
    if not isinstance(fitted, FittedCalibrated):
        raise DataError(f"{type(model).__name__} has no error law; wrap it in Automatic")
    return _Fold.of(fitted, screen.batch.rows(split.test), seed=seed)


def _answered(fold: _Fold, screen: Screen, split: Split, *, seed: int) -> list[_Answered]:
    """Ask for all states of a fold, by every method."""
    training = screen.rows(split.train)
    singles, doubles = (
        KnownEffects(training.effects[rows], training.batch.genes[rows])
        for rows in (training.batch.order == order for order in (1, 2))
    )
    held_out = KnownEffects(screen.effects[split.test], fold.batch.genes)
    answered = []
    for state in asked_states(held_out, singles, doubles, seed=seed):
        distance = state.distances(held_out.effects)
        found = {name: regrets(each, distance, FIRSTS) for name, each in _listed(fold, state).items()}
        for name, effect in _references(state, training.effects).items():
            found[name] = (regret(float(Distance(state.wanted).measured(effect)), distance),) * len(FIRSTS)
        answered.append(_Answered(state, tuple(fold.batch.genes[state.base, :2].tolist()), found))
    return answered


def _listed(fold: _Fold, state: AskedState) -> dict[str, Int[Tensor, "m"]]:
    """List the candidates that may be proposed by every method, the first choice first."""
    allowed = torch.nonzero(state.allowed(len(fold.batch))).flatten()
    ranked = {}
    for name, score in _SCORES.items():
        ranked[name] = TopK.empty(len(allowed)).offer(allowed, score(fold, state)[allowed])
    index, _ = drafted([ranked[_MISSED], ranked[_EXPECTED]], len(allowed))
    return {name: each.index for name, each in ranked.items()} | {DEFAULT: index}


def _references(state: AskedState, trained: Float[Tensor, "n g"]) -> dict[str, Float[Tensor, "1 g"]]:
    """Give the effect of doing nothing, and of the measured condition that is nearest to what is asked."""
    nearest = int(Distance(state.asked).measured(trained).argmin())
    return dict(zip(REFERENCES, (torch.zeros_like(trained[:1]), trained[nearest : nearest + 1]), strict=True))


def _rows(answered: Sequence[_Answered], dataset: str, variant: str, seed: int) -> list[Row]:
    """Average over the states of each kind, and over the kinds."""
    rows = []
    kinds = dict.fromkeys(each.state.kind for each in answered)
    for kind in kinds:
        some = [each for each in answered if each.state.kind == kind]
        genes = torch.tensor([_padded(each.state.genes) for each in some])
        values = {name: _of_method(some, name) for name in some[0].regrets}
        rows += _averages(values, genes, _blank(dataset, f"{variant}, {kind}"), seed)
    doubles = dict.fromkeys(each.double for each in answered)
    place = {double: number for number, double in enumerate(doubles)}
    at = torch.tensor([place[each.double] for each in answered])
    values = {
        name: torch.stack([each[at == number].nanmean(0) for number in range(len(doubles))])
        for name, each in ((name, _of_method(answered, name)) for name in answered[0].regrets)
    }
    return rows + _averages(values, torch.tensor(list(doubles)), _blank(dataset, f"{variant}, {MEAN}"), seed)


def _blank(dataset: str, variant: str) -> Row:
    return Row("reach", dataset, "", _NOVELTY, variant, "", math.nan, math.nan, math.nan, 0, "share")


def _of_method(answered: Sequence[_Answered], name: str) -> Float[Tensor, "n k"]:
    return torch.tensor([each.regrets[name] for each in answered], dtype=torch.float64)


def _averages(
    values: Mapping[str, Float[Tensor, "n k"]], genes: Int[Tensor, "n p"], row: Row, seed: int
) -> list[Row]:
    """Average the numbers of every method, and its gain over the plain likelihood, with intervals over genes."""
    drawn = NodeBootstrap.of(genes, seed=seed)
    rows = []
    for name, each in values.items():
        for metric, numbers in (("regret", each), ("gain", values[PLAIN] - each)):
            if metric == "gain" and name in {PLAIN, *REFERENCES}:
                continue
            for column, first in enumerate(FIRSTS):
                some = numbers[:, column]
                low, high = drawn.interval(some)
                measured = replace(row, model=name, metric=f"{metric}_{first}", low=low, high=high, n=len(some))
                error = dyadic_standard_error(some, genes)
                rows.append(replace(measured, value=float(some.nanmean()), standard_error=error))
    return rows


def _padded(genes: tuple[int, ...]) -> list[int]:
    distinct = sorted(set(genes))
    return distinct + [-1] * (_MOST_GENES - len(distinct))
