import runpy
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from surrogates.data.across import Actions, join_contexts
from surrogates.data.io.readers import read_screen
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld
from surrogates.models.baselines import ScaledAdditive


@pytest.fixture(scope="module")
def transfer() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bounds" / "scalar_transfer.py"))


@pytest.fixture(scope="module")
def lines() -> Screen:
    """One readout of all singles and pairs of 24 genes in two lines, a third of the other line's pairs missing."""
    world = SaturatingWorld(Network(genes=24, contexts=("K562", "Jurkat")), noise=0.2)
    genes = [Intervention(name) for name in world.network.names]
    parts = [*((gene,) for gene in genes), *combinations(genes, 2)]
    screen = world.screen([Perturbation(each) for each in parts], seed=0).with_readouts([5])
    other = torch.tensor([name == "K562" for name in screen.contexts])
    missing = other & (screen.batch.order == 2) & (torch.arange(len(screen)) % 3 == 0)
    return screen.rows(torch.nonzero(~missing).flatten())


def test_scalar_bounds_hold_for_pairs_like_the_calibrating_ones(transfer: dict[str, Any], lines: Screen) -> None:
    plan = transfer["Plan"](share=0.2, members=2, calibration=60, judged=150, draws=8)
    rows = transfer["measure"](lines, plan, seed=0)
    found = {(row.model, row.variant, row.novelty, row.metric): row for row in rows}
    said = ("Jurkat from K562, absolute", "Jurkat from K562, normalised")
    for model, variant in (("transfer", said[0]), ("2 transfers", said[0]), ("2 transfers", said[1])):
        row, expected = (found[model, variant, "all pairs", each] for each in ("coverage", "coverage_expected"))
        assert row.n == 150
        assert expected.low < row.value < expected.high
        above = found[model, variant, "all pairs", "above"].value
        assert 0 < above < 1 - row.value
        parts = [
            found[model, variant, f"(not promised) {name}measured elsewhere", "coverage"] for name in ("", "not ")
        ]
        assert sum(each.n for each in parts) == 150
        # The whole is made of those that were measured elsewhere and those that were not.
        assert min(each.value for each in parts) - 0.02 <= row.value <= max(each.value for each in parts) + 0.02
    assert ("transfer", said[1], "all pairs", "coverage") not in found  # equal to the absolute score
    assert found["transfer", said[0], "(not promised) lowest tenth by prediction", "coverage"].n == 15


def test_the_lowest_tenth_is_chosen_by_prediction(transfer: dict[str, Any], lines: Screen) -> None:
    here = lines.in_context("Jurkat")
    fitted = ScaledAdditive().fit(here, seed=0)
    rows = torch.nonzero(here.batch.order == 2).flatten()
    elsewhere = Actions(lines.in_context("K562").batch.genes)
    masks = transfer["groups"](here, rows, fitted, elsewhere)
    lowest = masks["(not promised) lowest tenth by prediction"]
    mean = fitted.predict(here.batch.rows(rows)).mean[:, 0]
    assert int(lowest.sum()) == len(rows) // 10
    assert float(mean[lowest].max()) <= float(mean[~lowest].min())
    assert int(masks["(not promised) not measured elsewhere"].sum()) == len(rows) // 3
    torch.testing.assert_close(masks["double, 2 of 2 seen"], masks["all pairs"])


@pytest.mark.real_data
def test_growth_of_few_genes_is_bounded(
    transfer: dict[str, Any], real_data: Callable[[str], Path], tmp_path: Path
) -> None:
    screens = {}
    for line in ("Jurkat", "K562"):
        table = pd.read_parquet(real_data("horlbeck2018_both") / f"{line.lower()}.parquet")
        genes = sorted({*table["target_1"], *table["target_2"]} - {"negative"})[:80]
        kept = table["target_1"].isin([*genes, "negative"]) & table["target_2"].isin([*genes, "negative"])
        table[kept].to_parquet(tmp_path / f"{line}.parquet")
        screens[line] = read_screen(tmp_path / f"{line}.parquet", mode="knockdown", readouts=["gamma"])
    plan = transfer["Plan"](share=0.2, members=2, calibration=300, judged=500, draws=4)
    rows = transfer["measure"](join_contexts(screens), plan, seed=0)
    found = {(row.model, row.variant, row.novelty, row.metric): row.value for row in rows}
    key = ("transfer", "Jurkat from K562, absolute", "all pairs")
    assert found[*key, "coverage"] == pytest.approx(0.9, abs=0.03)
    assert 0.02 < found[*key, "width"] < 0.3
