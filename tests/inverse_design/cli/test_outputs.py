import json
import math
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from inverse_design.cli.outputs import check_writable, sidecar_of, table_endings, write_table
from inverse_design.errors import OutputError
from inverse_design.spreadsheets import as_written
from surrogates.whole_file import write_whole

FRAME = pd.DataFrame({"rank": [1, 2], "utility": [1 / 3, math.nan], "reason": ["a, b", '=1+1 "x"']})
FACTS = {"manifest": {"seed": 1}, "worst": (math.inf, [math.nan])}


@pytest.mark.parametrize("name", ["a.csv", "-o.csv", "[bold]x.csv", "with blank é.csv", "a.b.parquet"])
def test_good_names_leave_no_trace(tmp_path: Path, name: str) -> None:
    assert check_writable(tmp_path / name, endings=table_endings()) == tmp_path / name
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.docx", "ends with .csv or .json or .parquet or .xlsx"),
        (".csv", "ends with"),
        ("no/such/a.csv", "no folder"),
        ("file/a.csv", "is not a folder"),
        ("folder.csv", "is a folder"),
        ("a\n.csv", "characters"),
        ("a\x00.csv", "characters"),
        ("a\x1b[31m.csv", "characters"),
        ("x" * 300 + ".csv", "cannot be written"),
        ("input.csv", "overwrite"),
        ("./folder.csv/../input.csv", "overwrite"),
    ],
)
def test_bad_places_are_refused(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    for made in ("file", "input.csv"):
        (tmp_path / made).write_text("kept")
    with pytest.raises(OutputError, match=message):
        check_writable(f"{tmp_path}/{name}", endings=table_endings(), inputs=[tmp_path / "input.csv"])
    assert (tmp_path / "input.csv").read_text() == "kept"
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("inverse_design.cli.outputs.tempfile.NamedTemporaryFile", refuse)
    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        check_writable(tmp_path / "a.csv", endings=table_endings())


def test_csv_reads_back_with_its_sidecar(tmp_path: Path) -> None:
    table, sidecar = write_table(FRAME, tmp_path / "a.csv", FACTS)
    pd.testing.assert_frame_equal(as_written(pd.read_csv(table)), FRAME, rtol=1e-9)
    assert sidecar == sidecar_of(table) == tmp_path / "a.csv.json"
    assert json.loads(sidecar.read_text()) == {"manifest": {"seed": 1}, "worst": [None, [None]]}
    assert b"\r" not in table.read_bytes()


def test_parquet_holds_the_manifest(tmp_path: Path) -> None:
    table, sidecar = write_table(FRAME, tmp_path / "a.parquet", FACTS)
    pd.testing.assert_frame_equal(pd.read_parquet(table), FRAME)
    assert json.loads(pq.read_schema(table).metadata[b"inverse_design"]) == {"seed": 1}
    assert sidecar.exists()


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
