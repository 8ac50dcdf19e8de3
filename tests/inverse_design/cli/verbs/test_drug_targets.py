"""What drugs act on, stated on the command line."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inverse_design.cli.app import main
from inverse_design.cli.door import DONE, REFUSED

ACTS_ON = {"D1": {"a": -1.0}, "D2": {"a": -0.5, "b": 1.0}, "D3": {"b": -1.0}, "D4": {"c": 2.0}}
NEW = {"a": -2.0, "b": 1.0}
EDGES = np.array([[0, 0.5, 0.0], [0, 0, 0.8], [0, 0, 0]])
RESPONSES = np.linalg.inv(np.eye(3) - EDGES)


def effect(*drugs: dict[str, float]) -> np.ndarray:
    return np.array([sum(drug.get(name, 0.0) for drug in drugs) for name in "abc"]) @ RESPONSES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four drugs alone and two pairs, what they act on, and a drug that was never given."""
    given = [*((each,) for each in ACTS_ON), ("D1", "D3"), ("D2", "D4")]
    noise = 0.01 * np.random.default_rng(0).normal(size=(len(given), 3))
    effects = np.array([effect(*(ACTS_ON[drug] for drug in drugs)) for drugs in given]) + noise
    table = pd.DataFrame(effects, columns=list("abc"))
    table.insert(0, "condition", ["+".join(drugs) for drugs in given])
    table.to_csv(tmp_path / "screen.csv", index=False)
    known = [
        f"{drug},{name},{weight}"
        for drug, acts in {**ACTS_ON, "NEW": NEW}.items()
        for name, weight in acts.items()
    ]
    (tmp_path / "targets.csv").write_text("\n".join(["drug,target,weight", *known]) + "\n")
    (tmp_path / "list.csv").write_text("combination\nNEW\nNEW+D1\nNEW+D4\n")
    wanted = effect(NEW, ACTS_ON["D1"])
    (tmp_path / "wanted.csv").write_text(
        "readout,value\n" + "".join(f"{n},{v}\n" for n, v in zip("abc", wanted, strict=True))
    )
    return tmp_path


def words(folder: Path, *more: str) -> list[str]:
    fixed = [
        "rank",
        folder / "screen.csv",
        "--target",
        folder / "wanted.csv",
        "--experiments",
        folder / "list.csv",
    ]
    return [*map(str, fixed), "--no-cache", *more]


def knowing(folder: Path, model: str = "causal") -> list[str]:
    return ["--model", model, "--drug-targets", str(folder / "targets.csv")]


def test_a_drug_that_was_never_given_is_ranked_by_what_it_acts_on(folder: Path) -> None:
    assert main(words(folder, *knowing(folder), "-o", str(folder / "ranked.csv"))) == DONE
    found = pd.read_csv(folder / "ranked.csv").set_index("perturbation")
    assert found["distance"].idxmin() == "D1+NEW"
    assert found["distance"]["D1+NEW"] < 0.3
    assert found["distance"]["NEW"] == pytest.approx(np.sqrt(np.mean(effect(ACTS_ON["D1"]) ** 2)), rel=0.1)


def test_without_the_table_the_drug_is_unknown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words(folder, "--model", "causal")) == REFUSED
    assert "'NEW'" in capsys.readouterr().err


def test_proposals_and_benchmarks_take_the_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(folder / "screen.csv")
    asked = ["propose", data, "--target", str(folder / "wanted.csv"), "--dry-run"]
    assert main([*asked, *knowing(folder)]) == DONE
    assert main([*asked, *knowing(folder, "additive")]) == REFUSED
    table = ["--drug-targets", str(folder / "targets.csv"), "--classes", "single-0"]
    assert main(["benchmark", "forward", data, "--models", "causal", *table]) == DONE
    assert "causal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("table", "more", "message"),
    [
        pytest.param(None, ["--model", "additive"], "no use to the model 'additive'; ask for causal", id="model"),
        pytest.param(None, ["--model", "automatic"], "is of no use to the model 'automatic'", id="automatic"),
        pytest.param(None, ["--model", "causal", "--standardise"], "leave one out", id="units"),
        pytest.param("drug,target\nD1,a\n", [], "one column called like 'weight'", id="no weights"),
        pytest.param("drug,target,weight\nD1,,\nD2,a,1\n", [], "says nothing of 2 drugs", id="drug"),
        pytest.param("drug,target,weight\nD1,a,1\nD1,,\n", [], "says of 'D1' both what it acts on", id="both"),
        pytest.param("drug,target,weight\nD1,a,0\n", [], "state a number other than zero", id="zero"),
        pytest.param("drug,target,weight\nD1,a,\n", [], "row 1 .* is incomplete", id="gap"),
        pytest.param("drug,target,weight\nD1,A9,1\n", [], "readout among the targets of .* 'A9'", id="no readout"),
        pytest.param("drug,target,weight\nD1,a,much\n", [], "has the weight 'much'", id="no number"),
        pytest.param("drug,target,weight\nX,a,1\n", [], "no drug of 'other.csv' is in the data", id="other drugs"),
    ],
)  # fmt: skip
def test_tables_that_say_too_little_are_refused(
    folder: Path, table: str | None, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folder / "targets.csv"
    if table is not None:
        path = folder / "other.csv"
        path.write_text(table)
    assert main(words(folder, "--drug-targets", str(path), *(more or ["--model", "causal"]))) == REFUSED
    said = " ".join(capsys.readouterr().err.split())
    assert re.search(message, said), said
