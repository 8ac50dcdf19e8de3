"""The user's library: columns in any spelling, several reagents for a gene, missing genes with the nearest."""

import pandas as pd
import pytest

from inverse_design.campaign.library import REAGENT_COLUMNS, Reagent, ReagentLibrary
from inverse_design.errors import LibraryError
from surrogates.data.perturbation import Perturbation

TABLE = pd.DataFrame({
    "Gene Symbol": ["KLF1", "KLF1", "CEBPE", "901"],
    "sgRNA_ID": ["KLF1_1", "KLF1_2", "CEBPE_1", "vial 7"],
    "Protospacer": ["ACGT", "TTGA", "GGCC", ""],
    "Cat. No": ["A-1", "A-2", "", "C-9"],
    "comment": ["", "weak", "", ""],
})  # fmt: skip


def batch(*labels: str) -> list[Perturbation]:
    return [Perturbation.parse(label) for label in labels]


def test_columns_are_found_in_any_spelling() -> None:
    library = ReagentLibrary.of_table(TABLE)
    assert library.by_gene["KLF1"] == (
        Reagent("KLF1", "KLF1_1", "ACGT", "A-1"),
        Reagent("KLF1", "KLF1_2", "TTGA", "A-2"),
    )


def test_sequences_name_reagents_that_have_no_other_name() -> None:
    library = ReagentLibrary.of_table(TABLE.drop(columns="sgRNA_ID").iloc[:3])
    assert [each.reagent for each in library.reagents] == ["ACGT", "TTGA", "GGCC"]


def test_a_list_has_all_reagents_of_the_batch_and_how_often_each_is_used() -> None:
    library = ReagentLibrary.of_table(TABLE)
    listed = library.list_for(batch("CEBPE+KLF1", "KLF1", "901@1.5"), replicates=3)
    assert tuple(listed) == REAGENT_COLUMNS
    assert listed["gene"].tolist() == ["901", "CEBPE", "KLF1", "KLF1"]
    assert listed["experiments"].tolist() == [1, 1, 2, 2]
    assert listed["wells"].tolist() == [3, 3, 6, 6]


def test_what_is_missing_is_named_with_the_nearest() -> None:
    library = ReagentLibrary.of_table(TABLE)
    assert library.missing(["KLF1", "CEBPA", "klf1", "CEBPA"]) == ("CEBPA", "klf1")
    with pytest.raises(LibraryError, match=r"2 of the genes .*'CEBPA' \(did you mean 'CEBPE'\?\).*'klf1'.*'KLF1'"):
        library.list_for(batch("CEBPA+KLF1", "klf1"))


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.iloc[:0], "has no reagents"),
        (TABLE[["sgRNA_ID"]], "no column of genes among 'sgRNA_ID'; call it 'gene'"),
        (TABLE[["Gene Symbol"]], "no column of reagents"),
        (TABLE.assign(target="KLF1"), "'Gene Symbol', 'target' of the library both qualify as gene"),
        (TABLE.assign(**{"Gene Symbol": ["KLF1", None, "CEBPE", "901"]}), "row 2 of the library names no gene"),
        (TABLE.assign(sgRNA_ID=["a", "b", " ", "d"]), "row 3 of the library names no reagent"),
        (TABLE.assign(sgRNA_ID="a"), "lists 'a' of 'KLF1' 2 times"),
    ],
)
def test_unusable_libraries_are_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(LibraryError, match=message):
        ReagentLibrary.of_table(table)
