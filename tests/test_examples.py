"""The examples run, and say what they should."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MOST_LINES = 15  # of what a newcomer does first


@pytest.fixture
def example(capsys: pytest.CaptureFixture[str]) -> Callable[[str], tuple[dict[str, Any], str]]:
    """Run a short example; give its names and what it printed."""

    def ran(name: str) -> tuple[dict[str, Any], str]:
        path = EXAMPLES / f"{name}.py"
        assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES
        return runpy.run_path(str(path)), capsys.readouterr().out

    return ran


def test_a_frame_is_answered(example: Callable[[str], tuple[dict[str, Any], str]]) -> None:
    names, said = example("frame")
    assert names["answer"].table["perturbation"][0] == "G027+G037"  # as `python examples/bench.py reveal` says
    assert said.startswith("Proposal for 'effect': Best of 720: G027+G037, more than 99.9 % likely")


def test_an_objective_of_ones_own_ranks(example: Callable[[str], tuple[dict[str, Any], str]]) -> None:
    names, said = example("own_objective")
    table = names["answer"].table
    assert "utility" in said
    assert table["utility"].is_monotonic_decreasing
    assert table["perturbation"].str.contains("G010").mean() > 0.5  # which the objective wants up
    assert (table["lower"] < table["utility"]).all()


def test_a_regressor_of_ones_own_is_calibrated(example: Callable[[str], tuple[dict[str, Any], str]]) -> None:
    names, said = example("own_surrogate")
    assert names["answer"].fitted.name == "FromRegressor(Ridge)"
    assert names["answer"].table["perturbation"][0] == "G010+G021"
    assert "90 % set: 1 of 721 candidates" in said


def test_predictions_have_intervals(example: Callable[[str], tuple[dict[str, Any], str]]) -> None:
    names, _ = example("predictions")
    predicted = names["predicted"]
    assert predicted.in_sample.to_dict() == {"G021+G010": True, "G001+G002": False, "G037+G027": False}
    assert (predicted.lower < predicted.mean).all(axis=None)
    assert (predicted.mean < predicted.upper).all(axis=None)


@pytest.mark.slow
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
        assert len(runpy.run_path(str(short))["study"].trials) == trials
    said = capsys.readouterr().out
    assert "equal after the round trip: True" in said
    assert (tmp_path / "tuning" / "interaction.safetensors").is_file()
