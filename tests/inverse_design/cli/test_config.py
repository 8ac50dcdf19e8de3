"""Options from a file: what is typed goes before, unknown keys are refused, and the file is always named."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.worlds import command, save_state, save_table

from inverse_design.cli.config import TYPED

PLAN = ("propose", "screen.csv", "--target", "state.csv", "--dry-run", "--json")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    save_table(folder)
    save_state(folder)
    return folder


@pytest.fixture
def _here(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in files.iterdir():
        Path(path.name).symlink_to(path)


def stated(content: str, name: str = "inverse-design.toml") -> None:
    Path(name).write_text(content)


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize("option", ["top", "seed", "max-per-gene"])
def test_a_fraction_is_not_rounded(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("campaign", "create", "screen.csv") if option == "max-per-gene" else PLAN
    assert command(*words, f"--{option}", "2.5") == 2
    assert 'unable to convert "2.5" into int' in capsys.readouterr().err
    stated(f"{option} = 2.5")
    assert command(*words) == 2
    assert 'unable to convert "2.5" into int' in capsys.readouterr().err
    if words == PLAN:
        assert command(*words, f"--{option}", "20.0") == 0


@pytest.mark.usefixtures("_here")
def test_the_file_of_the_working_directory_is_taken_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command(*PLAN) == 0
    plain = json.loads(capsys.readouterr().out)
    assert "config" not in plain
    stated('exclude = ["G000", "G001"]\nmodel = "additive"\n[campaign]\n[propose]\nmodel = "scaled_additive"')
    assert command(*PLAN) == 0
    said = capsys.readouterr()
    options = {"exclude": ["G000", "G001"], "model": "scaled_additive"}  # the table of a verb goes before the top
    assert json.loads(said.out)["config"] == {"file": "inverse-design.toml", "options": options}
    assert said.err.startswith("options of inverse-design.toml: ")
    assert ("45 pairs" in plain["what"], "28 pairs" in json.loads(said.out)["what"]) == (True, True)
    assert command(*PLAN, "--exclude", "G002", "--quiet") == 0  # what is typed goes before
    said = capsys.readouterr()
    assert json.loads(said.out)["config"]["options"] == {"model": "scaled_additive"}
    assert "36 pairs" in json.loads(said.out)["what"]
    assert said.err == ""


@pytest.mark.usefixtures("_here")
def test_another_file_may_be_named_and_its_options_are_in_the_manifest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    stated("nonsense")
    stated('[benchmark.rounds]\nlevel = 0.8\noutput = "rows.json"\n', "other.toml")
    Path("rounds.csv").write_text("round,lower,upper,measured\n0,-1,1,0\n0,-1,1,2\n1,-1,1,0\n")
    assert command("benchmark", "rounds", "rounds.csv", "--config", "other.toml") == 0
    said, heard = capsys.readouterr()
    assert "nominal 0.8" in said
    assert "options of other.toml" in heard
    found = json.loads(Path("rows.json").read_text())["manifest"]["config"]
    assert found == {"file": "other.toml", "options": {"level": 0.8, "output": "rows.json"}}
    assert command("cache", "info", "--json", "--config", "other.toml") == 0  # which has none for this verb
    said, heard = capsys.readouterr()
    assert (heard, "config" in json.loads(said)) == ("", False)
    assert command("check", "screen.csv", "--config", "absent.toml") == 3
    assert "there is no file 'absent.toml'" in capsys.readouterr().err


@pytest.mark.usefixtures("_here")
def test_the_environment_goes_before_the_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stated('[campaign]\nstore = "of-file.db"\n')
    assert command("campaign", "history") == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "options of inverse-design.toml: store = 'of-file.db'"
    assert said[1].startswith("error: there is no store 'of-file.db'")
    stated('store = "postgresql://ann:secret@127.0.0.1:1/none"\n')
    assert command("campaign", "history") == 3
    said = capsys.readouterr().err
    assert "options of inverse-design.toml: store = 'postgresql://ann:***@127.0.0.1:1/none'" in said
    assert "secret" not in said
    monkeypatch.setenv("INVERSE_DESIGN_STORE", "of-environment.db")
    assert command("campaign", "history") == 3
    assert "there is no store 'of-environment.db'" in capsys.readouterr().err
    assert command("campaign", "history", "--store", "typed.db") == 3
    assert "there is no store 'typed.db'" in capsys.readouterr().err


@pytest.mark.usefixtures("_here")
@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        ("tpo = 3", 3, "unknown key of 'inverse-design.toml' 'tpo': did you mean 'top'"),
        ("[propse]", 3, "unknown verb of 'inverse-design.toml' 'propse': did you mean 'propose'?"),
        (
            "[campaign.ask]\nbatch-size = 3",
            3,
            "unknown key of 'inverse-design.toml', [campaign.ask], 'batch-size'",
        ),
        ("[propose]\nbatch_col = 'x'", 3, "did you mean 'batch-col'?"),
        ("[propose.more]\ntop = 1", 3, "unknown verb of 'inverse-design.toml', [propose], 'more'"),
        ("[campaign.order]\nlibrary = 1\n[campaign.create]\norder = 2\n[check]\ntop = 1", 3, "[check], 'top'"),
        ("top = {a = 1}", 3, "give a text, a number, true, false or a list"),
        ("top = 2026-01-01", 3, "give a text, a number, true, false or a list"),
        ("top =", 3, "'inverse-design.toml' cannot be read as TOML"),
        ("[propose]\ntop = 'x'", 2, "Invalid value for [top] from inverse-design.toml"),
        ("[propose]\ntop = 0", 2, 'Invalid value "0" for [top] provided by inverse-design.toml'),
        *((f"[propose]\n{key} = true", 3, f"{key!r}, which is only taken from the command line") for key in TYPED),
    ],
)
def test_what_is_wrong_in_a_file_is_named(
    content: str, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stated(content)
    assert command(*PLAN) == code
    said = capsys.readouterr()
    assert message in said.err
    assert said.out == ""


@settings(max_examples=10, deadline=None)
@given(
    content=st.text(max_size=40) | st.from_regex(r"\[?(campaign|top)\.?(ask)?\]? ?=? ?[1'{\[]?", fullmatch=True)
)
def test_any_file_is_taken_or_refused(tmp_path_factory: pytest.TempPathFactory, content: str) -> None:
    path = tmp_path_factory.mktemp("any") / "x.toml"
    path.write_text(content, encoding="utf-8")
    assert command("campaign", "history", "--store", path.parent / "absent.db", "--config", path) == 3


def test_the_help_says_where_options_may_stand(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--help") == 0
    assert "inverse-design.toml" in capsys.readouterr().out
    assert command("propose", "--help") == 0
    assert "--config" in capsys.readouterr().out
