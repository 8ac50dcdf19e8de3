import math
from pathlib import Path

import pytest

from benchmarks.scale import decoded
from benchmarks.scale.decoded import decoded_rows


def test_scan_products_and_two_stages_are_timed_in_turns() -> None:
    rows = decoded_rows(genes=150, members=3, hidden=16, outputs=4, k=10, repeats=3, seed=1)
    measured = {(row.model, row.metric): row for row in rows if row.variant == "measured on 11175 pairs"}
    ratios = {("scan", "ratio_to_products"), ("two_stage", "two_stage_ratio")}
    recalls = {("two_stage", "recall"), ("two_stage", "probe_recall")}
    seconds = {(model, "seconds") for model in ("products", "scan", "two_stage")}
    memory = {("scan", "peak_mb")} if Path("/proc/self/status").exists() else set()
    assert set(measured) == ratios | recalls | seconds | memory
    for key, row in measured.items():
        assert (row.benchmark, row.dataset) == ("decoded", "150 genes, 3 networks 16-4")
        assert row.low <= row.value <= row.high
        assert row.n == (1 if key in memory else 3)
        assert row.unit == {"seconds": "s", "peak_mb": "MB"}.get(row.metric, "1")
    for key in ratios | seconds:
        assert measured[key].low > 0
    for key in recalls:
        assert 0 <= measured[key].low <= measured[key].high <= 1
    for key in memory:
        assert 0 <= measured[key].value < 200
    scan, bare = measured["scan", "seconds"], measured["products", "seconds"]
    assert scan.low / bare.high <= measured["scan", "ratio_to_products"].value <= scan.high / bare.low


def test_what_is_extrapolated_says_so_and_memory_is_left_out_where_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decoded, "STATUS", tmp_path / "none")
    rows = decoded_rows(genes=40, members=1, hidden=6, outputs=2, k=3, repeats=1)
    (large,) = [row for row in rows if row.variant == "extrapolated from 780 to 49995000 pairs"]
    (small,) = [row for row in rows if (row.model, row.metric) == ("scan", "seconds") and row != large]
    assert math.isclose(large.value, small.value * 49_995_000 / 780)
    assert not any(row.metric == "peak_mb" for row in rows)
