"""Tables that stand the wrong way round are refused with the remedy, and read if it is stated that they do not."""

import numpy as np
import pandas as pd
import pytest

from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

GENES = ("KLF1", "CEBPE", "SPI1", "GATA1")


def matrix(rows: list[str], columns: list[str], name: str | None = "gene") -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(len(rows), len(columns)))
    return pd.DataFrame(values, index=pd.Index(rows, name=name), columns=columns)


def mirrored() -> pd.DataFrame:
    table = matrix([*GENES], [*GENES], "name")
    return (table + table.to_numpy().T).reset_index()


LONG = [*GENES, *(f"R{number}" for number in range(20))]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (matrix([f"ACH-00000{n}" for n in range(5)], [f"{gene} (10{n})" for n, gene in enumerate(GENES)], "line"),
         r"rows are cell lines \(such as 'ACH-000000'\) and the columns genes.*set_index\('line'\)"),
        (matrix(LONG, [f"{gene}_rep{n}" for gene in GENES for n in (1, 2)]), "columns are samples"),
        (matrix(LONG, [f"{gene}_log2FC" for gene in GENES]), "genes that have rows, .*--target-col 'gene'"),
        (matrix(LONG, [*GENES]), "genes that have rows"),
        (matrix(LONG, [f"{gene}_KO" for gene in GENES]), "genes that have rows"),
        (matrix(LONG, [f"sg{gene}_vs_NT" for gene in GENES]), "genes that have rows"),
        (matrix(LONG, [f"log2FC_{gene}" for gene in GENES]), "genes that have rows"),
        (matrix([*"ABCDEFGH"], [f"{n:02}" for n in range(1, 13)], "row"),
         "rows A-H and columns 01-12 .* of a plate"),
    ],
)  # fmt: skip
def test_columns_of_perturbations_are_refused_unless_it_is_stated(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_screen(table.reset_index())
    assert set(read_screen(table.reset_index(), target_col=str(table.index.name)).labels) == set(table.index)


def test_squares_of_pairs_are_refused() -> None:
    with pytest.raises(DataError, match="each value belongs to a pair; give each pair a row"):
        read_screen(mirrored())
    assert read_screen(matrix([*GENES], [*GENES], "name").reset_index()).labels == GENES


def test_doses_of_two_drugs_against_each_other_are_refused() -> None:
    table = matrix(["0", "0.1", "1"], ["0", "0.5", "5"], "DrugA").reset_index()
    with pytest.raises(DataError, match="numbers from 0, as doses of two drugs"):
        read_screen(table)
    assert len(read_screen(matrix([*GENES], ["0", "1", "2"], "name").reset_index())) == len(GENES)


def test_numbers_of_genes_and_blocks_are_no_readouts() -> None:
    table = matrix([*GENES], ["lfc", "entrez_id", "block_id"]).round(0).reset_index()
    assert read_screen(table).readouts == ("lfc",)


def test_few_own_readouts_beside_others_are_no_conditions() -> None:
    assert len(read_screen(matrix(LONG, [*GENES, "A", "B"]).reset_index())) == len(LONG)


def test_metadata_of_images_are_no_readouts() -> None:
    table = pd.DataFrame(
        {
            "Metadata_Well": [f"A{n}" for n in range(1, 9)],
            "Metadata_pert_iname": ["DMSO", "DMSO", "x", "x", "y", "y", "z", "z"],
            "Metadata_mmoles_per_liter": [0, 0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0],
            "Cells_Area": np.arange(8.0),
        }
    )
    screen = read_screen(table)
    assert screen.readouts == ("Cells_Area",)
    assert set(screen.labels) == {"x", "x@2", "y", "y@2", "z", "z@2"}
    with pytest.raises(DataError, match="several values of 'Metadata_hours'"):
        read_screen(table.rename(columns={"Metadata_mmoles_per_liter": "Metadata_hours"}))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"A_uM": [0, 0.1, 1.0], "B_uM": [1.0, 0, 0.1]}, "'A_uM', 'B_uM' look like doses"),
        ({"A": [0, 1, 1], "B": [1, 0, 1]}, "'A', 'B' look like marks of what was done, 0 or 1"),
    ],
)
def test_a_design_in_columns_is_refused(columns: dict[str, list[float]], message: str) -> None:
    table = pd.DataFrame({"sample": ["s1", "s2", "s3"], **columns, "growth": [0.1, -0.2, 0.3]})
    with pytest.raises(DataError, match=message):
        read_screen(table)
    assert read_screen(table, readouts=["growth"]).readouts == ("growth",)


def test_readouts_may_have_units() -> None:
    table = matrix([*GENES], ["glucose_mM", "lactate_mM"], "perturbation").reset_index()
    assert read_screen(table).readouts == ("glucose_mM", "lactate_mM")


def test_replicates_in_labels_are_refused() -> None:
    labels = [f"{gene}_rep{number}" for gene in (*GENES, "NT") for number in (1, 2)]
    with pytest.raises(DataError, match=r"'sample' says which replicate a row is .* into another column"):
        read_screen(matrix(labels, ["R1", "R2"], "sample").reset_index())
    assert read_screen(matrix(list(GENES), ["R1", "R2"], "sample").reset_index()).labels == GENES
