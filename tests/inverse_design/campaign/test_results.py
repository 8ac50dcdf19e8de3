"""Told tables, checked cell by cell."""

import numpy as np
import pandas as pd
import pytest
from strategies.campaigns import measured, starting_screen

from inverse_design.campaign.results import Results, results_of
from inverse_design.errors import ResultsError
from surrogates.errors import DataError, UnknownNameError

_SCREEN = starting_screen()


def _results(table: pd.DataFrame) -> Results:
    return results_of(table, vocabulary=_SCREEN.vocabulary, readouts=_SCREEN.readouts, key="mine-1")


def _table() -> pd.DataFrame:
    return measured(["G00+G01", "G05", "G03+G02"], _SCREEN.readouts)


def test_a_table_becomes_arrays() -> None:
    table = _table().assign(
        status=["ok", "FAILED", "Measured"], campaign="mine-1", round=[1.0, np.nan, 2.0], note="x"
    )
    table["r0"] = table["r0"].astype(object)
    table.loc[1, "r0"] = "lost"  # of a failed well, so that it does not matter
    found = _results(table)
    assert found.labels == ("G00+G01", "G05", "G02+G03")
    assert found.genes.tolist() == [[0, 1], [5, -1], [2, 3]]
    assert (found.lines, found.replicates, found.rounds) == ((2, 3, 4), ("1", "1", "1"), (1, None, 2))
    assert found.failed.tolist() == [False, True, False]
    np.testing.assert_array_equal(found.values[0], _table().loc[0, list(_SCREEN.readouts)].to_numpy(dtype=float))
    assert np.isnan(found.values[1]).all()


def test_the_digest_is_that_of_the_content() -> None:
    table = _table()
    digest = _results(table).digest
    assert _results(table[::-1]).digest == digest
    assert _results(table[table.columns[::-1]].assign(note="y")).digest == digest
    assert _results(table.replace("G00+G01", " G01 + G00 ")).digest == digest
    for other in (table.assign(replicate="2"), table.assign(round=1), table.assign(r0=0.0), table[:2]):
        assert _results(other).digest != digest


def test_pending_wells_are_left_out_and_counted() -> None:
    table = _table().assign(status=["pending", "ok", "pending"], r1=[np.nan, 1.0, np.nan])
    assert (len(_results(table)), _results(table).pending, _results(table).lines) == (1, 2, (3,))
    nothing = _results(table.assign(status="pending"))
    assert (len(nothing), nothing.pending) == (0, 3)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {name: [0.0, np.nan, 0.0] for name in ("r0", "r1", "r2")},
            r"line 3 \('G05'\), column 'r0': 'nan' is not a finite number.*'pending'",
        ),
        ({"r1": [True, False, True]}, "column 'r1' holds bool"),
        ({"r1": pd.to_datetime(["2020-01-01"] * 3)}, "column 'r1' holds datetime"),
        ({"replicate": ["a\nb", "c", "d"]}, r"line 2, column 'replicate': .*U\+000A"),
        ({"plate": ["a", "b", "c\u202e"]}, r"line 4, column 'plate': .*RIGHT-TO-LEFT OVERRIDE"),
        ({"r1": [0.0, 1.0, np.inf]}, r"line 4 \('G02\+G03'\), column 'r1': 'inf'"),
        ({"r2": ["0.1", "0.2", "high"]}, r"line 4 .*, column 'r2': 'high'"),
        ({"r2": ["0.1", "12%", "0.2"]}, r"'12%' is not a finite number; write it without the percent sign"),
        ({"r2": ["0.1", "1,234,567", "0.2"]}, "'1,234,567' .*; write it without marks between thousands"),
        (
            {"perturbation": ["G00+G01", "G1", "G05"]},
            r"line 3 \('G1'\): unknown gene or compound 'G1': did you mean",
        ),
        ({"perturbation": ["G00+G01", "G05", ""]}, r"line 4 \(''\): the perturbation is empty"),
        ({"perturbation": ["G00+G00", "G05", "G04"]}, r"line 2 .*more than once"),
        ({"perturbation": ["G00+G01", "G05", "G01+G00"]}, r"lines 2 and 4 are the same well: 'G00\+G01'"),
        (
            {"perturbation": ["G05", "G00+G01", "G05"], "round": ["1", "", ""]},
            r"lines 2 and 4 are the same well: 'G05', .*state both rounds",
        ),
        ({"status": ["ok", "faild", "ok"]}, r"line 3: unknown status 'faild': did you mean 'failed'"),
        ({"round": ["1", "one", "1"]}, r"line 3, column 'round': 'one'"),
        ({"campaign": "other-2"}, r"campaign 'other-2', and this is 'mine-1'"),
    ],
)
def test_bad_cells_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        _results(_table().assign(**change))


@pytest.mark.parametrize("empty", ["", "NA", " nan ", None, np.nan])
def test_a_readout_that_was_not_measured_stays_empty(empty: object) -> None:
    found = _results(_table().assign(r1=pd.Series([1.0, empty, 2.0], dtype=object)))
    assert np.isnan(found.values).tolist() == [[False] * 3, [False, True, False], [False] * 3]
    assert not found.failed.any()


def test_bad_columns_are_named() -> None:
    with pytest.raises(ResultsError, match=r"need 1 more column\(s\), such as 'r2' \(did you mean 'R2'"):
        _results(_table().rename(columns={"r2": "R2"}))
    with pytest.raises(ResultsError, match="such as 'perturbation'"):
        _results(_table().rename(columns={"perturbation": "gene"}))
    parts = _table().assign(gene_1="G00", gene_2="G01").drop(columns="perturbation")
    with pytest.raises(ResultsError, match="join 'gene_1' and 'gene_2' in it, with '\\+' between the parts"):
        _results(parts)
    long = _table().melt("perturbation", ["r0", "r1", "r2"], var_name="protein")
    with pytest.raises(ResultsError, match="'protein' holds names of readouts: give a column to each"):
        _results(long)
    with pytest.raises(ResultsError, match="'r1' occurs 2 times"):
        _results(_table().rename(columns={"r2": "r1"}))
    with pytest.raises(ResultsError, match="no line below the header"):
        _results(_table()[:0])


def test_many_unknown_names_are_counted() -> None:
    with pytest.raises(UnknownNameError, match="and 3 more"):
        _results(measured([f"X{number}" for number in range(6)], _SCREEN.readouts))
