import json
from pathlib import Path

import pytest
from strategies.worlds import command

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
        "candidates.csv", "candidates.csv.json", "ranking.svg"
    ]  # fmt: skip
    assert json.loads((folder / "candidates.csv.json").read_text())["manifest"]["settings"]["target"] == truth
    assert "(truth)" in (folder / "ranking.svg").read_text()


@pytest.mark.usefixtures("without_data")
def test_a_place_that_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("kept")
    assert command("demo", "-o", tmp_path / "file") == 3
    assert "error: " in capsys.readouterr().err
