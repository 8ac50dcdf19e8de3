"""How well models of cells predict cells that they have not seen: a whole context, or a combination, held out.

Every model is fitted to the same cells. Where a context is held out, all its treated cells are, and its control
cells stay, of which the prediction is made. Where combinations are, cells of their parts stay. The unit of every
interval is what is held out (the context, or the genes of combinations), never the cell: cells of one dish share
what is peculiar to it.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.shift import treated_beside_controls
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, amount
from surrogates.evaluation.cell_scores import (
    CELL_METRICS,
    COMPONENTS,
    HeldOutCells,
    Predicted,
    between_halves,
    judged_prediction,
)
from surrogates.evaluation.differential import delogged
from surrogates.evaluation.scorecard import Progress, Refusal
from surrogates.evaluation.workers import in_order
from surrogates.executors import Workers
from surrogates.models.base import CellSurrogate, FittedCells
from surrogates.uncertainty.conformal.quantiles import conformal_quantile, require_count

HoldOut = Literal["context", "combination"]
OTHER_HALF = "other_half"
SIMPLEST = ("no_change", "perturbation_mean")  # which need no fit
SPLITS = 20  # of treated cells into halves
MOST_CELLS = 2000  # of a condition that are predicted and compared: distances take time with their product
_FOLDS = 5  # over combinations
_NEEDED = 2  # cells of a condition, to have a spread

Condition = tuple[Perturbation, str]


@dataclass(frozen=True)
class CellFold:
    """Conditions whose cells are held out together."""

    name: str  # what is held out, in words
    left_out: tuple[Condition, ...]  # conditions that no model sees
    judged: tuple[Condition, ...]  # those of them that can be predicted


@dataclass(frozen=True)
class JudgedCondition:
    """What models make of one condition that none of them has seen."""

    perturbation: Perturbation  # what was done
    context: str  # in which context
    counts: tuple[int, int, int]  # control cells, treated cells, and differentially expressed readouts
    # By model, one number for each of :data:`surrogates.evaluation.cell_scores.CELL_METRICS`.
    scores: Mapping[str, Float[Tensor, "p"]]
    errors: Mapping[str, Float[Tensor, "g"]]  # by model, the error of the mean effect on each readout

    @property
    def name(self) -> str:
        """The condition in words."""
        return " in ".join(part for part in (self.perturbation.label, self.context) if part)


@dataclass(frozen=True)
class CellBounds:
    """How far cells of a new unit may be from what a model predicts of them."""

    model: str  # the model
    level: float  # with which probability, over units, each of the bounds holds
    units: int  # how many held-out units stand behind them
    e_distance: float  # the E-distance of predicted to real treated cells is at most this
    effects: Float[Tensor, "g"]  # the mean of each readout is within this of the predicted one


@dataclass(frozen=True)
class CellReport:
    """What was measured of models of cells."""

    hold_out: HoldOut  # what was held out
    conditions: tuple[JudgedCondition, ...]  # every condition that was judged
    seconds: Mapping[str, float]  # how long all fits of each model took
    refusals: tuple[Refusal, ...]  # models that did not take the data
    left_out: tuple[str, ...] = ()  # treated conditions that could not be judged, each with the reason

    @property
    def models(self) -> tuple[str, ...]:
        """Who was judged, the other half of the cells last."""
        return tuple(self.conditions[0].scores)

    def column(self, model: str, metric: str) -> Float[Tensor, "n"]:
        """Take one metric of one model, one number for each condition."""
        place = [*CELL_METRICS].index(metric)
        return torch.stack([each.scores[model][place] for each in self.conditions])

    @property
    def units(self) -> tuple[str, ...]:
        """What each condition belongs to: its context, or its combination."""
        of_context = self.hold_out == "context"
        return tuple(each.context if of_context else each.perturbation.label for each in self.conditions)

    @property
    def nodes(self) -> Int[Tensor, "n k"]:
        """Number what is resampled: contexts, or the targets of combinations."""
        targets = [
            (each.context,) if self.hold_out == "context" else each.perturbation.targets
            for each in self.conditions
        ]
        known = {
            name: number for number, name in enumerate(dict.fromkeys(name for row in targets for name in row))
        }
        found = torch.full((len(targets), max(map(len, targets))), -1)
        for row, names in enumerate(targets):
            found[row, : len(names)] = torch.tensor([known[name] for name in names])
        return found

    def bounds(self, model: str, level: float = 0.8) -> CellBounds:
        """Bound what a new context or combination may show, by what the held-out ones did (conformal).

        The score of a unit is the largest over its conditions, so that a bound holds for all of them at once; the
        bounds of readouts hold one by one. Each held-out unit was predicted by a fit without it, the new one
        will be by a fit to all.
        """
        names = tuple(dict.fromkeys(self.units))
        require_count(len(names), level, f"held-out {self.hold_out}s")
        of_unit = [[number for number, unit in enumerate(self.units) if unit == name] for name in names]
        distances = self.column(model, "e_distance")
        errors = torch.stack([each.errors[model].abs() for each in self.conditions])
        worst = torch.stack([distances[rows].amax() for rows in of_unit])
        widest = torch.stack([errors[rows].amax(0) for rows in of_unit])
        e_distance, effects = (conformal_quantile(each, level) for each in (worst, widest))
        return CellBounds(model, level, len(names), float(e_distance), effects)


def judge_cells(
    cells: Cells,
    models: Mapping[str, CellSurrogate],
    *,
    hold_out: HoldOut = "context",
    pseudocount: float = 1.0,
    seed: int,
    workers: Workers = 1,
    progress: Progress | None = None,
) -> CellReport:
    """Hold contexts or combinations out, and score what models of cells make of them.

    Beside them stand no change, the mean treated cell of the training data, and the other half of the measured
    cells.
    """
    if taken := {OTHER_HALF, *SIMPLEST} & models.keys():
        raise DataError(f"{min(taken)!r} is the name of a baseline; name your model differently")
    ordered = cells.in_canonical_order()
    folds = context_folds(ordered) if hold_out == "context" else combination_folds(ordered, seed=seed)
    work = partial(_judge_fold, ordered, models, pseudocount=pseudocount, seed=seed)
    judged = in_order(work, folds, workers=workers)
    conditions: list[JudgedCondition] = []
    seconds, refusals = dict.fromkeys(models, 0.0), dict[str, Refusal]()
    for number, fold in enumerate(folds):
        if progress is not None:
            progress(number, len(folds), fold.name)
        found = next(judged)
        conditions += found.conditions
        for name, took in found.seconds.items():
            seconds[name] += took
        refusals = {**{each.model: each for each in found.refusals}, **refusals}
    if progress is not None:
        progress(len(folds), len(folds), "done")
    kept = [_without(each, refusals) for each in conditions]
    fitted = {name: each for name, each in seconds.items() if name not in refusals}
    return CellReport(
        hold_out, tuple(kept), fitted, tuple(refusals.values()), unjudged(ordered, folds, hold_out=hold_out)
    )


def _without(condition: JudgedCondition, names: Mapping[str, object]) -> JudgedCondition:
    scores, errors = (
        {name: each for name, each in found.items() if name not in names}
        for found in (condition.scores, condition.errors)
    )
    return replace(condition, scores=scores, errors=errors)


def unjudged(cells: Cells, folds: Sequence[CellFold], *, hold_out: HoldOut) -> tuple[str, ...]:
    """Say what treated conditions lack that no fold judges; singles are none of the combinations held out."""
    sizes, judged = cells.sizes, {condition for fold in folds for condition in fold.judged}
    lines = []
    for what, where in sizes:
        if what == CONTROL or (what, where) in judged or (hold_out == "combination" and what.order < 2):
            continue
        counts = {"control": sizes.get((CONTROL, where), 0), "treated": sizes[what, where]}
        few = [
            f"{amount(count, f'{kind} cell')} of {_NEEDED}" for kind, count in counts.items() if count < _NEEDED
        ]
        lacks = (
            "no other context has it beside controls" if hold_out == "context" else "a part lacks cells of its own"
        )
        lines.append(f"{what.label}{f' in {where}' if where else ''}: {', '.join(few) or lacks}")
    return tuple(lines)


def context_folds(cells: Cells) -> list[CellFold]:
    """Hold out all treated cells of each context in turn."""
    beside, sizes = treated_beside_controls(cells), cells.sizes
    folds = []
    for context in cells.context_names:
        left_out = tuple((what, context) for what in cells.treatments if (what, context) in sizes)
        judged = tuple(
            (what, where)
            for what, where in left_out
            if {where} < set(beside.get(what, ())) and min(sizes[what, where], sizes[CONTROL, where]) >= _NEEDED
        )
        folds += [CellFold(f"context {context!r}", left_out, judged)] if judged else []
    if len(folds) < 2:
        raise DataError(
            f"no two contexts have treated beside control cells, of a perturbation that they share (contexts:"
            f" {', '.join(map(repr, cells.context_names[:6]))}); name their column (--group-col), or hold"
            " combinations out (--hold-out combination)"
        )
    return folds


def combination_folds(cells: Cells, *, seed: int) -> list[CellFold]:
    """Hold out combinations of parts that were measured, a fifth at a time."""
    beside, sizes = treated_beside_controls(cells), cells.sizes
    known = {what.label for what in beside}
    judged = {
        what: tuple(
            (what, where) for where in contexts if min(sizes[what, where], sizes[CONTROL, where]) >= _NEEDED
        )
        for what, contexts in beside.items()
        if what.order > 1 and all(part.label in known for part in what.interventions)
    }
    found = [what for what, conditions in judged.items() if conditions]
    if len(found) < 2:
        raise DataError(
            f"{len(found)} combinations have cells beside controls, and beside those of each part; two are needed"
            " to hold some out"
        )
    dealt = torch.randperm(len(found), generator=torch.Generator().manual_seed(seed)).tolist()
    folds = []
    for number in range(min(_FOLDS, len(found))):
        some = [found[place] for place in sorted(dealt[number :: min(_FOLDS, len(found))])]
        left_out = tuple(condition for condition in sizes if condition[0] in some)
        name = f"{len(some)} combinations, {some[0].label!r} first"
        folds.append(CellFold(name, left_out, tuple(each for what in some for each in judged[what])))
    return folds


@dataclass(frozen=True)
class _Judged:
    """What was found of one fold."""

    conditions: tuple[JudgedCondition, ...]
    seconds: Mapping[str, float]
    refusals: tuple[Refusal, ...]


def _judge_fold(
    cells: Cells, models: Mapping[str, CellSurrogate], fold: CellFold, *, pseudocount: float, seed: int
) -> _Judged:
    named = zip(cells.perturbations, cells.contexts, strict=True)
    kept = torch.tensor([condition not in fold.left_out for condition in named])
    train = cells.rows(torch.nonzero(kept[cells.codes]).flatten())
    fitted, seconds = dict[str, FittedCells](), dict[str, float]()
    refusals: list[Refusal] = []
    for name, model in models.items():
        start = time.perf_counter()
        try:
            fitted[name] = model.fit(train, seed=seed)
        except DataError as error:
            refusals.append(Refusal(name, fold.name, str(error)))
        seconds[name] = time.perf_counter() - start
    axes = PrincipalAxes.of(train.values.double(), COMPONENTS)
    generator = torch.Generator().manual_seed(seed)
    conditions = []
    for what, where in fold.judged:
        control, treated = (_drawn(cells.of(each, where), generator) for each in (CONTROL, what))
        own = torch.tensor([readout in what.targets for readout in cells.readouts])
        held_out = HeldOutCells.of(control, treated, own=own, axes=axes, pseudocount=pseudocount)
        made = {"no_change": Predicted.cells(control), "perturbation_mean": _mean_of(train, what, where)}
        for name in tuple(fitted):
            try:
                made[name] = Predicted.cells(fitted[name].predict(control, what))
            except DataError as error:
                refusals.append(Refusal(name, fold.name, str(error)))
                del fitted[name]
        found = {name: judged_prediction(held_out, predicted) for name, predicted in made.items()}
        found[OTHER_HALF] = between_halves(held_out, splits=SPLITS, generator=generator)
        scores, errors = ({name: each[part] for name, each in found.items()} for part in (0, 1))
        counts = len(control), len(treated), int(held_out.changed.sum())
        conditions.append(JudgedCondition(what, where, counts, scores, errors))
    return _Judged(tuple(conditions), seconds, tuple(refusals))


def _drawn(values: Float[Tensor, "n g"], generator: torch.Generator) -> Float[Tensor, "m g"]:
    return values[torch.randperm(len(values), generator=generator)[:MOST_CELLS].sort().values].double()


def _mean_of(train: Cells, what: Perturbation, where: str) -> Predicted:
    """Take the mean cell of the perturbation elsewhere; of a new one, the mean treated cell of the context.

    Each condition counts the same.
    """
    there = [condition for condition in train.sizes if condition[0] == what]
    there = there or [(other, context) for other, context in train.sizes if other.order and context == where]
    groups = [train.of(*condition).double() for condition in sorted(there, key=str)]
    logged, plain = (torch.stack([of(group).mean(0) for group in groups]) for of in (torch.as_tensor, delogged))
    return Predicted(logged.mean(0)[None], plain.mean(0)[None])
