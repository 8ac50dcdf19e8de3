import json
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import get_args

import pytest
from strategies.worlds import command, save_table

from inverse_design import proposal
from inverse_design.cli import options
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.problem import STANDARD
from inverse_design.validate.retrieval import DEFAULT, METHODS, YARDSTICK
from surrogates.errors import DataError
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated

HEAVY = ("torch", "pandas", "anndata", "numpy", "pyarrow", "pydantic", "h5py", "scipy")


def test_the_words_of_the_options_are_those_of_the_library() -> None:
    assert get_args(options.OrderName) == get_args(proposal.Order)
    kept = {word.replace("-", "_") for word in get_args(options.MeasuredWord)}
    assert kept == set(get_args(Constraints.__annotations__["measured"]))


@pytest.mark.parametrize("words", [["--help"], ["propose", "--help"], ["benchmark", "retrieval", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    script = (
        "import sys; from inverse_design.cli.app import main; code = main(sys.argv[1:]);"
        f"sys.exit(code or ' '.join(name for name in {HEAVY} if name in sys.modules) or 0)"
    )
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "inverse-design" in done.stdout


def test_module_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "inverse_design", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == version("inverse-design")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chek"], "Did you mean"),
        (["check"], "DATA"),
        (["propose", "x.csv"], "--target"),
        (["propose", "x.csv", "--target", "A", "--top", "0"], ">= 1"),
        (["propose", "x.csv", "--target", "A", "--order", "7"], "Choose from"),
        (["propose", "x.csv", "--target", "A", "--level", "1"], "< 1"),
        (["propose", "x.csv", "--target", "A", "--objectve", "pearson"], "--objective"),
        (["check", "x.csv", "-q", "-v"], "leave one of them out"),
    ],
)
def test_usage_errors(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


def test_nothing_typed_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert command() == 0
    assert "propose" in capsys.readouterr().out


def test_an_error_is_one_paragraph(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DataError("first [bold]line[/]\n  second\x1b[31m line")

    monkeypatch.setattr("inverse_design.cli.verbs.check.run_check", refuse)
    assert command("check", "x") == 3
    assert capsys.readouterr().err == "error: first [bold]line[/] second\N{REPLACEMENT CHARACTER}[31m line\n"


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    path = save_table(tmp_path)
    script = f"{sys.executable} -m inverse_design check {path} | head -1"
    done = subprocess.run(  # noqa: S603
        ["/bin/bash", "-c", f"set -o pipefail; {script}"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_benchmarks_print_tables_and_write_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(METHODS[DEFAULT], model=Calibrated(ScaledAdditive()))
    few = {YARDSTICK: METHODS[YARDSTICK], DEFAULT: quick}
    monkeypatch.setattr("inverse_design.validate.retrieval.METHODS", few)
    path = save_table(tmp_path)
    assert command("benchmark", "retrieval", path, "--standardise", "-o", tmp_path / "rows.json") == 0
    said = capsys.readouterr().out
    assert "came true" in said
    assert "mean log P(truth): promised by inner folds" in said
    columns = ["model", "top1", "top1_gain", "top10", "mrr", "median_rank", "log_probability", "ece"]
    assert columns in [line.split() for line in said.splitlines()]
    content = json.loads((tmp_path / "rows.json").read_text())
    assert {row["dataset"] for row in content["rows"]} == {"screen.csv"}
    assert {row["standard_error"] > 0 for row in content["rows"] if row["metric"] == "log_probability"} == {True}
    assert content["manifest"]["command"].startswith("inverse-design benchmark retrieval ")
    assert content["manifest"]["data"]["unit"] == STANDARD


def test_the_benchmark_of_forward_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, rows, picture = save_table(tmp_path), tmp_path / "rows.json", tmp_path / "errors.svg"
    words = ("--models", "no_change,interaction", "--classes", "double-2,single-0", "--seed", 3)
    assert command("benchmark", "forward", table, *words, "-o", rows, "--picture", picture) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("warning: 'no_change' does not beat 'scaled_additive' (double, 2 of 2 seen)")
    assert said[-1] == f"wrote {rows} and {picture}"
    assert sum(line.startswith("interaction ") for line in said) == 2
    content = json.loads(rows.read_text())
    assert (content["manifest"]["seed"], content["manifest"]["settings"]["refusals"]) == (3, [])
    assert "sha256" in content["manifest"]["data"]
    assert {row["novelty"] for row in content["rows"]} == {"double, 2 of 2 seen", "single, unseen"}
    assert {"discrimination", "coverage_90", "mae"} <= {row["metric"] for row in content["rows"]}
    assert "interaction" in picture.read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--models", "interactoin"], 2, "unknown model 'interactoin': did you mean 'interaction'"),
        (["--classes", "double-3"], 2, "unknown novelty class 'double-3': did you mean 'double-2'"),
        (["--picture", "errors.jpg"], 3, "ends with .svg or .png or .pdf"),
    ],
)
def test_bad_words_of_the_benchmark_of_forward_models(
    tmp_path: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("benchmark", "forward", save_table(tmp_path), *words) == code
    assert message in capsys.readouterr().err
