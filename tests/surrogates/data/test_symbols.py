from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from surrogates.data.descriptors import read_symbols
from surrogates.data.symbols import Symbols
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
    found = Symbols.from_table(TABLE).resolve(["OLD", "SHARED", "NICK", "LONE", "lone"])
    assert found.approved == {"OLD": "A", "LONE": "D"}
    assert found.ambiguous == {"SHARED": ("B", "C"), "NICK": ("A", "C")}
    assert found.unknown == ("lone",)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="no column 'alias_symbols'"):
        Symbols.from_table(TABLE.drop(columns="alias_symbols"))


@pytest.mark.real_data
def test_old_symbols_of_norman2019(real_data: Callable[[str], Path]) -> None:
    symbols = read_symbols(real_data("gene_features"))
    old = {"C19orf26": "CBARP", "C3orf72": "FOXL2NB", "KIAA1804": "MAP3K21", "ELMSAN1": "MIDEAS"}
    assert symbols.resolve(old).approved == old
