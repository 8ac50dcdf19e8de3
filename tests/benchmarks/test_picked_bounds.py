import runpy
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest


@pytest.fixture(scope="module")
def bench() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bounds" / "picked_bounds.py"))


def test_bounds_of_designed_picks_hold_more_often_than_those_of_random_ones(bench: dict[str, Any]) -> None:
    campaigns = [bench["played"](each, 1) for each in islice(bench["worlds"](31, 1, known=60, noise=0.15), 2)]
    found = bench["summary"](campaigns, seed=0).set_index(["round", "bounds"])
    assert found.loc[(1, "before"), "picks"] == 10
    assert found.loc[(1, "now"), "coverage"] >= found.loc[(1, "before"), "coverage"] + 0.2
    assert found.loc[(1, "now"), "width"] < 2.0 * found.loc[(1, "before"), "width"]
    for each in campaigns:
        assert (each["lower"] <= each["before_lower"] + 1e-12).all()
        assert (each["upper"] >= each["before_upper"] - 1e-12).all()


def test_shares_and_widths_are_those_of_all_picks(bench: dict[str, Any]) -> None:
    one = pd.DataFrame(
        {
            "round": [1, 1, 2],
            "measured": [0.0, 3.0, 1.0],
            "lower": [-1.0, -1.0, 0.0],
            "upper": [1.0, 1.0, 2.0],
            "before_lower": [0.5, 0.5, 0.0],
            "before_upper": [1.0, 1.5, 0.5],
        }
    )
    found = bench["summary"]([one, one.iloc[[0, 2]]], seed=0).set_index(["round", "bounds"])
    assert found.loc[(1, "now"), "coverage"] == pytest.approx(2 / 3)
    assert found.loc[(1, "before"), "coverage"] == 0.0
    assert found.loc[(1, "before"), "width"] == pytest.approx(2 / 3)
    assert found.loc[(2, "now"), "coverage"] == 1.0
