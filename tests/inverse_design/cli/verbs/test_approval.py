from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from strategies.worlds import command, save_table

from inverse_design.cli.options import Running
from inverse_design.cli.verbs import propose as module
from inverse_design.cli.verbs.propose import approval, engine_of
from inverse_design.errors import SpaceError
from inverse_design.search.api import Engine, Workload

LONG = Workload(166_616_670_000, "166,616,670,000 triples", 200.0, 2, 400_000_000)


def test_short_searches_are_not_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    approval("ask")(Workload(66, "66 pairs", 0.1, 2, 1))
    assert capsys.readouterr().err == ""


def test_long_searches_need_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        SpaceError, match=r"166,616,670,000 triples, about 3 min on 2 cores, 400 MB\. Proceed\?.*--yes"
    ):
        approval("ask")(LONG)
    approval("yes")(LONG)
    assert "searching 166,616,670,000 triples, about 3 min" in " ".join(capsys.readouterr().err.split())


def test_workers_and_a_ledger_change_nothing_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, words = save_table(tmp_path), ("--target", "G0+G4", "--model", "scaled_additive", "--top", 5)
    label = pd.read_csv(table)["condition"].iloc[-1]
    words = ("--target", label, *words[2:])
    plain, spread = tmp_path / "plain.csv", tmp_path / "spread.csv"
    ledger = tmp_path / "scan.db"
    crews: list[int] = []

    def threads(engine: Engine) -> ThreadPoolExecutor:
        crews.append(engine.workers)  # that processes give the same bytes is a test of the engine
        return ThreadPoolExecutor(engine.workers)

    monkeypatch.setattr(Engine, "_processes", threads)
    assert command("propose", table, *words, "-o", plain) == 0
    assert command("propose", table, *words, "-o", spread, "--workers", 2, "--ledger", ledger) == 0
    assert crews == [2]
    assert plain.read_text() == spread.read_text()
    assert ledger.exists()
    assert command("propose", table, *words, "--level", 0.5, "--order", "both", "--ledger", ledger) == 3
    assert "is the ledger of another search" in " ".join(capsys.readouterr().err.split())
    monkeypatch.setattr(module, "LONG", 0.0)
    assert command("propose", table, *words) == 3
    assert "Repeat the command with --yes" in " ".join(capsys.readouterr().err.split())
    assert command("propose", table, *words, "--yes") == 0


def test_a_scheduler_without_certificates_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    for address, warned in (
        ("tcp://10.0.0.1:8786", True),
        ("10.0.0.1:8786", True),
        ("tls://10.0.0.1:8786", False),
    ):
        assert engine_of(Running(scheduler=address)).scheduler == address
        said = " ".join(capsys.readouterr().err.split())
        assert ("can run programs as you" in said) is warned
