"""Killed processes and many writers, bounded; ``python -m benchmarks campaign_store`` does the same at length."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.robustness import campaign_store


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return vars(campaign_store)


def test_nothing_is_lost_or_doubled_when_a_process_is_killed(
    benchmark: dict[str, Any], place: str, tmp_path: Path
) -> None:
    told = benchmark["kill_cycles"](place, tmp_path, cycles=6, seed=0, writers=2)
    assert told > 0  # some worker lived long enough


@pytest.mark.slow
def test_processes_that_ask_and_tell_at_once_lose_nothing(
    benchmark: dict[str, Any], place: str, tmp_path: Path
) -> None:
    told = benchmark["many_writers"](place, tmp_path, writers=8, seconds=1.5)
    acknowledged = [len(benchmark["facts"](path)) for path in tmp_path.glob("acknowledged-*.jsonl")]
    assert told > 0
    assert len(acknowledged) > 1  # more than one of them got through


def test_the_check_sees_what_was_lost(benchmark: dict[str, Any], place: str, tmp_path: Path) -> None:
    benchmark["begin"](place)
    ledger = tmp_path / "acknowledged.jsonl"
    ledger.write_text('{"told": [["G000+G001", "r", 0.5]]}\n', encoding="utf-8")
    with pytest.raises(AssertionError, match=r"acknowledged and lost: .*G000\+G001"):
        benchmark["check"](place, [ledger])
