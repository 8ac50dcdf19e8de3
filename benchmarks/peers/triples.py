"""All triples: what branch and bound takes, beside the lines of searches that look at one after another."""

import math
from collections.abc import Mapping
from functools import partial

import torch

from benchmarks.peers.growth import MARK, Growth
from benchmarks.scale.triples import triple_rows
from surrogates.evaluation.intervals import Row

BOUNDED = "bounded_search"

_VARIANT = "adversarial"  # equal norms and a target that no triple comes near: bounds skip the least
_SHOWN = ("seconds", "peak_mb")


def triples_beside(
    growths: Mapping[str, Growth], *, genes: int, dimensions: int, k: int, seconds: float, seed: int
) -> list[Row]:
    """Search all triples of so many genes by bounds, and read off what other searches would take.

    The search by bounds is for the triples whose summed effects come nearest to a target, under one model. The
    lines are those of pairs under an ensemble: a triple counts as one more pair, in favour of the other searches.

    Args:
        growths: What the other searches took for pairs.
        genes: Of how many.
        dimensions: Of an effect.
        k: How many triples.
        seconds: When the search by bounds has to stop.
        seed: Fixes the effects.

    Returns:
        ``seconds`` of all, and ``peak_mb`` of the search by bounds, where the system tells it.
    """
    triples = math.comb(genes, 3)
    norms = torch.ones(1, dtype=torch.float64)
    found = triple_rows(
        norms=norms, genes=genes, dimensions=dimensions, k=k, seconds=seconds, seed=seed, variants=(_VARIANT,)
    )
    exact = any(row.metric == "exact" and row.value == 1 for row in found)
    name = BOUNDED if exact else f"{BOUNDED} (stopped)"
    row = partial(
        _row, dataset=f"effects in {dimensions} dimensions, {genes:,} genes", variant=f"{triples:,} triples"
    )
    rows = [row(name, each.metric, each.value, unit=each.unit, n=1) for each in found if each.metric in _SHOWN]
    for method, growth in growths.items():
        if growth.points:
            label = f"{MARK} {method}, {growth.source} pairs"
            rows.append(row(label, "seconds", growth.at("seconds", triples), unit="s", n=0))
    return rows


def _row(model: str, metric: str, value: float, *, dataset: str, variant: str, unit: str, n: int) -> Row:
    return Row("peers", dataset, model, "", variant, metric, value, math.nan, math.nan, n, unit)
