import json
from pathlib import Path

import pytest
from strategies.worlds import command, save_state, save_table, tiny_table

from inverse_design.cli.verbs import propose
from inverse_design.cli.verbs.propose import simulated


@pytest.fixture
def without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSE_DESIGN_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr(propose, "_GENES", 12)
    monkeypatch.setattr(propose, "_DOUBLES", 24)


@pytest.mark.usefixtures("without_data")
def test_without_data_the_first_line_says_simulated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "demo"
    assert command("demo", "-o", folder) == 0
    said = capsys.readouterr().out
    truth = simulated(0)[1]
    assert said.startswith("simulated")
    assert f"truth: {truth}" in said
    assert "is number" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "candidates.csv", "candidates.csv.json", "ranking.svg", "report.html"
    ]  # fmt: skip
    assert json.loads((folder / "candidates.csv.json").read_text())["manifest"]["settings"]["target"] == truth
    assert "(truth)" in (folder / "ranking.svg").read_text()


@pytest.mark.usefixtures("without_data")
def test_a_place_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("kept")
    assert command("demo", "-o", tmp_path / "file") == 3
    assert "error: " in capsys.readouterr().err


def test_a_report_is_written_beside_the_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_table(tmp_path, tiny_table())
    save_state(tmp_path)
    words = ("propose", tmp_path / "screen.csv", "--target", tmp_path / "state.csv", "--model", "additive")
    page = tmp_path / "out.html"
    assert command(*words, "--report", page) == 0
    assert f"wrote {page}" in capsys.readouterr().out
    assert "<h2>Provenance</h2>" in page.read_text()
    page.write_text("mine")
    assert command(*words, "--report", page) == 3
    assert "was not written by inverse-design" in capsys.readouterr().err
    assert page.read_text() == "mine"
