"""From a real screen to ranked pairs, as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from strategies.worlds import command

from surrogates.data.catalogue import open_dataset

pytestmark = pytest.mark.real_data
WORDS = ("propose", "norman2019_expr", "--target", "KLF1+CEBPE", "--model", "scaled_additive")


@pytest.mark.slow
def test_the_held_out_double_is_found(
    real_data: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real_data("norman2019_expr")
    place, page = tmp_path / "candidates.csv", tmp_path / "candidates.html"
    assert command(*WORDS, "--top", 10, "-o", place, "--report", page) == 0
    assert page.stat().st_size <= 3_000_000
    assert 'id="plotly"' in page.read_text()
    said = capsys.readouterr().out
    table = pd.read_csv(place)
    assert table["perturbation"][0] == "CEBPE+KLF1"
    assert list(table["rank"]) == list(range(1, 11))
    assert "truth: CEBPE+KLF1, measured but held out of the training data, is number 1 of 5,231" in said
    facts = json.loads(place.with_name("candidates.csv.json").read_text())
    assert facts["certificate"]["exact"] is True
    assert table["lower"][0] == 0.0  # where the measurement is that made the target
    assert (table["lower"][1:] > 0).all()
    assert table["distance"][0] < table["distance"][1:].min()
    assert facts["baselines"]["nothing"] > facts["baselines"]["best"] > 0
    assert f"doing nothing {facts['baselines']['nothing']:.3g}" in said
    assert "root mean square over 2,000 readouts" in facts["columns"]["distance"]
    assert facts["manifest"]["data"]["dataset"] == "norman2019_expr"
    assert [each["perturbation"] for each in facts["explanations"]] == list(table["perturbation"])


@pytest.mark.slow
def test_a_signature_over_singles_and_pairs(
    real_data: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = real_data("norman2019_expr") / "effects.h5ad"
    goal = tmp_path / "goal.toml"
    goal.write_text('kind = "signature"\nname = "fetal globin"\nup = ["HBG1", "HBG2", "HBZ"]\n')
    readouts = tmp_path / "readouts.txt"
    every_fourth = open_dataset("norman2019_expr").readouts[::4]
    readouts.write_text("\n".join(dict.fromkeys(["HBG1", "HBG2", "HBZ", *every_fourth])))
    words = ("--order", "both", "--measured", "keep", "--top", "5", "--exclude", "IKZF3", "--readouts", readouts)
    assert command("propose", data, "--target", goal, "--model", "scaled_additive", *words) == 0
    said = capsys.readouterr().out
    assert "fetal globin" in said
    assert "IKZF3 " not in said.split("exact:")[0].replace("IKZF3+", "IKZF3 ").split("reason")[1].split("\n\n")[0]
    assert "fixes HB" in said
