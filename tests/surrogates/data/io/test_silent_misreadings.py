"""What was once read as something else without a word: it is read right, said, or refused with what mends it."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates.data.io.notes import genes_of_guides
from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

GENES = ("KLF1", "CEBPE", "SPI1", "GATA1", "MYC", "TP53")


def table(labels: list[str], columns: tuple[str, ...] = ("p0", "p1", "p2")) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=(len(labels), len(columns)))
    return pd.DataFrame(values, columns=list(columns)).assign(perturbation=labels)


@pytest.mark.parametrize("sep", ["-", "."])
def test_numbered_names_are_guides_where_most_are(sep: str) -> None:
    guides = [f"{gene}{sep}{number}" for gene in GENES for number in (1, 2)]
    assert any("look like guides of one gene" in note for note in read_screen(table(guides)).notes)
    assert set(read_screen(table(guides), collapse_guides=True).labels) == set(GENES)


def test_genes_with_a_hyphen_stay_genes() -> None:
    names = ["NKX2-1", "NKX2-5", "HLA-A", *GENES]
    assert genes_of_guides(names) == {}
    assert set(read_screen(table(names), collapse_guides=True).labels) == set(names)


def test_labels_of_known_screens_are_read_as_they_were_written() -> None:
    norman = [f"{gene}_NegCtrl0__{gene}_NegCtrl0" for gene in GENES] + ["KLF1_CEBPE__KLF1_CEBPE"]
    screen = read_screen(table([*norman, "NegCtrl10_NegCtrl0__NegCtrl10_NegCtrl0"]))
    assert screen.labels == (*GENES, "CEBPE+KLF1")
    replogle = [f"{number}_{gene}_P1P2_ENSG0000010{number}" for number, gene in enumerate(GENES)]
    assert read_screen(table([*replogle, "7_non-targeting_non-targeting_non-targeting"])).labels == GENES


@pytest.mark.parametrize("sep", ["_", " and "])
def test_combinations_of_names_that_stand_nowhere_alone_are_pointed_out(sep: str) -> None:
    labels = [f"KLF1{sep}CEBPE", f"SPI1{sep}GATA1", f"KLF1{sep}SPI1"]
    said = read_screen(table(labels)).provenance["detected separator"]
    assert f"would be two names, divided with --sep {sep!r}" in said
    assert read_screen(table(labels), sep=sep).batch.order.tolist() == [2, 2, 2]
    for others in (["HLA-A", "HLA-B", "NKX2-1"], ["Vitamin C", "Vitamin E", "Aspirin"], ["A_B", "C_D", "E_F"]):
        assert read_screen(table(others)).provenance["detected separator"] == "none: no label is a combination"


@given(st.sets(st.sampled_from(GENES), min_size=1), st.integers(2, 4))
def test_all_guides_of_a_gene_have_that_gene(genes: set[str], count: int) -> None:
    names = {f"{gene}-{number}": gene for gene in genes for number in range(1, count + 1)}
    assert genes_of_guides([*names]) == names


def test_combinations_with_a_word_between_them_in_the_header_are_transposed() -> None:
    pairs = [f"{one} and {other}" for one, other in pairwise(GENES)]
    transposed = table([f"r{number}" for number in range(5)], (*GENES, *pairs))
    with pytest.raises(DataError, match=r"look like conditions .* transpose the table"):
        read_screen(transposed)


def test_a_control_in_the_header_is_transposed_but_the_gene_ctrl_is_a_readout() -> None:
    with pytest.raises(DataError, match=r"'CTRL'\) and the rows like readouts"):
        read_screen(table(GENES, ("CTRL", "A", "B")))
    assert read_screen(table(GENES, ("CTRL", "CTRC", "B"))).readouts == ("CTRL", "CTRC", "B")


@pytest.mark.parametrize(
    "junk", ["singlet?", "Singlet", ">1", ">= 2 guides", "≥2", "?", "doublet?", "Mean", "SD", "Grand Total"]
)
def test_labels_that_say_nothing_of_what_was_done_are_left_out(junk: str) -> None:
    screen = read_screen(table([*GENES, junk]))
    assert screen.labels == GENES
    assert repr(junk) in screen.provenance["dropped rows"]


@pytest.mark.parametrize("word", ["Control siRNA", "scrambled shRNA", "siRNA control", "non-targeting sgRNA"])
def test_controls_of_rna_are_controls(word: str) -> None:
    assert read_screen(table([*GENES, word])).labels == GENES


@pytest.mark.parametrize("name", ["fold_change", "FC", "drug/DMSO ratio", "mean intensity"])
def test_ratios_are_named_and_their_logarithms_are_not(name: str) -> None:
    ratios = pd.DataFrame({"gene": GENES, name: [0.5, 2.0, 1.0, 3.0, 0.1, 1.5]})
    assert len(read_screen(ratios).notes) == 1
    assert not read_screen(ratios.rename(columns={name: f"log2 {name}"})).notes


@pytest.mark.parametrize("long", [False, True])
def test_levels_are_named(long: bool) -> None:  # noqa: FBT001
    values = np.random.default_rng(0).uniform(0.1, 2.0, size=18)
    wide = pd.DataFrame({"gene": GENES, "value": values[:6]})
    of_proteins = pd.DataFrame({"gene": np.repeat(GENES, 3), "protein": ["a", "b", "c"] * 6, "value": values})
    given_table = of_proteins if long else wide
    (note,) = read_screen(given_table).notes
    assert "is below zero, and no row is a control" in note
    assert not read_screen(given_table.assign(value=given_table["value"] - 1)).notes
    control = pd.concat([wide, pd.DataFrame({"gene": ["NTC"], "value": [1.0]})])
    assert not read_screen(control).notes


def test_a_unit_that_is_no_concentration_is_refused_or_taken_as_it_is() -> None:
    doses = table([*GENES], ("viability",)).rename(columns={"perturbation": "drug"})
    doses = doses.assign(dose=[1.0, 2, 3, 4, 5, 6], dose_unit="mg/mL")
    with pytest.raises(DataError, match=r"'dose_unit' holds 'mg/mL'.* write doses in uM, or all in one unit"):
        read_screen(doses)
    taken = read_screen(doses, dose_col="dose")
    assert sorted(entry.dose for entry in taken.vocabulary.entries) == [1, 2, 3, 4, 5, 6]
    doses.loc[0, "dose_unit"] = "uM"
    with pytest.raises(DataError, match="all in one unit"):
        read_screen(doses, dose_col="dose")


@pytest.mark.parametrize(
    ("written", "mode"),
    [
        ("{} KO", "knockout"), ("{}-KO", "knockout"), ("{}_kd", "knockdown"), ("{} OE", "activation"),
        ("{}_CRISPRi", "knockdown"), ("si{}", "knockdown"), ("sh-{}", "knockdown"), ("sg{}", None),
    ],
)  # fmt: skip
def test_what_was_done_to_a_gene_is_no_part_of_its_name(written: str, mode: str | None) -> None:
    names = [written.format(gene) for gene in GENES]
    labels = [*names, "+".join(names[:2]), "Ctrl."]
    (said,) = [note for note in read_screen(table(labels)).notes if "how a gene was acted upon" in note]
    assert "--collapse-guides (collapse_guides=True) reads them as CEBPE, GATA1, KLF1" in said
    assert (f"--mode {mode} (mode=) says how" in said) == (mode is not None)
    assert set(read_screen(table(labels), collapse_guides=True).labels) == {*GENES, "CEBPE+KLF1"}


def test_guides_of_a_gene_are_said_to_be_read_as_it() -> None:
    labels = ["sgTP53-1", "sgTP53-2", "sgMYC-1"]
    notes = read_screen(table(labels)).notes
    assert any("sgTP53-1, sgTP53-2 look like guides of one gene" in note for note in notes)
    assert not any("how a gene was acted upon" in note for note in notes)  # they are not read as TP53-1
    assert set(read_screen(table([*labels, "sgKLF1-1"]), collapse_guides=True).labels) == {"TP53", "MYC", "KLF1"}


@pytest.mark.parametrize("lacking", ["NaN", "", "NA"])
def test_a_header_behind_a_number_sign_is_one_above_a_row_without_numbers_too(
    lacking: str, tmp_path: Path
) -> None:
    rows = "".join(f"{gene},K562,{number}.5\n" for number, gene in enumerate(GENES))
    place = tmp_path / "screen.csv"
    place.write_text(f"# made by X\n#perturbation,context,ETS2\nMYC,K562,{lacking}\n{rows}")
    with pytest.raises(DataError, match="nan for condition 'MYC', readout 'ETS2'"):  # the row was lost once
        read_screen(place)


def test_several_ways_to_act_upon_a_gene_are_not_pooled() -> None:
    labels = ["KLF1 KO", "KLF1 KD", "MYC KO"]
    assert any("acted upon in several ways" in note for note in read_screen(table(labels)).notes)
    assert set(read_screen(table(labels), collapse_guides=True).labels) == set(labels)
    for genes in (["SIRT1", "SIGLEC1", "SHH", "SGK1", *GENES], ["Shh", "Sirt1", "Six1", "sigma"]):
        assert not read_screen(table(genes)).notes


@pytest.mark.parametrize("word", ["Ctrl.", "ctl.", "NTC.", "Ctrl"])
def test_a_control_may_be_abbreviated(word: str) -> None:
    assert read_screen(table([*GENES, f"KLF1+{word}", word][1:])).labels == (*GENES[1:], "KLF1")


def test_a_row_that_is_commented_out_is_pointed_out() -> None:
    assert any("begin with #" in note for note in read_screen(table([*GENES, "# ETS2"])).notes)
