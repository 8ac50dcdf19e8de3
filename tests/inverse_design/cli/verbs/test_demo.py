import json
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from strategies.worlds import command, save_state, save_table, tiny_table

from inverse_design.cli.verbs import demo
from inverse_design.cli.verbs.demo import simulated


@pytest.fixture
def without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INVERSE_DESIGN_DATA", str(tmp_path / "absent"))
    monkeypatch.setattr(demo, "_GENES", 12)
    monkeypatch.setattr(demo, "_DOUBLES", 24)


@pytest.mark.usefixtures("without_data")
def test_without_data_the_first_line_says_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(opened.append(address)))
    folder = tmp_path / "new" / "demo"
    assert command("demo", "-o", folder, "--open") == 0
    said, heard = capsys.readouterr()
    page = (folder / "report.html").as_uri()
    assert opened == [page]
    assert f"there is no browser here; open {page} in one" in said
    assert [line.partition(":")[0] for line in said.splitlines()[-2:]] == ["next", "then"]
    assert heard.startswith("demo: takes about")
    truth = simulated(0)[1]
    assert said.startswith("simulated")
    assert f"truth: {truth}" in said
    assert "is number" in said
    assert sorted(path.name for path in folder.iterdir()) == [
        "candidates.csv", "candidates.csv.json", "ranking.svg", "report.html"
    ]  # fmt: skip
    assert json.loads((folder / "candidates.csv.json").read_text())["manifest"]["settings"]["target"] == truth
    assert "(truth)" in (folder / "ranking.svg").read_text()


def test_a_browser_of_a_terminal_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webbrowser, "open", lambda _: pytest.fail("a browser was started"))
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not demo.show_page(tmp_path / "page.html")


def test_something_is_said_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    script = "import sys; sys.modules['torch'] = None; from inverse_design.cli.app import main; main(['demo'])"
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stderr.startswith("demo: takes about")


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
