import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from strategies.worlds import command

from inverse_design.cli.console import Run
from inverse_design.cli.outputs import check_writable, manifest, sidecar_of, table_endings, write_table
from inverse_design.errors import OutputError
from inverse_design.plot.style import titled, write_figure
from inverse_design.spreadsheets import as_written
from surrogates.evaluation.intervals import write_json
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


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def written_within(size: int, table: pd.DataFrame, path: Path) -> str:
    try:
        with no_file_above(size):
            write_table(table, path, FACTS)
    except OSError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("ending", table_endings())
def test_a_full_disk_leaves_the_old_table_with_its_manifest_or_the_new(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    new = pd.DataFrame({"name": [f"G{number}+G{number + 1}" for number in range(40)], "number": 0.5})
    write_table(new, path, FACTS)
    whole = {each.name: each.stat().st_size for each in tmp_path.iterdir()}
    most, failed = max(whole.values()), 0
    for size in sorted({*range(0, most, max(1, most // 5)), *(each - 1 for each in whole.values()), most}):
        write_table(FRAME, path, {"manifest": "old"})
        old = {each: each.read_bytes() for each in tmp_path.iterdir()}
        said = written_within(size, new, path)
        if said:
            failed += 1
            assert str(path) in said  # the file that was meant, not the one beside it
            assert {each: each.read_bytes() for each in tmp_path.iterdir()} == old
        else:
            assert {each.name for each in tmp_path.iterdir()} == set(whole)
            assert all(each.read_bytes() != old[each] for each in tmp_path.iterdir())
    assert failed > 4


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("kept")
    for name in ("a.csv", "a.csv.json"):
        (tmp_path / name).symlink_to("theirs")
    for path in write_table(FRAME, tmp_path / "a.csv", FACTS):
        assert not path.is_symlink()
    assert (tmp_path / "theirs").read_text() == "kept"


def test_only_what_this_program_wrote_is_overwritten_without_being_forced(tmp_path: Path) -> None:
    table, picture, rows = (tmp_path / name for name in ("a.csv", "a.svg", "a.json"))
    for path in (table, picture, rows, sidecar_of(tmp_path / "b.csv")):
        path.write_text("theirs")
    for path in (table, picture, rows, tmp_path / "b.csv"):
        with pytest.raises(OutputError, match=r"was not written by inverse-design; .* --force"):
            check_writable(path, endings=(path.suffix,))
        assert check_writable(path, endings=(path.suffix,), force=True) == path
    write_table(FRAME, table, {"manifest": manifest(Run(), None, seed=0)})
    write_figure(titled(1.0, 1.0, "one"), picture)
    write_json([], rows, manifest=manifest(Run(), None, seed=0))
    (tmp_path / "c.csv").touch()
    for path in (table, picture, rows, tmp_path / "c.csv"):
        assert check_writable(path, endings=(path.suffix,)) == path


@pytest.mark.parametrize("ending", [".png", ".pdf"])
def test_figures_are_signed(tmp_path: Path, ending: str) -> None:
    write_figure(titled(1.0, 1.0, "one"), tmp_path / f"a{ending}")
    assert check_writable(tmp_path / f"a{ending}", endings=(ending,))


def test_the_word_that_overwrites_is_known_to_verbs_that_write(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Run] = []
    monkeypatch.setattr("inverse_design.cli.verbs.rank.run_rank", lambda run, *_, **__: runs.append(run))
    words = ("rank", "screen", "--target", "A", "--experiments", "list")
    assert (command(*words), command(*words, "--force")) == (0, 0)
    assert [(run.force, run.arguments) for run in runs] == [(False, words), (True, (*words, "--force"))]
    assert command("check", "screen", "--force") == 2
