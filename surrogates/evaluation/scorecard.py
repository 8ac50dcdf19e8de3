"""How well forward models predict perturbations that they have not seen, beside the baselines, and at what cost.

Two protocols hold perturbations out. Folds over doubles judge doubles of two seen parts. Folds over targets, from
whose training data all that touches a held-out target is removed, judge the three classes with unseen parts. Every
model is fitted to the same folds; what is resampled are the genes, which perturbations share.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import (
    CLASSES,
    FEWEST_HELD_OUT,
    SEEN_DOUBLE,
    ForwardProtocol,
    Split,
    forward_protocols,
    novelty_name,
    own_columns,
    own_marks,
)
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import NodeBootstrap, Row, RowStatistic, mean, ratio_of_sums, target_nodes
from surrogates.evaluation.metrics import (
    FEWEST_READOUTS,
    ROW_METRICS,
    HeldOutEffects,
    moments,
    pearson_across,
    r_squared_across,
)
from surrogates.evaluation.workers import in_order
from surrogates.executors import Workers
from surrogates.memory import give_back_free_pages
from surrogates.models.base import Surrogate, require_one_context
from surrogates.models.baselines import Additive, MatchingMean, NoChange, PerturbationMean, ScaledAdditive
from surrogates.uncertainty.dyadic import dyadic_standard_error

T = TypeVar("T")

STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """Time and memory of one piece of work."""

    seconds: float  # wall-clock time
    peak_mb: float  # growth of the resident size at its highest, in MB; ``nan`` where the system does not tell


def with_cost(work: Callable[[], T]) -> tuple[T, Cost]:
    """Do some work and say what it cost.

    Linux keeps the highest resident size of a process and resets it on request, which sees the memory of native
    libraries too, and costs nothing. Elsewhere memory is not measured.
    """
    before = _reset_peak()
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    return result, Cost(seconds, math.nan if math.isnan(before) else max(0.0, resident_mb("VmHWM") - before))


def _reset_peak() -> float:
    """Lower the recorded peak to the present resident size, and return that."""
    try:
        give_back_free_pages()  # or the memory that a second fit takes would be there already
        _RESET.write_text("5", encoding="ascii")
        return resident_mb("VmRSS")
    except OSError:
        return math.nan


def resident_mb(field: str) -> float:
    """Read how much memory this process has (``VmRSS``) or had at most (``VmHWM``), in MB; on Linux only."""
    line = next(line for line in STATUS.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


@dataclass(frozen=True)
class Scores:
    """What one model scored on the perturbations of one class, as means over the folds that hold each out."""

    conditions: Int[Tensor, "n"]  # rows of the screen, each once
    values: Float[Tensor, "n p"]  # one column for each of :data:`surrogates.evaluation.metrics.ROW_METRICS`
    moments: Float[Tensor, "n 5 g"]  # of predicted and measured effects; no readouts where there are many

    def column(self, metric: str) -> Float[Tensor, "n"]:
        """Take one metric."""
        return self.values[:, [*ROW_METRICS].index(metric)]


@dataclass(frozen=True)
class Judgement:
    """One model under one protocol."""

    scores: Mapping[int, Scores]  # by the code of the novelty class
    costs: tuple[Cost, ...]  # of each fit

    @classmethod
    def of(cls, folds: Sequence["Judgement"]) -> "Judgement":
        """Put folds together."""
        codes = sorted({code for fold in folds for code in fold.scores})
        parts = {code: [fold.scores[code] for fold in folds if code in fold.scores] for code in codes}
        costs = tuple(cost for fold in folds for cost in fold.costs)
        return cls({code: _per_perturbation(each) for code, each in parts.items()}, costs)


def judge(screen: Screen, model: Surrogate, protocol: ForwardProtocol, *, seed: int) -> Judgement:
    """Fit a model to every fold and score what it holds out, class by class."""
    folds = zip(protocol.splits, protocol.codes, strict=True)
    return Judgement.of([_judge_fold(screen, model, split, codes, seed=seed) for split, codes in folds])


def _judge_fold(
    screen: Screen, model: Surrogate, split: Split, codes: Int[Tensor, "b"], *, seed: int
) -> Judgement:
    own, few = own_readout_marks(screen), len(screen.readouts) < FEWEST_READOUTS
    training = screen.rows(split.train)
    fitted, cost = with_cost(partial(model.fit, training, seed=seed))
    scores = {}
    for code in torch.unique(codes).tolist():
        at = split.test[codes == code]
        posterior, truth = fitted.predict(screen.batch.rows(at)), screen.effects[at]
        held = HeldOutEffects(posterior, truth, training.effects.mean(0), own[at])
        values = torch.stack([metric.of(held) for metric in ROW_METRICS.values()], 1)
        kept = moments(posterior.mean, truth) if few else truth.new_zeros(len(at), 5, 0)
        scores[code] = Scores(at, values, kept)
    return Judgement(scores, (cost,))


@dataclass(frozen=True)
class _Fit:
    """A model that is to be fitted to what a fold leaves."""

    screen: Screen
    name: str
    model: Surrogate
    split: Split
    codes: Int[Tensor, "b"]
    seed: int


def _judge_fit(fit: _Fit) -> Judgement | str:
    """Judge a fit, or say why the model refuses the data."""
    try:
        return _judge_fold(fit.screen, fit.model, fit.split, fit.codes, seed=fit.seed)
    except DataError as error:
        return str(error)


def own_readout_marks(screen: Screen) -> Bool[Tensor, "n g"]:
    """Mark the readouts that are targets of each perturbation itself."""
    columns = own_columns(screen.vocabulary, screen.readouts)
    return own_marks(screen.batch, columns, len(screen.readouts))


def _per_perturbation(parts: Sequence[Scores]) -> Scores:
    """Average over the folds that hold the same perturbation out."""
    every, place = torch.unique(torch.cat([part.conditions for part in parts]), return_inverse=True)
    counts = torch.bincount(place).double()

    def averaged(numbers: Float[Tensor, "b q"]) -> Float[Tensor, "n q"]:
        return numbers.new_zeros(len(every), numbers.shape[1]).index_add(0, place, numbers) / counts[:, None]

    products = torch.cat([part.moments for part in parts])
    return Scores(
        every,
        averaged(torch.cat([part.values for part in parts])),
        averaged(products.flatten(1)).reshape(len(every), *products.shape[1:]),
    )


Progress = Callable[[int, int, str], None]  # fits done, of how many, and which comes next

BASELINES: Mapping[str, Surrogate] = {
    "no_change": NoChange(),
    "perturbation_mean": PerturbationMean(),
    "matching_mean": MatchingMean(),
    "additive": Additive(),
    "scaled_additive": ScaledAdditive(),
}
REFERENCES = ("scaled_additive", "perturbation_mean")  # every model is set against them in pairs
_MOST_DRAWS, _FEWEST_DRAWS, _DRAWN = 2000, 200, 2**23


@dataclass(frozen=True)
class Refusal:
    """A model that did not take the data."""

    model: str  # its name
    novelty: str  # what it was to predict
    reason: str  # what it said


@dataclass(frozen=True)
class ForwardReport:
    """What the scorecard measured, and who did not take part."""

    rows: list[Row]  # one row for each class, model and metric
    refusals: tuple[Refusal, ...]  # models that refused the data of a protocol; they have no rows there


def score_forward(screen: Screen, surrogates: Mapping[str, Surrogate], *, seed: int) -> list[Row]:
    """Measure surrogates that are known to take the data: :func:`measure_forward`, where a refusal is an error.

    Args:
        screen: Measured effects in one context; ``provenance["dataset"]`` names it in the rows.
        surrogates: By name; the baselines are always added.
        seed: Fixes folds, fits and bootstrap.

    Returns:
        One row for each class, model and metric.

    Raises:
        DataError: As in :func:`measure_forward`, or if a model refuses the data.
    """
    report = measure_forward(screen, surrogates, seed=seed)
    if report.refusals:
        first = report.refusals[0]
        raise DataError(f"{first.model!r} refuses the data ({first.novelty}): {first.reason}")
    return report.rows


def measure_forward(
    screen: Screen,
    surrogates: Mapping[str, Surrogate],
    *,
    seed: int,
    classes: Sequence[str] = tuple(CLASSES),
    workers: Workers = 1,
    progress: Progress | None = None,
) -> ForwardReport:
    """Measure surrogates and baselines on held-out perturbations of every novelty class that the screen has.

    A class is shown if at least two perturbations of it are held out. ``mse_ratio_to_X`` divides the squared error
    summed over all held-out perturbations of the class by that of model ``X`` on the same ones; ``X`` is the
    additive model for doubles of seen parts and no change elsewhere, and beside it scaled additive and
    perturbation mean. The other metrics are those of :data:`surrogates.evaluation.metrics.ROW_METRICS`, and,
    for a screen of fewer than five readouts, Pearson correlation and R² over perturbations. A perturbation that
    several folds hold out counts once, with the mean of its numbers. Metrics among rivals (centroid accuracy,
    discrimination) compare the held-out perturbations of one class and fold. Bounds are 95 % by a bootstrap of
    genes (:class:`surrogates.evaluation.intervals.NodeBootstrap`), the same 2,000 draws for all models
    (fewer, at least 200, for thousands of perturbations); means over perturbations have their dyadic standard
    error.
    ``fit_seconds`` and ``peak_mb`` (see
    :class:`Cost`) are the sum and the largest over the folds of the protocol, whose
    classes share the fits, without bounds.
    """
    require_one_context(screen)
    models = {**BASELINES, **surrogates}
    if taken := [name for name in BASELINES if models[name] != BASELINES[name]]:
        raise DataError(f"{taken[0]!r} is the name of a baseline with other settings; name yours differently")
    protocols = forward_protocols(screen, [CLASSES[word] for word in classes], seed=seed)
    if not protocols:
        alone, doubles = (int((screen.batch.order == order).sum()) for order in (1, 2))
        raise DataError(
            f"nothing of {', '.join(classes)} can be held out from {alone} single(s) and {doubles} double(s); a"
            f" class needs {FEWEST_HELD_OUT} perturbations, with singles of their seen parts beside them"
        )
    fits = [
        _Fit(screen, name, model, split, codes, seed)
        for protocol in protocols
        for name, model in models.items()
        for split, codes in zip(protocol.splits, protocol.codes, strict=True)
    ]
    total, done = len(fits), 0
    judged = in_order(_judge_fit, fits, workers=workers)
    rows: list[Row] = []
    refusals: list[Refusal] = []
    for protocol in protocols:
        results: dict[str, Judgement] = {}
        for name in models:
            folds = []
            for number in range(1, len(protocol.splits) + 1):
                if progress is not None:
                    progress(done, total, f"{name}, fold {number}")
                folds.append(next(judged))
                done += 1
            if refused := [each for each in folds if isinstance(each, str)]:
                refusals.append(Refusal(name, protocol.novelty, refused[0]))
            else:
                results[name] = Judgement.of([each for each in folds if isinstance(each, Judgement)])
        for code in protocol.classes:
            rows += _rows(screen, code, results, seed=seed)
    if progress is not None:
        progress(total, total, "done")
    return ForwardReport(rows, tuple(refusals))


def _rows(screen: Screen, code: int, results: Mapping[str, Judgement], *, seed: int) -> list[Row]:
    """Sum every model's numbers in one class up, with bounds."""
    rows = []
    first = "additive" if code == SEEN_DOUBLE else "no_change"
    references = {name: results[name].scores[code] for name in (first, *REFERENCES) if name in results}
    some = next(iter(results.values()), None)
    if some is None:
        return []
    nodes = target_nodes(screen.batch.rows(some.scores[code].conditions), screen.vocabulary)
    n = len(nodes)
    draws = NodeBootstrap.of(nodes, seed=seed, n_boot=min(_MOST_DRAWS, max(_FEWEST_DRAWS, _DRAWN // n)))
    for name, result in results.items():
        scores = result.scores[code]
        row = partial(
            Row, "forward", screen.provenance.get("dataset", ""), name, novelty_name(code), "all_readouts", n=n
        )
        for metric, (unit, statistic) in _statistics(scores, references).items():
            value = float(statistic(torch.arange(n)[None]))
            bounds = (math.nan, math.nan) if math.isnan(value) else draws.interval(statistic)
            is_mean = metric in ROW_METRICS and ROW_METRICS[metric].summary is mean
            error = dyadic_standard_error(scores.column(metric), nodes) if is_mean else math.nan
            rows.append(row(metric, value, *bounds, unit=unit, standard_error=error))
        seconds = sum(cost.seconds for cost in result.costs)
        peak = max(cost.peak_mb for cost in result.costs)
        rows.append(row("fit_seconds", seconds, math.nan, math.nan, unit="s"))
        rows.append(row("peak_mb", peak, math.nan, math.nan, unit="MB"))
    return rows


def _statistics(scores: Scores, references: Mapping[str, Scores]) -> dict[str, tuple[str, RowStatistic]]:
    """Name what is summed up: unit and statistic by metric."""
    named: dict[str, tuple[str, RowStatistic]] = {
        f"mse_ratio_to_{name}": ("ratio", ratio_of_sums(scores.column("mse"), reference.column("mse")))
        for name, reference in references.items()
    }
    for name, metric in ROW_METRICS.items():
        named[name] = (metric.unit, metric.summary(scores.column(name)))
    if scores.moments.shape[2]:
        named["pearson_across"] = ("correlation", pearson_across(scores.moments))
        named["r_squared_across"] = ("share", r_squared_across(scores.moments))
    return named
