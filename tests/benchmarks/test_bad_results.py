"""Bad results taken back, bounded; ``python -m benchmarks bad_results`` does the same with every kind."""

from pathlib import Path

import pytest

from benchmarks.robustness.bad_results import KINDS, measure


def test_a_campaign_answers_as_if_it_had_never_seen_bad_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found, wrong = measure(tmp_path, kinds=("1e14 everywhere", "a date"), every=7, recommender="random")
    assert wrong == []
    assert found == {"accepted on request": 1, "refused": 1}


def test_every_kind_of_bad_value_is_there() -> None:
    words = " ".join(KINDS)
    for kind in (
        "1e200",
        "1e308",
        "-1e300",
        "'inf'",
        "'nan'",
        "1e-320",
        "1e6 times",
        "zero",
        "unit",
        "swapped",
        "date",
    ):
        assert kind in words
