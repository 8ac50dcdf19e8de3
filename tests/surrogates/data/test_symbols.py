from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from surrogates.data.descriptors import read_symbols
from surrogates.data.symbols import APPROVED, Symbols, gene_key, matched
from surrogates.errors import DataError

TABLE = pd.DataFrame(
    {
        "symbol": ["A", "B", "C", "D"],
        "previous_symbols": ["OLD", "A, SHARED", "SHARED", None],
        "alias_symbols": ["NICK", "OLD", "NICK,  ", "LONE"],
    }
)


def test_approved_then_previous_then_alias() -> None:
    symbols = Symbols.from_table(TABLE)
    assert symbols.candidates("A") == ("A",)  # also a previous symbol of B
    assert symbols.candidates("OLD") == ("A",)  # also an alias of B
    assert symbols.candidates("LONE") == ("D",)
    assert symbols.candidates("") == ()


def test_ambiguous_names_are_listed_and_not_guessed() -> None:
    symbols = Symbols.from_table(TABLE)
    assert symbols.resolve(["OLD", "SHARED", "NICK", "LONE", "lone"]) == {"OLD": "A", "LONE": "D"}
    found = {name: symbols.candidates(name) for name in ("SHARED", "NICK", "lone")}
    assert found == {"SHARED": ("B", "C"), "NICK": ("A", "C"), "lone": ()}


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="no column 'alias_symbols'"):
        Symbols.from_table(TABLE.drop(columns="alias_symbols"))


@pytest.mark.real_data
def test_old_symbols_of_norman2019(real_data: Callable[[str], Path]) -> None:
    symbols = read_symbols(real_data("gene_features"))
    old = {"C19orf26": "CBARP", "C3orf72": "FOXL2NB", "KIAA1804": "MAP3K21", "ELMSAN1": "MIDEAS"}
    assert symbols.resolve(old) == old


def test_names_of_one_gene_are_matched_where_no_other_is_meant() -> None:
    known = {"ENSG00000012345.2": 0, "MYC": 1, "SEPTIN2": 2, "POU5F1": 3, "KLF1": 4}
    found = matched(["ENSG00000012345", "C-MYC", "SEPT2", "OCT4", "KLF1", "klf1", "X"], known)
    assert found == {"ENSG00000012345": 0, "C-MYC": 1, "SEPT2": 2, "OCT4": 3, "KLF1": 4}
    assert matched(["OCT4", "POU5F1"], known) == {"POU5F1": 3}  # asked for twice
    assert matched(["POU5F1"], {"OCT4": 0, "POU5F1": 1}) == {"POU5F1": 1}
    assert matched(["ENSG00000012345.1"], {"ENSG00000012345.2": 0, "ENSG00000012345.3": 1}) == {}


@pytest.mark.real_data
def test_the_shipped_symbols_are_those_of_the_table(real_data: Callable[[str], Path]) -> None:
    symbols = read_symbols(real_data("gene_features"))
    folded: dict[str, set[str]] = {}
    for table in (symbols.previous, symbols.alias):
        for name, genes in table.items():
            folded.setdefault(name.upper(), set()).update(genes)
    assert {name: folded[name.upper()] for name in APPROVED} == {name: {gene} for name, gene in APPROVED.items()}
    for name in ("SEPT2", "SEPT14", "MARCH1", "MARCH11"):
        assert symbols.candidates(name) == (gene_key(name),)
