import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from surrogates.data.catalogue import open_dataset
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.baselines import ScaledAdditive

GENES, PAIRS, WELLS = 26, 300, 8


@pytest.fixture(scope="module")
def replicates() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bounds" / "replicates.py"))


def measured(replicates: dict[str, Any], *, scatter: float) -> tuple[Screen, Any]:
    """A screen whose pairs are the means of their wells."""
    screen = planted_screen(alone=range(GENES), together=pairs_of(GENES, PAIRS), readouts=4)
    row = torch.arange(GENES, len(screen)).repeat_interleave(WELLS)
    noise = scatter * normal(PAIRS, WELLS, 4, seed=3)
    wells = (screen.effects[GENES:, None] + noise).reshape(-1, 4)
    effects = torch.cat([screen.effects[:GENES], screen.effects[GENES:] + noise.mean(1)])
    return replace(screen, effects=effects), replicates["Wells"](row, wells)


def test_each_way_covers_what_it_was_calibrated_on(replicates: dict[str, Any]) -> None:
    screen, wells = measured(replicates, scatter=0.9)
    rows = replicates["measure"](screen, wells, ScaledAdditive(), calibration=30, draws=2, seed=0)
    value = {(row.model, row.metric): row.value for row in rows if row.variant == "absolute"}
    for quantity in ("readout", "band", "distance"):
        means, well = f"{quantity}_coverage_of_means", f"{quantity}_coverage_of_wells"
        assert value["calibrated on means", means] == pytest.approx(0.9, abs=0.05)
        assert value["calibrated on one well each", well] == pytest.approx(0.9, abs=0.05)
        assert value["calibrated on means", well] < 0.75
        assert value["calibrated on one well each", means] > 0.95
        width = f"{quantity}_width"
        assert value["calibrated on one well each", width] > value["calibrated on means", width]


def test_wells_without_scatter_are_their_mean(replicates: dict[str, Any]) -> None:
    screen, wells = measured(replicates, scatter=0.0)
    rows = replicates["measure"](screen, wells, ScaledAdditive(), calibration=30, draws=1, seed=0)
    value = {(row.model, row.variant, row.metric): row.value for row in rows}
    assert len(value) == 2 * 3 * 3 * 3  # calibrations, scores, intervals, numbers of each
    for (_, variant, metric), each in value.items():
        twin = metric.replace("_of_wells", "_of_means")
        assert each == pytest.approx(value["calibrated on means", variant, twin])


def test_one_well_is_of_its_pair_and_any_of_them(replicates: dict[str, Any]) -> None:
    _, wells = measured(replicates, scatter=0.9)
    rows, generator = torch.tensor([50, 41, 77]), torch.Generator().manual_seed(0)
    drawn = torch.stack([wells.one_of(rows, generator=generator) for _ in range(200)])
    for place, row in enumerate(rows.tolist()):
        own = wells.effects[wells.row == row]
        counts = (drawn[:, place, None] == own).all(2).sum(0)
        assert int(counts.sum()) == 200
        assert int(counts.min()) > 5  # 25 are expected of each


def written(tmp_path: Path, screen: Screen, wells: Any, *, moved: float = 0.0) -> Path:
    """A file of wells, on a scale of its own, with another gene's and with the roles of half of them exchanged."""
    names = [screen.labels[row].split("+") for row in wells.row.tolist()]
    flipped = [parts[:: 1 if number % 2 else -1] for number, parts in enumerate(names)]
    table = pd.DataFrame((wells.effects + 7.5).numpy(), columns=list(screen.readouts))
    table.iloc[0] += moved
    table.insert(0, "target", [parts[0] for parts in flipped])
    table.insert(1, "query", [parts[1] for parts in flipped])
    table = pd.concat([table, table.tail(3).assign(query="negctrl")]).sample(frac=1, random_state=0)
    table.to_parquet(tmp_path / "wells.parquet")
    return tmp_path


def test_wells_are_read_on_the_scale_of_the_screen(replicates: dict[str, Any], tmp_path: Path) -> None:
    screen, wells = measured(replicates, scatter=0.9)
    found = replicates["read_wells"](screen, written(tmp_path, screen, wells))
    torch.testing.assert_close(found.row, wells.row)
    torch.testing.assert_close(
        found.effects.reshape(PAIRS, WELLS, 4).sort(1).values,
        wells.effects.reshape(PAIRS, WELLS, 4).sort(1).values,
    )


def test_wells_of_another_release_are_refused(replicates: dict[str, Any], tmp_path: Path) -> None:
    screen, wells = measured(replicates, scatter=0.9)
    with pytest.raises(DataError, match="other means than the screen"):
        replicates["read_wells"](screen, written(tmp_path, screen, wells, moved=0.1))


@pytest.mark.real_data
def test_bounds_of_real_means_miss_real_wells(
    replicates: dict[str, Any], real_data: Callable[[str], Path]
) -> None:
    screen = open_dataset("laufer2013")
    queries = screen.batch.multi_hot(len(screen.vocabulary)).sum(0).topk(4).indices
    with_query = torch.isin(screen.batch.genes, queries).any(1)
    screen = screen.rows(torch.nonzero((screen.batch.order == 1) | with_query).flatten())
    wells = replicates["read_wells"](screen, real_data("laufer2013"))
    _, counts = wells.row.unique(return_counts=True)
    assert counts.unique().tolist() == [8, 16]  # in both roles
    rows = replicates["measure"](screen, wells, ScaledAdditive(), calibration=100, draws=2, seed=0)
    value = {(row.model, row.metric): row.value for row in rows if row.variant == "absolute"}
    assert value["calibrated on means", "readout_coverage_of_means"] == pytest.approx(0.9, abs=0.03)
    assert value["calibrated on one well each", "readout_coverage_of_wells"] == pytest.approx(0.9, abs=0.03)
    assert value["calibrated on means", "readout_coverage_of_wells"] < 0.7
