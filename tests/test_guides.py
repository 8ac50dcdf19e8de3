"""The commands of the guides run as they stand."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
from strategies.worlds import command

from benchmarks.__main__ import names
from inverse_design.cli.app import app
from inverse_design.report.words import GLOSSARY
from surrogates.data.io.formats.registry import READERS

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


@pytest.mark.slow
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


def block(document: str, language: str) -> str:
    """The one block of a document in a language."""
    text = (ROOT / document).read_text(encoding="utf-8")
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(found)


@pytest.mark.slow
def test_the_readme_prints_what_it_shows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    for line in shell_lines("README.md"):
        run(line, monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    shown = block("README.md", "text").splitlines()
    assert len(shown) > 7
    assert [line for line in shown if line.strip() and line not in printed] == []
    lines = block("README.md", "python").replace("top=3", 'top=3, surrogate="scaled_additive"')  # seconds less
    exec(compile(lines, "README.md", "exec"), {})  # noqa: S102 - our own lines
    assert "G027+G037" in capsys.readouterr().out


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_the_screen_of_the_examples_is_the_one_that_the_bench_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(ROOT / "examples" / "bench.py"))["main"](["world"])
    for name in ("screen.csv", "target.csv"):
        shipped, written = (pd.read_csv(folder / name) for folder in (ROOT / "examples", tmp_path))
        pd.testing.assert_frame_equal(shipped, written, atol=2e-4, rtol=0)


def test_the_architecture_names_every_room_and_no_other_file() -> None:
    tree = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("## Words")[0]
    named = set(re.findall(r"(\w+)/", tree))
    there = {
        path.parent.name
        for package in ("surrogates", "inverse_design")
        for path in ROOT.glob(f"{package}/*/__init__.py")
    }
    assert there <= named
    for path in re.findall(
        r"`((?:surrogates|inverse_design)/[\w/.]+)`",
        (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"),
    ):
        assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_every_kind_of_screen_leads_to_a_proposal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    said = {}
    for line in shell_lines("docs/guides/data.md"):
        run(line, monkeypatch)
        said[line] = capsys.readouterr().out
    proposals = [text for line, text in said.items() if " propose " in line]
    assert len(proposals) == 5
    assert all("number 1 of" in text for text in proposals)
    assert "whole numbers (counts of molecules)" in " ".join(said["inverse-design check cells.h5ad"].split())
    assert "2 from 0.5 to 5" in said["inverse-design check drugs.csv"]
    assert "the mean of 1 control row(s) is subtracted" in said["inverse-design check l1000.gct"]


def test_each_format_that_is_read_has_a_row_in_the_guide() -> None:
    text = (ROOT / "docs/guides/data.md").read_text(encoding="utf-8")
    rows = [line for line in text.split("## Formats")[1].split("\n## ")[0].splitlines() if line.startswith("| `.")]
    named = {name for row in rows for name in re.findall(r"`\.([a-z0-9.]+)`", row.split("|")[1])}
    assert named == {ending.removesuffix(".gz") for ending in READERS.shipped} | {"gz"}


def test_the_glossary_of_the_pages_is_that_of_the_reports(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \|", text, re.MULTILINE)) == GLOSSARY
    assert len(GLOSSARY) == 12
    assert command("words") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(f"{word} {meaning}" in said for word, meaning in GLOSSARY.items())


def pages() -> list[str]:
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [page.read_text(encoding="utf-8") for page in found]


def test_each_command_of_a_page_is_one_of_the_command_line() -> None:
    found = [re.findall(r"^(?: {4}|)inverse-design (.+)$", page, re.MULTILINE) for page in pages()]
    lines = sorted({line for page in found for line in page})
    assert len(lines) > 40
    for line in lines:
        words = shlex.split(re.split(r" >>? ", line)[0], comments=True)
        app.parse_args(words, exit_on_error=False, print_error=False)  # raises what a user would be told


def test_each_benchmark_of_a_page_is_there() -> None:
    named = {name for page in pages() for name in re.findall(r"python -m\s+benchmarks\s+([a-z]\w+)", page)}
    assert len(named) > 15
    assert named <= set(names())
