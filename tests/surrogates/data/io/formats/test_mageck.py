"""Summaries of genes by MAGeCK are read as effects; those of guides are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

GENES = ["KLF1", "SPI1", "GATA1", "NKX2-1"]


def summary(**more: object) -> pd.DataFrame:
    ranks = np.arange(1, 5)
    sides = {
        f"{side}|{name}": ranks * 0.1
        for side in ("neg", "pos")
        for name in ("score", "p-value", "fdr", "rank", "goodsgrna", "lfc")
    }
    same = {"neg|lfc": [-2.0, 0.5, 0.1, 0.0], "pos|lfc": [-2.0, 0.5, 0.1, 0.0]}
    return pd.DataFrame({"id": GENES, "num": 4} | sides | same | more)


def fits(**more: object) -> pd.DataFrame:
    beta = {
        "HL60|beta": [1.0, -2.0, 0.0, 0.5],
        "HL60|z": [2.0, -8.0, 0.0, 1.0],
        "HL60|p-value": 0.1,
        "HL60|fdr": 0.2,
    }
    other = {"KBM7|beta": [0.5, -1.0, 1.5, 0.1], "KBM7|z": [1.0, -2.0, 1.0, 1.0], "KBM7|wald-p-value": 0.1}
    return pd.DataFrame({"Gene": GENES, "sgRNA": 4} | beta | other | more)


def test_the_fold_change_of_a_test_is_the_only_readout(tmp_path: Path) -> None:
    summary().to_csv(tmp_path / "run.gene_summary.txt", sep="\t", index=False)
    screen = read_screen(tmp_path / "run.gene_summary.txt")
    assert screen.readouts == ("lfc",)
    assert dict(zip(screen.labels, screen.effects[:, 0].tolist(), strict=True)) == dict(
        zip(GENES, [-2.0, 0.5, 0.1, 0.0], strict=True)
    )
    assert "knockout (assumed" in screen.provenance["detected mode"]
    assert read_screen(tmp_path / "run.gene_summary.txt", mode="knockdown").provenance["detected mode"] == (
        "knockdown (as stated)"
    )


def test_fold_changes_that_differ_by_side_are_two_readouts() -> None:
    screen = read_screen(summary(**{"pos|lfc": [0.0, 0.6, 0.2, 0.1]}))
    assert screen.readouts == ("neg|lfc", "pos|lfc")


def test_each_condition_of_a_fit_is_a_readout_with_its_error() -> None:
    screen = read_screen(fits())
    assert screen.readouts == ("HL60", "KBM7")
    assert screen.labels == tuple(GENES)
    np.testing.assert_allclose(screen.effects[:, 1], [0.5, -1.0, 1.5, 0.1])
    assert screen.standard_errors is not None
    np.testing.assert_allclose(screen.standard_errors[:, 0], [0.5, 0.25, 0.5, 0.5])  # the third is unknown
    np.testing.assert_allclose(screen.standard_errors[:, 1], [0.5, 0.5, 1.5, 0.1])
    assert "the largest one in 1 place(s)" in screen.provenance["standard errors"]
    one = read_screen(fits(), readouts=["KBM7"])
    np.testing.assert_allclose(one.effects[:, 0], screen.effects[:, 1])
    with pytest.raises(DataError, match="unknown readout 'KBM8'"):
        read_screen(fits(), readouts=["KBM8"])


def test_controls_are_subtracted_and_pairs_are_read() -> None:
    table = summary(id=["KLF1", "SPI1", "KLF1_SPI1", "non-targeting"], **{"pos|lfc": [-2.0, 0.5, 0.1, 0.25]})
    table["neg|lfc"] = table["pos|lfc"]
    screen = read_screen(table)
    assert screen.labels == ("KLF1", "SPI1", "KLF1+SPI1")
    np.testing.assert_allclose(screen.effects[:, 0], [-2.25, 0.25, -0.15])


def test_genes_without_an_effect_are_left_out() -> None:
    screen = read_screen(fits(**{"KBM7|beta": [0.5, None, 1.5, 0.1]}))
    assert screen.labels == ("KLF1", "GATA1", "NKX2-1")
    assert screen.provenance["dropped genes"] == "1 without an effect"


def test_other_outputs_are_refused_with_what_to_give() -> None:
    guides = pd.DataFrame(
        {
            "sgrna": ["a", "b"],
            "Gene": ["A", "B"],
            "control_count": "1/2",
            "treatment_count": "3",
            "LFC": [0.1, 0.2],
        }
    )
    with pytest.raises(DataError, match=r"summary of guides .* give the gene_summary\.txt"):
        read_screen(guides)
    with pytest.raises(DataError, match="holds scores and ranks, but no fold changes"):
        read_screen(summary().drop(columns=["neg|lfc", "pos|lfc"]))
    with pytest.raises(DataError, match=r"has no 'HL60\|z' beside it"):
        read_screen(fits().drop(columns=["HL60|z"]))
    with pytest.raises(DataError, match="no standard error can be had"):
        read_screen(fits(**{"HL60|z": 0.0}))
    with pytest.raises(DataError, match="no column names the genes"):
        read_screen(summary().drop(columns="id"))
