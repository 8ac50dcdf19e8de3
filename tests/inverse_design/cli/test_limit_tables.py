from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from strategies.worlds import command, save_table

from inverse_design.cli.limit_tables import read_costs, read_doses, read_groups, read_pairs
from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Group
from surrogates.errors import DataError


def saved(folder: Path, text: str, name: str = "table.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_groups_have_one_row_per_member(tmp_path: Path) -> None:
    path = saved(tmp_path, "gene,group,at_most\nA,one,\nB,one, \nB,two,2\nC,two,\nA,two,2\n")
    assert read_groups(path) == (Group("one", ("A", "B")), Group("two", ("B", "C", "A"), 2))
    assert read_groups(saved(tmp_path, "Symbol,Pathway\nA,one\n")) == (Group("one", ("A",)),)


def test_pairs_have_two_columns_and_costs_a_number(tmp_path: Path) -> None:
    assert read_pairs(saved(tmp_path, "a,b\nA, B\nC,D@2\n")) == (("A", "B"), ("C", "D@2"))
    assert read_costs(saved(tmp_path, "gene,price\nA,1.5\nB,2\n")) == (("A", 1.5), ("B", 2.0))


def test_doses_have_one_row_each(tmp_path: Path) -> None:
    path = saved(tmp_path, "gene,dose\nA,2\nB,0.5\nA, 1\nA,2.0\n")
    assert read_doses(path) == (("A", (1.0, 2.0)), ("B", (0.5,)))


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (read_groups, "gene,group\n", "has no rows"),
        (read_groups, "gene,group\nA,\n", "column 'group' of 'table.csv' is empty in row 1"),
        (read_groups, "gene,what\nA,one\n", "needs one column called like 'group', and has 'gene', 'what'"),
        (read_groups, "gene,group,at_most\nA,one,1\nB,one,2\n", "allows 1 and 2 of group 'one'"),
        (read_groups, "gene,group,at_most\nA,one,two\n", "is 'two', not a whole number"),
        (read_groups, "gene,group,at_most\nA,one,0\n", "exclude its members instead"),
        (read_pairs, "a,b,c\nA,B,C\n", "has 3 columns; give two"),
        (read_pairs, "a,b\nA,\n", "empty in row 1"),
        (read_doses, "gene,dose\nA,high\n", "dose 'high' in row 1 of 'table.csv' is no positive number"),
        (read_doses, "gene,dose\nA,1\nA,-1\n", "'-1' in row 2"),
        (read_doses, "gene,dose\nA,inf\n", "'inf' in row 1"),
        (read_doses, "gene,dose\nA,\n", "column 'dose' of 'table.csv' is empty in row 1"),
        (read_costs, "gene,cost\nA,much\n", "'much' in row 1"),
        (read_costs, "gene,cost\nA,1\nA,2\n", "more than once"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path: Path, read: object, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(saved(tmp_path, text))  # type: ignore[operator]


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no file"):
        read_groups(tmp_path / "absent.csv")
    with pytest.raises(SpaceError, match="needs one column"):
        read_groups(saved(tmp_path, "a\n1\n"))


def test_proposals_keep_the_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = save_table(tmp_path), tmp_path / "candidates.csv"
    labels = pd.read_csv(table)["condition"]
    genes = [label for label in labels if "+" not in label]
    words = ("propose", table, "--target", labels.iloc[-1], "--model", "scaled_additive", "--measured", "keep")
    rows = "".join(f"{gene},family\n" for gene in genes[:4])
    groups = saved(tmp_path, f"gene,group\n{rows}", "groups.csv")
    pairs = saved(tmp_path, f"one,other\n{genes[4]},{genes[5]}\n", "pairs.csv")
    prices = {gene: 10.0 + number for number, gene in enumerate(genes)}
    costs = saved(tmp_path, "gene,cost\n" + "".join(f"{g},{c}\n" for g, c in prices.items()), "costs.csv")
    limits = ("--groups", groups, "--incompatible", pairs, "--costs", costs)
    assert command(*words, *limits, "--budget", 32, "--top", 100, "-o", out) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "6 too many of a group, 1 incompatible" in said
    for label in pd.read_csv(out)["perturbation"]:
        one, other = label.split("+")
        assert not {one, other} <= set(genes[:4])
        assert {one, other} != set(genes[4:6])
        assert prices[one] + prices[other] <= 32
    assert command(*words, *limits, "--budget", 15) == 4
    assert f"below the cheapest candidate, {genes[0]}+{genes[1]} for 21" in " ".join(
        capsys.readouterr().err.split()
    )
    wrong = saved(tmp_path, f"gene,cost\n{genes[0]}x,1\n", "wrong.csv")
    assert command(*words, "--costs", wrong, "--budget", 15) == 3
    assert f"did you mean '{genes[0]}'" in " ".join(capsys.readouterr().err.split())


@pytest.mark.real_data
def test_proposals_keep_to_the_grid_of_doses(
    tmp_path: Path, real_data: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    real_data("cellbox_skmel133")
    out = tmp_path / "candidates.csv"
    words = (
        "propose",
        "cellbox_skmel133",
        "--target",
        "901@1.5+HN@6",
        "--model",
        "scaled_additive",
        "--measured",
        "keep",
    )
    doses = saved(tmp_path, "name,dose\n901,3\nHN,6\nHN,12\nPLX,60\n", "doses.csv")
    assert command(*words, "--doses", doses, "--top", 400, "-o", out) == 0
    parts = {part for label in pd.read_csv(out)["perturbation"] for part in label.split("+")}
    assert {"901@3", "HN@6", "HN@12", "PLX@60", "AK@5", "AK@10"} <= parts
    assert not {"901@1.5", "PLX@120"} & parts
    capsys.readouterr()
    wrong = saved(tmp_path, "name,dose\n901,7\n", "wrong.csv")
    assert command(*words, "--doses", wrong) != 0
    assert "dose 7 of '901' is not known; known are 1.5, 3" in " ".join(capsys.readouterr().err.split())
