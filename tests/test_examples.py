"""The examples run, and say what they should."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.real_data
def test_the_example_finds_the_held_out_double(
    real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    real_data("norman2019_expr")
    source = (EXAMPLES / "propose.py").read_text(encoding="utf-8")
    short = tmp_path / "propose.py"
    quick = "from surrogates.models.additive import ScaledAdditive\n" + source
    short.write_text(quick.replace("top=5", "top=5, surrogate=ScaledAdditive()"), encoding="utf-8")
    names = runpy.run_path(str(short))
    assert names["proposal"].table["perturbation"][0] == "CEBPE+KLF1"
    assert "CEBPE+KLF1" in capsys.readouterr().out


@pytest.mark.real_data
def test_the_tuning_example_resumes_and_saves(
    real_data: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real_data("cellbox_skmel133")
    monkeypatch.chdir(tmp_path)
    source = (EXAMPLES / "tune.py").read_text(encoding="utf-8")
    short = tmp_path / "tune.py"
    for trials in (2, 3):
        short.write_text(source.replace("TRIALS = 20", f"TRIALS = {trials}"), encoding="utf-8")
        assert runpy.run_path(str(short))["tuned"].trials == trials
    said = capsys.readouterr().out
    assert "equal after the round trip: True" in said
    assert (tmp_path / "tuning" / "interaction.safetensors").is_file()
