"""The commands that time searches, at sizes of a test."""

from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr("sys.argv", ["benchmarks", *map(str, words)])
    return benchmarks.main()


def test_search(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scale.search.STATUS", Path("/absent"))  # no process of its own
    assert run(monkeypatch, "search", "--genes", 60, "--repeats", 2) == 0
    said = capsys.readouterr().out
    assert "all 1,770 pairs" in said
    assert "ratio_to_product" in said


def test_neural(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.scale.decoded.STATUS", Path("/absent"))  # no process of its own
    assert run(monkeypatch, "neural", "--genes", 40) == 0
    said = capsys.readouterr().out
    assert "all 780 pairs" in said
    assert "ratio_to_scan" in said


def test_without_a_name_all_are_listed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(monkeypatch) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert {"search", "neural", "peers", "causal_matching", "promise"} <= set(listed)
    assert run(monkeypatch, "serach") == 2


def test_fit_workers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        run(monkeypatch, "fit_workers", "--singles", 12, "--doubles", 0, "--readouts", 15, "--workers", 1, 2) == 0
    )
    one, two = (line.split()[-1] for line in capsys.readouterr().out.splitlines()[1:])
    assert one == two  # such a small screen has no workers
