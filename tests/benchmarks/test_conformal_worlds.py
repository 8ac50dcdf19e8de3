import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from surrogates.models.baselines import ScaledAdditive

SMALL = {"genes": 13, "readouts": 15, "training": 20, "counts": (9, 20), "base": ScaledAdditive()}
JUDGED = 78 - 20 - 20 - 1


@pytest.fixture(scope="module")
def worlds() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bounds" / "conformal_worlds.py"))


@pytest.fixture(scope="module")
def values(worlds: dict[str, Any]) -> list[dict[tuple[str, str], dict[str, float]]]:
    """What a few small worlds showed."""
    return [worlds["measure"](worlds["Design"](**SMALL), number, seed=0, cells=2) for number in range(4)]


def test_no_pair_plays_two_parts(worlds: dict[str, Any]) -> None:
    design = worlds["Design"](**SMALL)
    world = worlds["World"].draw(design, seed=3)
    parts = [set(screen.labels) for screen in (world.train, world.reserve, world.test)]
    assert [len(each) for each in parts] == [13 + 20, 20, JUDGED]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 13 + 78 - 1  # the target is none of them
    assert float((world.test.effects - world.target).abs().amax(1).amin()) > 0
    again, other = (worlds["World"].draw(design, seed=seed) for seed in (3, 4))
    torch.testing.assert_close(again.test.effects, world.test.effects)
    assert set(other.train.labels) != parts[0]


def test_what_fresh_pairs_promise_is_kept(
    worlds: dict[str, Any], values: list[dict[tuple[str, str], dict[str, float]]]
) -> None:
    rows = worlds["rows_of"](values, JUDGED, seed=0)
    found = {(row.model, row.variant, row.metric): row for row in rows}
    for quantity in ("readout", "band", "utility"):
        row = found["split, n = 20", "absolute", f"{quantity}_coverage"]
        expected = found["split, n = 20", "absolute", f"{quantity}_coverage_expected"]
        assert expected.value == pytest.approx(19 / 21)
        # The mean of four worlds is closer to its expectation than one world is.
        assert expected.low < row.value < expected.high
        assert row.low <= row.value <= row.high
    assert found["split, n = 20", "absolute", "band_ratio"].value > 1
    assert found["split, n = 20", "absolute", "utility_ratio"].value > 2


def test_cells_of_remembered_pairs_say_nothing_of_new_ones(
    values: list[dict[tuple[str, str], dict[str, float]]],
) -> None:
    def mean(model: str, scatter: float, metric: str) -> float:
        found = [world[model, f"scatter {scatter}"][metric] for world in values[:2]]
        return sum(found) / len(found)

    trained = "a cell of each training pair, remembered"
    assert mean(trained, 0.05, "readout_coverage") < 0.5
    assert mean(trained, 0.05, "band_coverage") < 0.1
    assert mean("a cell of each held-out pair", 0.2, "readout_coverage") > 0.85


def test_memory_is_of_the_training_pairs_alone(worlds: dict[str, Any]) -> None:
    world = worlds["World"].draw(worlds["Design"](**SMALL), seed=0)
    rigid = ScaledAdditive().fit(world.train, seed=0)
    pairs = world.train.rows(torch.arange(13, 33))
    names = (rigid.vocabulary, rigid.readouts, rigid.measured_alone)
    memory = worlds["Remembering"](*names, rigid, worlds["Actions"](pairs.batch.genes), pairs.effects)
    torch.testing.assert_close(memory.predict(pairs.batch).mean, pairs.effects)
    torch.testing.assert_close(memory.predict(world.test.batch).mean, rigid.predict(world.test.batch).mean)


def test_the_table_has_a_line_for_each_quantity(
    worlds: dict[str, Any],
    values: list[dict[tuple[str, str], dict[str, float]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    worlds["show"](worlds["rows_of"](values, JUDGED, seed=0))
    lines = capsys.readouterr().out.splitlines()
    # Three calibrations with two scores and five of cells have three quantities, pooled cells have two.
    assert len(lines) == 3 + (3 * 2 + 5) * 3 + 2
    assert sum("nan" in line for line in lines) == 0
