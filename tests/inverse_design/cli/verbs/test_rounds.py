import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from strategies.worlds import command

from inverse_design.cli.verbs.rounds import read_rounds


def results(count: int = 40) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    measured = generator.normal(size=count)
    return pd.DataFrame({
        "round": np.arange(count) // 10,
        "perturbation": [f"P{number}" for number in range(count)],
        "lower": -1.645,
        "upper": 1.645,
        "measured": measured,
        "chosen": ["random" if number % 5 == 0 else "designed" for number in range(count)],
        "probability": np.where(measured > 0, 0.9, 0.1),
        "hit": (measured > 0).astype(int),
    })  # fmt: skip


def save(folder: Path, table: pd.DataFrame, name: str = "results.csv") -> Path:
    path = folder / name
    table.to_csv(path, index=False, sep="\t" if name.endswith("tsv") else ",")
    return path


@pytest.mark.parametrize("name", ["results.csv", "results.tsv"])
def test_the_card_of_a_campaign(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = save(tmp_path, results(), name)
    assert command("benchmark", "rounds", path, "-o", tmp_path / "rows.json") == 0
    said = capsys.readouterr().out.splitlines()
    table = next(number for number, line in enumerate(said) if line.startswith("round "))
    assert [line.split()[0] for line in said[table + 1 : table + 6]] == ["0", "1", "2", "3", "all"]
    assert "coverage, random" in said[table]
    assert any("expected calibration error" in line for line in said)
    assert any(line.startswith("health: intervals are ") and "8 held out" in line for line in said)
    content = json.loads((tmp_path / "rows.json").read_text())
    settings = content["manifest"]["settings"]
    assert (settings["level"], settings["adaptive"], settings["health"]["random"]) == (0.9, False, 8)
    values = {(row["variant"], row["metric"]): row["value"] for row in content["rows"]}
    within = results()["measured"].abs() <= 1.645
    assert values["all rounds", "coverage"] == pytest.approx(within.mean())
    assert values["round 2", "coverage"] == pytest.approx(within[20:30].mean())


def test_needed_columns_are_enough_and_bad_rounds_are_said_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = results()[["round", "lower", "upper", "measured"]].rename(columns=str.upper)
    table.loc[:9, "MEASURED"] = 5.0
    assert command("benchmark", "rounds", save(tmp_path, table), "--level", "0.8") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("warning: round 0: bounds hold 0.00 of 10 measurements")
    assert "nominal 0.8" in said[0]
    assert said[-1] == "health: it is not known which were drawn at random (column chosen)"


def test_genes_are_read_from_the_labels(tmp_path: Path) -> None:
    labels = ["A+B@2", "B:knockdown", "C+A:knockdown", ""]
    some = results(4).assign(perturbation=labels)
    nodes = read_rounds(save(tmp_path, some)).nodes
    assert nodes is not None
    assert nodes.tolist() == [[0, 1], [1, -1], [2, 0], [-1, -1]]
    assert read_rounds(save(tmp_path, some.drop(columns="perturbation"))).nodes is None


def test_infinite_bounds_are_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("benchmark", "rounds", save(tmp_path, results().assign(lower=-np.inf))) == 0
    assert "inf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"measured": ["x"]}, "row 1 of 'results.csv' has measured 'x': that is no finite number"),
        ({"measured": [0.0, np.nan]}, "row 2 of 'results.csv' has measured ''"),
        ({"measured": [np.inf]}, "no finite number"),
        ({"lower": [np.nan]}, "row 1 of 'results.csv' has lower '': that is no number"),
        ({"lower": [0.0, 3.0]}, "row 2 of 'results.csv' has lower '3.0', upper '1.645': the lower bound is above"),
        ({"round": [0, 0, 1.5]}, "row 3 of 'results.csv' has round '1.5': a round is a whole number"),
        ({"round": [-1]}, "row 1 of 'results.csv' has round '-1'"),
        ({"round": ["first"]}, "has round 'first'"),
        ({"chosen": ["random", "greedy"]}, "row 2 of 'results.csv' has chosen 'greedy': it is one of random"),
        ({"probability": [1.2]}, "has probability '1.2': a probability is between 0 and 1"),
        ({"hit": [2]}, "has hit '2'"),
        ({"perturbation": ["A", "A"]}, "perturbation 'A' twice in round 0 (rows 1 and 2)"),
    ],
)
def test_bad_tables(
    tmp_path: Path, change: dict[str, list[object]], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    table = results().astype(object)
    for column, values in change.items():
        for row, value in enumerate(values):
            table.loc[row, column] = value
    assert command("benchmark", "rounds", save(tmp_path, table)) == 3
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err


@pytest.mark.parametrize("column", ["round", "lower", "upper", "measured"])
def test_missing_columns(tmp_path: Path, column: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("benchmark", "rounds", save(tmp_path, results().drop(columns=column))) == 3
    assert f"has no column '{column}'" in capsys.readouterr().err


def test_other_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = {
        "empty.csv": "",
        "header.csv": "round,lower,upper,measured\n",
        "half.csv": "round,lower,upper,measured,hit\n1,0,1,0.5,1\n",
        "twice.csv": "round,Round,lower,upper,measured\n1,1,0,1,0.5\n",
        "binary.csv": "\x00\x01",
    }
    messages = ("cannot be read", "has no rows", "give both or none", "2 columns 'round'", "results")
    for (name, content), message in zip(cases.items(), messages, strict=True):
        (tmp_path / name).write_text(content)
        assert command("benchmark", "rounds", tmp_path / name) == 3
        said = capsys.readouterr().err
        assert message in said or name == "binary.csv"
    for absent in (tmp_path / "none.csv", tmp_path):
        assert command("benchmark", "rounds", absent) == 3
    capsys.readouterr()
    assert command("benchmark", "rounds", save(tmp_path, results()), "--level", "1") == 2
    assert command("benchmark", "rounds", save(tmp_path, results()), "-o", tmp_path / "x.txt") == 3
