"""Protocol ``cells``: models of single cells by name, on contexts or combinations that none of them has seen."""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from surrogates.errors import UnknownChoiceError
from surrogates.evaluation.cell_scorecard import OTHER_HALF, SIMPLEST, CellReport
from surrogates.evaluation.cell_scores import CELL_METRICS
from surrogates.evaluation.intervals import NodeBootstrap, Row
from surrogates.models.base import CellSurrogate
from surrogates.models.registry import CELL_SURROGATES

REFERENCE = "two_factor_cells"
DEFAULT_CELL_MODELS = ("latent_shift_remainder", "transport_shift")
ALL = "all"
LESS = f"_minus_{REFERENCE}"  # ends the name of a metric, of the paired difference
_UNITS = {
    "average_precision": "share",
    "precision": "share",
    "pearson": "correlation",
    "e_distance": "distance",
    "fit_seconds": "s",
}


def named_cell_models(names: Sequence[str]) -> dict[str, CellSurrogate]:
    """Configure models of cells with their default settings; the two-factor model is always among them."""
    known = CELL_SURROGATES.names()
    for name in names:
        if name not in {*known, ALL, *SIMPLEST}:
            raise UnknownChoiceError.from_known("model of cells", name, (*known, ALL))
    wanted = known if ALL in names else [name for name in names if name not in SIMPLEST]
    return {name: CELL_SURROGATES.load(name)() for name in dict.fromkeys((REFERENCE, *wanted))}


def cell_rows(report: CellReport, *, dataset: str, seed: int, samples: int = 2000) -> list[Row]:
    """Make a row of each score of each condition, and of means with intervals over what was held out.

    The paired difference to the two-factor model stands beside each mean. Values of single conditions have no
    interval: of one context nothing is known of how contexts differ.
    """
    novelty, nodes = f"held-out {report.hold_out}", report.nodes
    draws = NodeBootstrap.of(nodes, seed=seed, n_boot=samples)
    rows = []

    def row(model: str, metric: str, value: float, *, variant: str = "mean", n: int = 1) -> Row:
        unit = next((unit for name, unit in _UNITS.items() if metric.startswith(name)), "1")
        return Row("cells", dataset, model, novelty, variant, metric, value, math.nan, math.nan, n, unit)

    for model in report.models:
        for metric in CELL_METRICS:
            found = report.column(model, metric)
            for condition, value in zip(report.conditions, found.tolist(), strict=True):
                rows.append(row(model, metric, value, variant=condition.name))
            summed = {metric: found}
            if model not in {*SIMPLEST, REFERENCE, OTHER_HALF} and REFERENCE in report.models:
                summed[metric + LESS] = found - report.column(REFERENCE, metric)
            for name, each in summed.items():
                mean = row(model, name, float(each.nanmean()), n=int((~torch.isnan(each)).sum()))
                low, high = draws.interval(each)
                rows.append(replace(mean, low=low, high=high))
    fits = [row(model, "fit_seconds", each, n=len(nodes)) for model, each in report.seconds.items()]
    return [*rows, *fits]


def cell_losses(rows: Sequence[Row]) -> list[str]:
    """Say which models are not better than the two-factor model, in what the protocol ranks by."""
    lines = []
    for metric in ("average_precision", "e_distance"):
        larger = CELL_METRICS[metric][1]
        for row in rows:
            if row.metric != metric + LESS:
                continue
            low, high = (row.low, row.high) if larger else (-row.high, -row.low)
            if not low > 0:
                said = "is worse than" if high < 0 else "cannot be told from"
                lines.append(
                    f"warning: {row.model!r} {said} {REFERENCE!r}: {metric.replace('_', ' ')} {row.value:+.3f},"
                    f" 95 % interval {row.low:.3f} to {row.high:.3f}"
                )
    return lines
