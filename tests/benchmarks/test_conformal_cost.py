import runpy
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def cost() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bounds" / "conformal_cost.py"))


def test_held_out_pairs_are_distinct_and_part_of_the_space(cost: dict[str, Any]) -> None:
    fitted, space = cost["world"](60, 7, seed=1)
    pairs = [tuple(row) for fold in fitted.cross for row in fold.batch.genes.tolist()]
    assert len(pairs) == len(set(pairs)) == 200
    assert space.size == 60 * 59 // 2
    assert all(bool(space.holds(fold.batch).all()) for fold in fitted.cross)


def test_every_step_is_timed(cost: dict[str, Any]) -> None:
    rows = cost["interval_rows"](readouts=12, repeats=2, seed=0)
    times = {row.novelty: row for row in rows}
    parts = ("choose score", "readouts", "band", "distance")
    assert set(times) == {*parts, "all together"}
    assert all(row.value > 0 and row.n == 2 for row in rows)
    assert times["all together"].high >= max(times[part].high for part in parts)
    rows = cost["set_rows"](genes=60, readouts=7, repeats=2, seed=0)
    assert [row.metric for row in rows] == ["seconds", *["ratio_to_search"] * 3]
    assert all(0 < row.low <= row.value <= row.high for row in rows)
