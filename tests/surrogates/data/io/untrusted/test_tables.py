"""Tables that are damaged, crafted or say something else than numbers: refused, or left out with a line."""

import gzip
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from inverse_design.errors import TargetError
from inverse_design.toml_files import read_toml
from inverse_design.value_tables import text_table
from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError, listed, nearest_hint, shown

LABELS = ["A", "B", "C", "A+B", "A+C"]
ROWS = len(LABELS)


def effects() -> pd.DataFrame:
    numbers = np.arange(ROWS) * 1.5
    return pd.DataFrame({"condition": LABELS, "r0": numbers, "r1": numbers**2})


def parquet(path: Path, column: pa.Array, name: str = "r2") -> Path:
    table = pa.table({"condition": LABELS, "r0": np.arange(ROWS) * 1.5, "r1": np.arange(ROWS) ** 2.0})
    place = table.column_names.index(name) if name in table.column_names else table.num_columns
    if name in table.column_names:
        table = table.remove_column(place)
    pq.write_table(table.add_column(place, name, column), path)
    return path


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([[1.0]] * ROWS), "'r2' of '.*' holds list<.*> in each row, neither a number nor a text"),
        (pa.array([{"a": 1}] * ROWS), "'r2' of 't.parquet' holds struct<"),
        (pa.array([[("a", 1)]] * ROWS, pa.map_(pa.string(), pa.int64())), "'r2' of 't.parquet' holds map<"),
        (pa.array([b"\xff\xfe"] * ROWS), "'r2' holds bytes that are no text"),
        (pa.array(["1", "2", "3", "4", "x"]), "'r2' holds 'x' in row 4, which is not a number"),
    ],
)  # fmt: skip
def test_columns_of_other_types_are_refused(column: pa.Array, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_screen(parquet(tmp_path / "t.parquet", column))


@pytest.mark.parametrize(
    ("column", "why"),
    [
        (pa.nulls(ROWS), "no value in any row"),
        (pa.array([True, False] * 2 + [True]), "true or false"),
        (pa.array(np.arange(ROWS).astype("datetime64[s]")), "times"),
        (pa.array(np.arange(ROWS).astype("timedelta64[s]")), "durations"),
    ],
)
def test_columns_that_are_no_measurements_are_left_out_with_a_line(
    column: pa.Array, why: str, tmp_path: Path
) -> None:
    screen = read_screen(parquet(tmp_path / "t.parquet", column))
    assert screen.readouts == ("r0", "r1")
    assert screen.provenance["dropped columns"] == f"'r2' ({why})"


def test_labels_of_bytes_are_read_as_text(tmp_path: Path) -> None:
    path = parquet(tmp_path / "t.parquet", pa.array([label.encode() for label in LABELS]), "condition")
    assert read_screen(path).labels == read_screen(effects()).labels


@pytest.mark.parametrize("pandas", ["{", "[]", '{"index_columns": ["no"]}', '{"columns": 1, "index_columns": []}'])
def test_what_parquet_says_of_pandas_may_be_wrong(pandas: str, tmp_path: Path) -> None:
    table = pa.Table.from_pandas(effects()).replace_schema_metadata({"pandas": pandas})
    pq.write_table(table, tmp_path / "t.parquet")
    try:
        assert read_screen(tmp_path / "t.parquet").readouts == ("r0", "r1")
    except DataError as error:
        assert "cannot be read as a table" in str(error)  # noqa: PT017 - either is right


def test_parquet_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    wide = {f"r{column}": pa.array(np.zeros(10**5)).dictionary_encode() for column in range(400)}
    pq.write_table(pa.table(wide), tmp_path / "t.parquet", compression="zstd")
    assert (tmp_path / "t.parquet").stat().st_size < 10**6
    with pytest.raises(DataError, match=r"'t.parquet' \(100,000 rows of 400 columns\) needs 320.0 MB of memory"):
        read_screen(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("without", "said"),
    [
        ("r1__sd", "readout 'r1' has no column 'r1__sd', and 1 other"),
        ("", "below zero"),
        ("zero", "zero in every row"),
    ],
)
def test_deviations_of_some_readouts_only_are_refused(without: str, said: str) -> None:
    table = effects().assign(r0__sd=0.1, r1__sd=0.0 if without == "zero" else -0.1, n_wells=2)
    with pytest.raises(DataError, match=said):
        read_screen(table.drop(columns=without, errors="ignore"))


def test_deviations_that_are_all_zero_are_left_out_with_a_line() -> None:
    screen = read_screen(effects().assign(r0__sd=0, r1__sd=0, n_wells=2))
    assert screen.standard_errors is None
    assert screen.provenance["dropped standard errors"] == "of <readout>__sd, which are all zero"


@pytest.mark.parametrize("label", ["A@-1", "B@-0.5uM"])
def test_doses_below_zero_are_refused(label: str) -> None:
    with pytest.raises(DataError, match="none is below zero"):
        read_screen(effects().replace({"condition": {"C": label}}))


@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_nul_is_no_part_of_a_number(ending: str, tmp_path: Path) -> None:
    text = effects().to_csv(index=False).replace("1.5", "1\0.5", 1).encode()
    (tmp_path / f"t{ending}").write_bytes(gzip.compress(text) if ending == ".csv.gz" else text)
    with pytest.raises(DataError, match="holds a NUL character in line 3"):
        read_screen(tmp_path / f"t{ending}")


def test_text_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(b"condition,r0\n" + b"0" * 70_000_000, compresslevel=1))
    with pytest.raises(DataError, match="unpacks to more than"):
        read_screen(tmp_path / "t.csv.gz")


def workbook(path: Path, old: str, new: str, *, member: str = "xl/worksheets/sheet1.xml") -> Path:
    """Write a sheet with a change in the text of one member."""
    effects().to_excel(path, index=False)
    with zipfile.ZipFile(path) as read:
        parts = {name: read.read(name) for name in read.namelist()}
    assert old.encode() in parts[member]
    parts[member] = parts[member].replace(old.encode(), new.encode(), 1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, part in parts.items():
            packed.writestr(name, part)
    return path


ENTITIES = (
    "<!DOCTYPE a [<!ENTITY a 'xxxxxxxxxx'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c SYSTEM 'file:///etc/passwd'>]>"
)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("<sheetData>", "<sheetData>" + " " * 70_000_000, "claims to unpack to 70"),
        ("<worksheet", f"{ENTITIES}<worksheet", "declares what its XML means"),
        ("</sheetData>", "<row r='9'><c r='XFD9' t='n'><v>1</v></c></row></sheetData>", "."),
        ("</sheetData>", "<row r='1048577'><c r='A1048577'/></row></sheetData>", "more than 100,000 empty rows"),
        ("</sheetData>", "<row", "no readable Excel file"),
    ],
)
def test_sheets_of_tricks_are_refused(old: str, new: str, said: str, tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(DataError, match=said):
        read_screen(workbook(tmp_path / "t.xlsx", old, new))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("text", "said"),
    [("a = " + "[" * 5000, "nest too deep"), (".".join(["a"] * 4000) + " = 1", "more than 100 dots"),
     ("#" * 5_000_000, "more than 4,194,304 bytes"), ("a = \xff", "cannot be read as TOML")],
)  # fmt: skip
def test_toml_of_tricks_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "t.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=said):
        read_toml(tmp_path / "t.toml")


def test_wide_headers_and_long_cells_take_linear_time(tmp_path: Path) -> None:
    columns = 20_000
    lines = ["condition," + ",".join(f"g{number}" for number in range(columns))]
    lines += [f"{label}," + ",".join(f"{row}.5" for _ in range(columns)) for row, label in enumerate(LABELS)]
    (tmp_path / "wide.csv").write_text("\n".join(lines))
    (tmp_path / "long.csv").write_text(effects().to_csv(index=False).replace("1.5", "9" * 10**5, 1))
    started = time.process_time()
    assert len(read_screen(tmp_path / "wide.csv").readouts) == columns
    with pytest.raises(DataError) as refused:
        read_screen(tmp_path / "long.csv")
    assert len(str(refused.value)) < 500
    assert time.process_time() - started < 5


def test_messages_show_the_beginning_of_a_value() -> None:
    assert shown("x" * 100) == f"'{'x' * 80}'..."
    assert shown("\x1b[31m") == r"'\x1b[31m'"
    assert shown("line\nbreak", bare=True) == r"line\nbreak"
    assert listed(range(8)) == "'0', '1', '2', '3', '4' and 3 more"
    assert len(nearest_hint("G" * 10**6, ["G" * 10**5, "G1"])) < 200


def test_a_quotation_mark_that_is_never_closed_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('perturbation,one\nA,"' + "1,2\n" * 50_000)
    line = 'perturbation,"' + "a" * 200_000
    (tmp_path / "long.csv").write_text(f"{line}\nA,1\n")
    with pytest.raises(DataError, match="quotation mark never closed"):
        read_screen(tmp_path / "long.csv")
    with pytest.raises(TargetError, match="quotation mark never closed"):
        text_table(tmp_path / "long.csv")
    with pytest.raises(DataError):
        read_screen(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["/root", "a/../b", "a//b"])
def test_names_that_leave_an_archive_are_refused(name: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cells.zarr.zip", "w") as packed:
        packed.writestr(name, b"{}")
    with pytest.raises(DataError, match="no place in it"):
        read_screen(tmp_path / "cells.zarr.zip")
