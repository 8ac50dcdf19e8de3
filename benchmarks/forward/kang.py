"""Interferon in blood cells: each of seven types held out in turn, its response predicted from the others.

The published comparison [Zhu 2025]: how well the predicted fold change finds the genes that are differentially
expressed, for the forms of scGen, scPRAM and CellOT against the two-factor model. A gene is differentially
expressed when the rank-sum test between the measured stimulated and control cells of the held-out type says so, at
a false discovery rate of 5 %; genes are ranked by the absolute log2 fold change of the means of predicted and of
control cells. Errors and correlations are those of the mean effects in log1p units; a squared error of one is that
of no change. The E-distance of predicted to measured stimulated cells is ``2 E|x - y| - E|x - x'| - E|y - y'|`` of
Euclidean distances over all pairs, in the 50 leading principal components of the cells that were trained on.

``other_half`` is a floor that no model can be expected below: a random half of the stimulated cells predicts the
other half (the mean of 20 splits; its interval is 1.96 standard deviations of them).

Intervals are the measured value plus or minus 1.96 standard errors, from bootstrap samples of the cells of the
held-out type. Fitted models, and which genes are differentially expressed, stay as they are: a bootstrap sample
holds cells more than once, so a test on it would find too many. For ranking metrics the intervals hence speak of
the control cells only. Repeated cells also make sample means noisier than the measured ones and lower every
ranking, so percentiles of the samples would be off to one side. Models share the samples: differences are paired.
The mean over types also has a percentile interval over resampled types. The spread between seeds is in none of
them.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.forward.differential import (
    average_precision_rows,
    delogged,
    differential_readouts,
    log2_fold_change,
    precision_at_recall,
)
from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.convex_transport import ConvexTransport
from surrogates.contrib.cells.latent_shift import LatentShift
from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.contrib.cells.transport import TransportShift
from surrogates.data.catalogue import locate
from surrogates.data.io.cells import CONTROL, Cells, read_cells
from surrogates.data.perturbation import Perturbation
from surrogates.evaluation.intervals import Row, bootstrap_interval, ratio_of_sums, write_json
from surrogates.evaluation.metrics import pearson_rows, squared_errors

DATASET = "kang2018_pbmc"
REFERENCE = "two_factor"
FORMS = ("latent_shift", "latent_shift_remainder", "transport_shift", "convex_transport")
COMPONENTS = 50  # in which cells are compared
SPLITS = 20  # of the stimulated cells into halves
RECALLS = (0.25, 0.5, 0.75)
AT_ONCE = 100  # bootstrap samples: bounds the memory

Values = dict[tuple[str, str], Float[Tensor, "*t s"]]


@dataclass(frozen=True)
class HeldOut:
    """The measured cells of the type that is held out.

    Attributes:
        name: The cell type.
        control: Its control cells.
        treated: Its stimulated cells.
        changed: Which genes are differentially expressed.
        axes: Components in which cells are compared.
    """

    name: str
    control: Float[Tensor, "n g"]
    treated: Float[Tensor, "m g"]
    changed: Bool[Tensor, "g"]
    axes: PrincipalAxes


@dataclass(frozen=True)
class Predicted:
    """What a model makes of each control cell.

    Attributes:
        logged: Values as they were measured.
        plain: The same without the logarithm.
    """

    logged: Float[Tensor, "n g"]
    plain: Float[Tensor, "n g"]

    @classmethod
    def of(cls, cells: Float[Tensor, "n g"]) -> "Predicted":
        """Undo the logarithm of predicted cells."""
        return cls(cells, delogged(cells))


def predict(
    train: Cells, control: Float[Tensor, "n g"], stimulus: Perturbation, *, seed: int
) -> dict[str, Predicted]:
    """Predict with each model what the control cells of the held-out type become."""
    latent = LatentShift().fit(train, seed=seed)
    return {
        "no_change": Predicted.of(control),
        "perturbation_mean": _elsewhere(train, stimulus, len(control)),
        REFERENCE: Predicted.of(TwoFactorCells().fit(train, seed=seed).predict(control, stimulus)),
        "latent_shift": Predicted.of(latent.predict(control, stimulus)),
        "latent_shift_remainder": Predicted.of(replace(latent, keep_remainder=True).predict(control, stimulus)),
        "transport_shift": Predicted.of(TransportShift().fit(train, seed=seed).predict(control, stimulus)),
        "convex_transport": Predicted.of(ConvexTransport().fit(train, seed=seed).predict(control, stimulus)),
    }


def _elsewhere(train: Cells, stimulus: Perturbation, size: int) -> Predicted:
    """Take the mean stimulated cell of the other types, each counting the same, for every cell."""
    groups = [train.of(stimulus, where) for what, where in sorted(train.sizes, key=str) if what == stimulus]
    logged = torch.stack([group.mean(0) for group in groups]).mean(0)
    plain = torch.stack([delogged(group).mean(0) for group in groups]).mean(0)
    return Predicted(logged.expand(size, -1), plain.expand(size, -1))


def weights(size: int, samples: int, generator: torch.Generator) -> Float[Tensor, "s n"]:
    """Weigh the cells as measured, then as in each bootstrap sample; every line sums to one."""
    chosen = torch.randint(size, (samples, size), generator=generator)
    counts = torch.zeros(samples, size, dtype=torch.float64)
    counts.scatter_add_(1, chosen, torch.ones(chosen.shape, dtype=torch.float64))
    return torch.cat([torch.ones(1, size, dtype=torch.float64), counts]) / size


def scores(
    held_out: HeldOut, predictions: Mapping[str, Predicted], *, samples: int, seed: int, pseudocount: float
) -> Values:
    """Score every model on the measured cells (first), then on each bootstrap sample of them."""
    generator = torch.Generator().manual_seed(seed)
    of_control = weights(len(held_out.control), samples, generator)
    of_treated = weights(len(held_out.treated), samples, generator)
    found: dict[tuple[str, str], list[Tensor]] = {}
    for one, other in zip(of_control.split(AT_ONCE), of_treated.split(AT_ONCE), strict=True):
        for model, cells in predictions.items():
            for metric, values in _judged(held_out, cells, one, (one, other), pseudocount).items():
                found.setdefault((model, metric), []).append(values)
    return {key: torch.cat(parts) for key, parts in found.items()}


def between_halves(held_out: HeldOut, *, seed: int, pseudocount: float) -> Values:
    """Score random halves of the stimulated cells as predictions of the others: the mean, then each split."""
    generator = torch.Generator().manual_seed(seed)
    size = len(held_out.treated)
    order = torch.rand(SPLITS, size, generator=generator, dtype=torch.float64).argsort(1)
    halves = [(order < size // 2).double(), (order >= size // 2).double()]
    one, other = (each / each.sum(1, keepdim=True) for each in halves)
    control = torch.full((SPLITS, len(held_out.control)), 1 / len(held_out.control), dtype=torch.float64)
    found = _judged(held_out, Predicted.of(held_out.treated), one, (control, other), pseudocount)
    return {("other_half", metric): torch.cat([each.mean()[None], each]) for metric, each in found.items()}


def _judged(
    held_out: HeldOut,
    cells: Predicted,
    weights: Float[Tensor, "s p"],
    measured: tuple[Float[Tensor, "s n"], Float[Tensor, "s m"]],
    pseudocount: float,
) -> dict[str, Float[Tensor, "s"]]:
    """Score weighted predicted cells against weighted control and stimulated cells."""
    of_control, of_treated = measured
    control = of_control @ held_out.control
    truth = of_treated @ held_out.treated - control
    effect = weights @ cells.logged - control
    level = of_control @ delogged(held_out.control)
    change = log2_fold_change(weights @ cells.plain, level, pseudocount=pseudocount).abs()
    x, y = (held_out.axes.coordinates(each) * held_out.axes.scale for each in (cells.logged, held_out.treated))

    def apart(one: Tensor, of_one: Tensor, other: Tensor, of_other: Tensor) -> Float[Tensor, "s"]:
        return ((of_one @ torch.cdist(one, other)) * of_other).sum(1)

    distance = 2 * apart(x, weights, y, of_treated) - apart(x, weights, x, weights)
    return ranking(change, held_out.changed.expand(len(change), -1)) | {
        "relative_squared_error": squared_errors(effect, truth) / truth.square().sum(1),
        "pearson": pearson_rows(effect, truth),
        "e_distance": distance - apart(y, of_treated, y, of_treated),
    }


def with_differences(values: Values) -> Values:
    """Add what each model of cells scores more than the two-factor model, sample by sample."""
    metrics = dict.fromkeys(metric for _, metric in values)
    return values | {
        (f"{form} - {REFERENCE}", metric): values[form, metric] - values[REFERENCE, metric]
        for form in FORMS
        for metric in metrics
    }


def ranking(change: Float[Tensor, "s g"], changed: Bool[Tensor, "s g"]) -> dict[str, Float[Tensor, "s"]]:
    """Say how well the size of the predicted change finds the genes that change."""
    return {
        "average_precision": average_precision_rows(change, changed),
        **{f"precision_at_{100 * q:.0f}": precision_at_recall(change, changed, recall=q) for q in RECALLS},
    }


def rows_of(values: Values, variant: str, *, n: int) -> list[Row]:
    """Make a row of each score: its value for the measured cells, and its interval over the samples."""
    rows = []
    for (model, metric), each in values.items():
        value, half = float(each[0]), 1.96 * float(each[1:].std())
        most = float("inf") if metric in {"relative_squared_error", "e_distance"} else 1.0
        rows.append(_row(model, metric, variant, value, (value - half, min(value + half, most)), n=n))
    return rows


def rows_over_types(values: Values, *, seed: int) -> list[Row]:
    """Make a row of the mean of each score over types, with an interval over resampled types."""
    rows = []
    for (model, metric), each in values.items():
        measured = each[:, 0]
        bounds = bootstrap_interval(ratio_of_sums(measured, torch.ones_like(measured)), len(measured), seed=seed)
        value = float(measured.mean())
        rows.append(_row(model, metric, "mean, types resampled", value, bounds, n=len(measured)))
    return rows


def _row(model: str, metric: str, variant: str, value: float, bounds: tuple[float, float], *, n: int) -> Row:
    return Row("kang", DATASET, model, "held-out cell type", variant, metric, value, *bounds, n, "1")


def run(*, seed: int, samples: int, pseudocount: float) -> list[Row]:
    """Hold each type out in turn."""
    cells = read_cells(locate(DATASET) / "cells.h5ad").in_canonical_order()
    (stimulus,) = cells.treatments
    rows, every = [], []
    for name in cells.context_names:
        control, treated = cells.of(CONTROL, name), cells.of(stimulus, name)
        train = cells.without(stimulus, name)
        axes = PrincipalAxes.of(train.values.double(), COMPONENTS)
        held_out = HeldOut(name, control, treated, differential_readouts(treated, control), axes)
        start = time.perf_counter()
        predictions = predict(train, control, stimulus, seed=seed)
        seconds = time.perf_counter() - start
        measured = scores(held_out, predictions, samples=samples, seed=seed, pseudocount=pseudocount)
        halves = between_halves(held_out, seed=seed, pseudocount=pseudocount)
        values = with_differences(measured) | halves
        every.append(values)
        rows += rows_of(values, name, n=len(control) + len(treated))
        # The average precision of no change is the prevalence: all its scores are tied.
        print(
            f"{name:12s} {len(control):4d} control, {len(treated):4d} stimulated cells; differentially expressed"
            f" {int(held_out.changed.sum()):4d} genes of {len(cells.readouts)}; fits {seconds:.0f} s",
            flush=True,
        )
    stacked = {key: torch.stack([values[key] for values in every]) for key in every[0]}
    rows += rows_of({key: each.mean(0) for key, each in stacked.items()}, "mean, cells resampled", n=len(cells))
    return rows + rows_over_types(stacked, seed=seed)


def show(rows: list[Row]) -> None:
    """Print a table of types by models for each metric."""
    variants = dict.fromkeys(row.variant for row in rows)
    models = list(dict.fromkeys(row.model for row in rows))
    cells = {(r.metric, r.variant, r.model): f"{r.value:.3f} [{r.low:.3f}, {r.high:.3f}]" for r in rows}
    for metric in dict.fromkeys(row.metric for row in rows):
        for columns in (
            [model for model in models if " - " not in model],
            [model for model in models if " - " in model],
        ):
            print(
                f"\n{metric:21s}"
                + "".join(f"{model:>38s}" if " - " in model else f"{model:>24s}" for model in columns)
            )
            for variant in variants:
                texts = [(cells[metric, variant, model], 38 if " - " in model else 24) for model in columns]
                print(f"{variant:21s}" + "".join(f"{text:>{width}s}" for text, width in texts))


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=500, help="bootstrap samples of cells")
    parser.add_argument("--pseudocount", type=float, default=1.0, help="of the fold change, in de-logged units")
    parser.add_argument("--json", type=Path, default=None, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # small networks and products: more threads wait for each other
    start = time.perf_counter()
    rows = run(seed=arguments.seed, samples=arguments.samples, pseudocount=arguments.pseudocount)
    show(rows)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if arguments.json is not None:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
