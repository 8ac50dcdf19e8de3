from pathlib import Path

import pytest
import torch
from strategies.screens import planted_screen
from strategies.spaces import plain_space

from benchmarks.scale import search
from benchmarks.scale.ensembles import EnsembleImprovement
from benchmarks.scale.search import search_rows
from benchmarks.scale.search_cases import EffectShape, SearchCase, asked
from inverse_design.search.scan import search_pairs
from surrogates.errors import DataError


def test_the_scan_is_timed_beside_the_bare_product() -> None:
    rows = search_rows(genes=400, dimensions=(4,), k=10, members=1, repeats=3, seed=1)
    by_metric = {(row.model, row.metric): row for row in rows}
    works, ratios = ("bare_product", "bare_square", "exact_scan"), ("ratio_to_product", "ratio_to_square")
    timed = {(work, "seconds") for work in works} | {("exact_scan", ratio) for ratio in ratios}
    memory = {("exact_scan", "peak_mb")} if Path("/proc/self/status").exists() else set()
    assert set(by_metric) == timed | memory
    for row in rows:
        assert (row.benchmark, row.dataset, row.variant) == ("search", "400 normal rows", "4")
        assert row.low <= row.value <= row.high
        assert row.n == (1 if row.metric == "peak_mb" else 3)
    for key in timed:
        assert by_metric[key].low > 0
    assert all(by_metric[key].unit == ("s" if key[1] == "seconds" else "1") for key in timed)
    scan = by_metric["exact_scan", "seconds"]
    for work, name in zip(works, ratios, strict=False):
        bare, ratio = by_metric[work, "seconds"], by_metric["exact_scan", name]
        assert scan.low / bare.high <= ratio.value <= scan.high / bare.low
    for key in memory:
        assert by_metric[key].unit == "MB"
        assert 0 <= by_metric[key].value < 200


def test_each_dimension_is_a_variant_and_memory_is_left_out_where_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "STATUS", tmp_path / "none")
    rows = search_rows(genes=30, dimensions=(2, 5), k=3, members=1, repeats=2)
    assert [row.variant for row in rows] == ["2"] * 5 + ["5"] * 5
    assert not any(row.metric == "peak_mb" for row in rows)


def test_ensembles_and_real_shapes_are_timed_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(search, "STATUS", tmp_path / "none")
    monkeypatch.setattr(search, "_SHALLOW", 4)
    shape = EffectShape("some", (0.7, 0.2, 0.1), (1.0, 2.0))
    rows = search_rows(genes=40, dimensions=(2, 5), k=3, members=3, shape=shape, repeats=1)
    ratios = {(row.dataset, row.variant, row.model) for row in rows if row.metric == "ratio_to_product"}
    assert ratios == {
        ("40 normal rows", "2", "exact_scan"),
        ("40 normal rows", "5", "exact_scan"),
        ("40 rows like some", "5", "exact_scan"),
        ("40 normal rows", "2", "expected_improvement_3"),
    }
    assert {row.model for row in rows if row.metric == "seconds"} >= {
        "bare_product",
        "bare_products_3",
        "bare_squares_3",
    }


def test_effects_have_the_spectrum_and_norms_of_the_screen() -> None:
    screen = planted_screen(alone=range(9), together=[(0, 1)], readouts=6)
    shape = EffectShape.of(screen, name="planted")
    assert sum(shape.spectrum) == pytest.approx(1.0)
    assert len(shape.norms) == 9
    case = SearchCase(300, 20, 0, shape=shape)
    (score,) = case.scores()
    rows = score.right - score.right.mean(0)
    assert case.dataset == "300 rows like planted"
    assert int(torch.linalg.matrix_rank(rows)) == len([each for each in shape.spectrum if each > 1e-12])
    best = search_pairs(score, 1, space=plain_space(300)).top
    assert plain_space(300).take(best.index).genes.tolist() == [[0, 150]]
    with pytest.raises(DataError, match="none of the 1 conditions was measured alone"):
        EffectShape.of(screen.rows([9]), name="planted")


def test_members_differ_and_some_pairs_improve() -> None:
    scores = SearchCase(400, 3, 0, members=4).scores()
    assert len(scores) == 4
    assert not torch.equal(scores[0].left, scores[1].left)
    question = asked(scores)
    assert isinstance(question, EnsembleImprovement)
    assert float(search_pairs(question, 1, space=plain_space(400)).top.score[0]) > 0
    assert asked(scores[:1]) is not scores[0]
