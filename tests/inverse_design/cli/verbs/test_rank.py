import json
import math
from pathlib import Path

import pandas as pd
import pytest
from strategies.screens import pairs_of, planted_screen

from inverse_design.cli.app import main
from inverse_design.cli.door import DONE, NOTHING, REFUSED
from inverse_design.cli.limit_tables import read_experiments
from inverse_design.cli.outputs import sidecar_of
from surrogates.errors import DataError, UnknownNameError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A screen, a target and a list of experiments."""
    screen = planted_screen(alone=range(6), together=pairs_of(6, 6), readouts=4)
    table = pd.DataFrame(screen.effects.numpy(), columns=list(screen.readouts))
    table.insert(0, "condition", screen.labels)
    table.to_csv(tmp_path / "screen.csv", index=False)
    unmeasured = [label for label in ("G00+G01", "G02+G03", "G03+G04", "G01+G04") if label not in screen.labels]
    rows = "\n".join(f"{label},{2 + number}" for number, label in enumerate(unmeasured))
    written(tmp_path / "list.csv", f"pair,price\n{rows}\n")
    written(tmp_path / "goal.toml", 'kind = "scalar"\nreadout = "r1"\ngoal = "maximise"\n')
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    fixed = ["rank", str(folder / "screen.csv"), "--target", str(folder / "goal.toml"), "--model", "additive"]
    return [*fixed, "--experiments", str(folder / "list.csv"), *more]


def test_a_list_is_ranked_written_and_explained(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder / "ranked.csv"
    assert (
        main(words(folder, "--cost-column", "price", "--budget", "5", "--standardise", "-o", str(place))) == DONE
    )
    shown = capsys.readouterr().out
    assert "the budget buys" in shown
    assert "affordable set gains" in shown
    assert "gain_per_cost" in shown
    assert "unit: each readout in units of the root mean square of its single effects" in shown
    table = pd.read_csv(place)
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert table.loc[table["chosen"], "cost"].sum() <= 5
    facts = json.loads(sidecar_of(place).read_text(encoding="utf-8"))
    assert facts["affordable"]["cost"] == table.loc[table["chosen"], "cost"].sum()
    assert facts["incumbent"]["perturbation"] in shown


def test_refusals_have_their_exit_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder, "--cost-column", "price", "--budget", "1")) == NOTHING
    assert "--measured" not in capsys.readouterr().err  # an option of another verb
    assert main(words(folder, "--cost-column", "prize")) == REFUSED
    assert "price" in capsys.readouterr().err
    written(folder / "list.csv", "pair\nG00+G1\n")
    assert main(words(folder)) == REFUSED
    assert "did you mean" in capsys.readouterr().err


def test_the_column_of_labels_is_found_or_asked_for(tmp_path: Path) -> None:
    one = written(tmp_path / "one.csv", "anything\nA+B\n C+D \n")
    assert read_experiments(one).labels == ("A+B", "C+D")
    two = written(tmp_path / "two.csv", "left,right\nA_B,x\n")
    with pytest.raises(DataError, match="--experiment-column"):
        read_experiments(two)
    assert read_experiments(two, label_col="left", sep="_").labels == ("A+B",)
    with pytest.raises(UnknownNameError, match="left"):
        read_experiments(two, label_col="lefd")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pair,cost\nA+B,-1\n", "'-1' in row 1"),
        ("pair,cost\nA+B,1\nA+C,nan\n", "'nan' in row 2"),
        ("pair,cost\nA+B,\n", "'' in row 1"),
        ("pair,cost\n,1\n", "empty in row 1"),
        ("pair,cost\n", "no rows"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_experiments(written(tmp_path / "list.csv", text), cost_col="cost")


def test_costs_are_read(tmp_path: Path) -> None:
    found = read_experiments(written(tmp_path / "list.csv", "cost,pair\n 1.5 ,A+B\n0,C\n"), cost_col="cost")
    assert found.costs == (1.5, 0.0)
    assert not any(math.isnan(each) for each in found.costs)
