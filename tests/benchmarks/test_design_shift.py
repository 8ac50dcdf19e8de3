import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch


@pytest.fixture(scope="module")
def shift() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bounds" / "design_shift.py"))


@pytest.fixture(scope="module")
def values(shift: dict[str, Any]) -> Any:
    """What a few small worlds showed."""
    return shift["measure"](shift["Design"](), 6, seed=0)


def test_greedy_picks_are_the_nearest_by_prediction(shift: dict[str, Any]) -> None:
    world = shift["World"].draw(replace(shift["Design"](), pool=100), seed=1)
    start = world.design.training + world.design.calibration
    predicted, measured = world.predicted(torch.arange(world.design.training)), world.distance
    picks = start + predicted[start:].argsort()[: shift["BATCH"]]
    first = next(iter(shift["campaign"](world, 0.0, seed=0)))
    scores = (measured - predicted)[world.design.training : start].sort().values
    bound = float(scores[45])  # the 46th of 50: ceil(51 * 0.9)
    by_hand = (measured - predicted)[picks] <= bound
    assert int(first.stated["static", "all"].covered.sum()) == int(by_hand.sum())


def test_static_bounds_fail_for_designs_and_adaptive_ones_recover(shift: dict[str, Any], values: Any) -> None:
    rows = shift["rows_of"](values, seed=0)
    found = {(row.model, row.variant, row.metric): row.value for row in rows}
    settled = f"greedy, all picks, rounds {shift['SETTLED']}"
    assert found["static", settled, "coverage"] < 0.85
    assert found["adaptive", settled, "coverage"] > found["static", settled, "coverage"] + 0.05
    infinite = found["adaptive", settled, "share_infinite"]
    finite = found["adaptive", settled, "coverage_of_finite"]
    assert finite * (1 - infinite) + infinite == pytest.approx(found["adaptive", settled, "coverage"])
    drawn = f"half drawn, drawn picks, rounds {shift['SETTLED']}"
    assert 1 <= found["weighted", drawn, "effective_count"] < 50


def test_early_rounds_are_flagged(shift: dict[str, Any], values: Any, capsys: pytest.CaptureFixture[str]) -> None:
    shift["print_table"](shift["rows_of"](values, seed=0), "coverage", shift["COLUMNS"])
    lines = capsys.readouterr().out.splitlines()
    flagged = [line.split()[1] for line in lines if "flagged" in line]
    assert flagged == ["1", "2"]
