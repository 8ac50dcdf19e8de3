from pathlib import Path

import pytest

from inverse_design.benchmark import search
from inverse_design.benchmark.search import search_rows


def test_the_scan_is_timed_beside_the_bare_product() -> None:
    rows = search_rows(genes=400, dimensions=(4,), k=10, repeats=3, seed=1)
    by_metric = {(row.model, row.metric): row for row in rows}
    timed = {("bare_product", "seconds"), ("exact_scan", "seconds"), ("exact_scan", "ratio_to_product")}
    memory = {("exact_scan", "peak_mb")} if Path("/proc/self/status").exists() else set()
    assert set(by_metric) == timed | memory
    for row in rows:
        assert (row.benchmark, row.dataset, row.variant) == ("search", "400 normal rows", "4")
        assert row.low <= row.value <= row.high
        assert row.n == (1 if row.metric == "peak_mb" else 3)
    for key in timed:
        assert by_metric[key].low > 0
    bare, scan, ratio = (by_metric[key] for key in sorted(timed, key=lambda key: (key[1] != "seconds", key)))
    assert (bare.unit, scan.unit, ratio.unit) == ("s", "s", "1")
    assert scan.low / bare.high <= ratio.value <= scan.high / bare.low
    for key in memory:
        assert by_metric[key].unit == "MB"
        assert 0 <= by_metric[key].value < 200


def test_each_dimension_is_a_variant_and_memory_is_left_out_where_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(search, "STATUS", tmp_path / "none")
    rows = search_rows(genes=30, dimensions=(2, 5), k=3, repeats=2)
    assert [row.variant for row in rows] == ["2"] * 3 + ["5"] * 3
    assert not any(row.metric == "peak_mb" for row in rows)
