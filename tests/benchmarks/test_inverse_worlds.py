import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from inverse_design.search.inverse_set import SetRule


@pytest.fixture(scope="module")
def worlds() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "bounds" / "inverse_worlds.py"))


def test_targets_are_never_learnt_from(worlds: dict[str, Any]) -> None:
    screen = worlds["draw"](seed=4)
    assert len(screen) == len(set(screen.labels)) == 30 + 435
    assert screen.batch.order.tolist() == [1] * 30 + [2] * 435
    assert screen.labels != worlds["draw"](seed=5).labels


def test_members_by_hand(worlds: dict[str, Any]) -> None:
    density = torch.tensor([[0.0, -1.0, -2.5, -9.0]], dtype=torch.float64)
    for rule, threshold, size in (("gap", 1.5, 2), ("gap", 0.0, 1), ("rank", 3.0, 3), ("surprise", 1.5, 2)):
        inside = worlds["members"](SetRule(rule, threshold, 0.9, 20), density)
        assert inside[0].tolist() == [True] * size + [False] * (4 - size)


def test_one_world_with_few_targets(worlds: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(worlds["measure"].__globals__, "COUNTS", (20,))
    found = [worlds["measure"](0, seed=0, targets=4)]
    rows = {(row.variant, row.model, row.metric): row.value for row in worlds["rows_of"](found, seed=0)}
    assert {variant for variant, _, _ in rows} == {"20 pairs"}
    for rule in ("chosen", "gap", "rank", "surprise"):
        low, high = (rows["20 pairs", f"{rule} {level}", "mean_size"] for level in ("80%", "90%"))
        assert 1 <= low <= high
        assert rows["20 pairs", f"{rule} 80%", "coverage"] <= rows["20 pairs", f"{rule} 90%", "coverage"]
    assert rows["20 pairs", "first", "coverage"] <= rows["20 pairs", "gap 80%", "coverage"]
