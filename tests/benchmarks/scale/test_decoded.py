import math
from pathlib import Path

import pytest

from benchmarks.scale import decoded
from benchmarks.scale.decoded import decoded_rows


def test_the_scan_is_timed_beside_the_stream() -> None:
    rows = decoded_rows(genes=60, members=2, hidden=8, readouts=5, k=10, repeats=3, seed=1)
    measured = {(row.model, row.metric): row for row in rows if row.variant == "of 1770 pairs"}
    memory = {("scan", "peak_mb")} if Path("/proc/self/status").exists() else set()
    assert set(measured) == {("scan", "seconds"), ("streamed", "seconds"), ("streamed", "ratio_to_scan")} | memory
    for key, row in measured.items():
        assert (row.benchmark, row.dataset) == ("decoded", "60 genes, 2 networks 8-5")
        assert 0 <= row.low <= row.value <= row.high
        assert row.n == (1 if key in memory else 3)
        assert row.unit == {"seconds": "s", "peak_mb": "MB"}.get(row.metric, "1")
    scan, slow = measured["scan", "seconds"], measured["streamed", "seconds"]
    assert slow.low / scan.high <= measured["streamed", "ratio_to_scan"].value <= slow.high / scan.low


def test_what_is_extrapolated_says_so_and_memory_is_left_out_where_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(decoded, "STATUS", tmp_path / "none")
    rows = decoded_rows(genes=40, members=1, hidden=6, readouts=2, k=3, repeats=1)
    (large,) = [row for row in rows if row.variant == "extrapolated to 49995000 pairs"]
    (small,) = [row for row in rows if (row.model, row.metric) == ("scan", "seconds") and row != large]
    assert math.isclose(large.value, small.value * 49_995_000 / 780)
    assert not any(row.metric == "peak_mb" for row in rows)
