"""The commands of the guides run as they stand."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from strategies.worlds import command

ROOT = Path(__file__).parents[1]
GUIDE = "docs/guides/campaigns.md"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shell_lines(document: str) -> list[str]:
    """Every line of the shell blocks of a document."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [line for block in _BLOCK.findall(text) for line in block.splitlines() if line.strip()]


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do what a shell would do, in this process: a new one for each line would take most of the time."""
    program, *words = shlex.split(line)
    if program == "inverse-design":
        assert command(*words) == 0, line
        return
    assert program == "python", f"the guides call {program!r}, which this test cannot run"
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(words[0], run_name="__main__")


def test_two_rounds_of_a_campaign_run_from_the_guide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    said: dict[str, list[str]] = {}
    for line in shell_lines(GUIDE):
        run(line, monkeypatch)
        verb = " ".join(word for word in shlex.split(line)[1:3] if not word.startswith("-"))
        said.setdefault(verb, []).append(capsys.readouterr().out)
    twice = ("ask", "order", "tell", "status")
    assert {verb: len(said[f"campaign {verb}"]) for verb in twice} == dict.fromkeys(twice, 2)
    (truth,) = re.findall(r"G\d+\+G\d+", said["examples/bench.py reveal"][0])
    assert all(
        f"best      {truth}," in status and "advice: stop: " in status for status in said["campaign status"]
    )
    assert all("8 control wells left out" in told for told in said["campaign tell"])
    assert "round     2, proposed now" in said["campaign ask"][1]


def test_the_first_round_of_the_readme_is_that_of_the_guide() -> None:
    first = shell_lines("README.md")
    assert "inverse-design campaign status" in first
    assert shell_lines(GUIDE)[: len(first)] == first
