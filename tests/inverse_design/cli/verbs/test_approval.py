import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from strategies.worlds import command, save_table

from inverse_design import proposal
from inverse_design.cli import plans
from inverse_design.cli.options import Planning, Running
from inverse_design.cli.plans import settled
from inverse_design.cli.verbs.propose import engine_of
from inverse_design.errors import CostError
from inverse_design.planning.course import Stage
from inverse_design.planning.plan import Plan
from inverse_design.problem.problem import STANDARD
from inverse_design.search.api import Engine

FEW = Plan("66 pairs", (Stage("fit", 299.0),), bytes=10, available=10)
LONG = replace(FEW, stages=(Stage("fit", 299.0), Stage("search", 2.0)))
LARGE = replace(FEW, bytes=11, remedies=("9 of its 10 readouts would fit",))


def test_only_long_or_large_work_needs_a_word() -> None:
    assert settled(FEW, Planning())
    for plan, said in (
        (LONG, r"66 pairs: about 5 min, 10 bytes\. Proceed\?"),
        (LARGE, "9 of its 10 readouts would fit"),
    ):
        with pytest.raises(CostError, match=f"{said}.*Nothing was fitted.*--yes"):
            settled(plan, Planning())
        assert settled(plan, Planning(yes=True))


@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_person_is_asked(answer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    if answer == "y":
        assert settled(LONG, Planning())
        return
    with pytest.raises(CostError, match="stopped before anything was fitted"):
        settled(LONG, Planning())


def test_a_dry_run_prints_the_plan_and_fits_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = save_table(tmp_path)
    label = pd.read_csv(table)["condition"].iloc[-1]
    monkeypatch.setattr(proposal, "calibrated_fit", lambda *_, **__: pytest.fail("fitted"))
    assert command("propose", table, "--target", label, "--dry-run") == 0
    said = capsys.readouterr().out
    assert re.search(r"^plan: \d+ conditions on \d+ readouts, \d+ pairs", said)
    assert [line.split()[0] for line in said.splitlines()[2:]] == ["fit", "search", "calibration", "in", "memory:"]


@pytest.mark.parametrize("what", ["retrieval", "forward", "calibration", "reach"])
def test_measurements_say_what_they_take(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("benchmark", what, save_table(tmp_path), "--dry-run") == 0
    assert f"plan: {what}: " in capsys.readouterr().out


def test_the_log_is_as_loud_as_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, words = save_table(tmp_path), ("--model", "scaled_additive", "--target")
    label = pd.read_csv(table)["condition"].iloc[-1]
    said = {}
    for flag in ("-q", "-v"):
        assert command("propose", table, *words, label, flag) == 0
        said[flag] = capsys.readouterr()
    first = {flag: each.out.splitlines()[0] for flag, each in said.items()}
    assert first["-q"] == first["-v"]
    assert first["-q"].startswith(f"Best of 30: {label}, ")
    assert said["-q"].err == ""
    assert "search: took" in said["-v"].err
    assert "about under" not in said["-v"].err
    assert "calibration: 1 of" not in said["-v"].err  # a line for each stage, not for each of its parts
    assert not logging.getLogger("inverse_design").handlers


def test_standardised_distances_are_shown_with_their_unit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, words = save_table(tmp_path), ("--model", "scaled_additive", "--standardise", "--target")
    label = pd.read_csv(table)["condition"].iloc[-1]
    assert command("propose", table, *words, label) == 0
    assert f"unit      {STANDARD}" in capsys.readouterr().out.splitlines()


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
    monkeypatch.setattr(plans, "LONG", 0.0)
    assert command("propose", table, *words) == 3
    assert "repeat the command with --yes" in " ".join(capsys.readouterr().err.split())
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
