import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import __main__ as benchmarks
from benchmarks.peers.command import show_peers
from benchmarks.peers.run import Comparison, PeerReport
from surrogates.evaluation.intervals import Row


def row(model: str, metric: str, value: float, n: int = 3, variant: str = "66 pairs") -> Row:
    return Row("peers", "12 genes", model, "", variant, metric, value, math.nan, math.nan, n, "s")


ROWS = (
    row("exact_scan", "seconds", 0.01234),
    row("exact_scan", "topk", 1.0),
    row("~ slow, linear from 15 and 30", "seconds", 12345.6, n=0),
    row("exact_scan", "seconds", 2.0, variant="99 pairs"),
)


def test_what_was_not_run_is_marked_and_says_from_which_sizes() -> None:
    text = io.StringIO()
    show_peers(Console(file=text, width=200), ROWS, threads=2, k=7)
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("the best 7 pairs")
    assert "2 threads" in lines[0]
    at = lines.index("12 genes, 66 pairs")
    assert lines[at + 1].split() == ["method", "seconds", "top", "k"]
    assert lines[at + 2].split() == ["exact_scan", "0.0123", "1.00"]
    assert lines[at + 3].split() == ["slow", "~", "12,346", "-", "linear", "from", "15", "and", "30"]
    assert "12 genes, 99 pairs" in lines


def test_the_command_measures_and_writes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked: list[Comparison] = []

    def measure(comparison: Comparison) -> PeerReport:
        asked.append(comparison)
        return PeerReport(ROWS, ("baybe: not there",))

    monkeypatch.setattr("benchmarks.peers.run.measure_peers", measure)
    place = tmp_path / "peers.json"
    words = ["benchmarks", "peers", "--genes", "142", "500", "--seed", "4", "--json", str(place)]
    monkeypatch.setattr("sys.argv", words)
    assert benchmarks.main() == 0
    assert asked == [Comparison(genes=(142, 500), budget=600.0, threads=2, seed=4, triples=500)]
    assert "skipped: baybe: not there" in capsys.readouterr().out
    written = json.loads(place.read_text(encoding="utf-8"))
    assert [each["value"] for each in written["rows"]] == [each.value for each in ROWS]
