import math
from pathlib import Path

import pytest
import torch

from surrogates.evaluation.scorecard import with_cost


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_memory_that_was_freed_again_is_seen() -> None:
    total, cost = with_cost(lambda: float(torch.ones(15_000_000, dtype=torch.float64).sum()))  # 120 MB
    assert total == 15_000_000
    assert cost.peak_mb > 100
    assert cost.seconds > 0
    _, again = with_cost(lambda: [torch.ones(1000) for _ in range(20_000)])  # small pieces, kept by the allocator
    _, repeated = with_cost(lambda: [torch.ones(1000) for _ in range(20_000)])
    assert 60 < repeated.peak_mb < 2 * again.peak_mb
    _, small = with_cost(lambda: None)
    assert small.peak_mb < 20


def test_memory_is_unknown_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surrogates.evaluation.scorecard._RESET", Path("/absent/file"))
    result, cost = with_cost(lambda: 3)
    assert result == 3
    assert math.isnan(cost.peak_mb)
