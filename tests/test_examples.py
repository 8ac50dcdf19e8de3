"""The examples run, and say what they should."""

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.real_data
def test_the_example_finds_the_held_out_double(
    real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    real_data("norman2019_expr")
    names = runpy.run_path(str(EXAMPLES / "propose.py"))
    assert names["proposal"].table["perturbation"][0] == "CEBPE+KLF1"
    assert "CEBPE+KLF1" in capsys.readouterr().out
