"""Gene sets are read right, or refused with what mends them."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inverse_design.cli.gene_sets import read_gene_sets, sets_named
from inverse_design.cli.limit_tables import read_groups
from inverse_design.cli.screens import read_allowed, read_exclusions, read_names
from inverse_design.problem.constraints import Group
from surrogates.errors import DataError, UnknownNameError

KNOWN = {"TP53", "MYC", "KLF1", "Cebpe"}
SETS = "HALLMARK_X\thttp://x\tTP53\tcebpe\tBRCA1\nOTHER, ONE:2\t\tMYC\tTP53\t\t\nGONE\tna\tRPL3\n"
NAMES = st.text("ABab12 .,:;-+()äβ'\"#%=@", min_size=1, max_size=8).map(str.strip).filter(bool)


def saved(folder: Path, content: str | bytes, name: str = "sets.gmt") -> str:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_encodings_and_ends_of_lines(tmp_path: Path, encoding: str, ends: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_bytes(SETS.replace("\n", ends).encode(encoding))
    assert read_gene_sets(path) == {
        "HALLMARK_X": ("TP53", "cebpe", "BRCA1"), "OTHER, ONE:2": ("MYC", "TP53"), "GONE": ("RPL3",)
    }  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(sets=st.dictionaries(NAMES, st.lists(NAMES, min_size=1, max_size=6), min_size=1, max_size=5))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, sets: dict[str, list[str]]) -> None:
    path = tmp_path_factory.mktemp("gmt") / "sets.gmt"
    path.write_text(
        "".join("\t".join([name, "", *genes]) + "\n" for name, genes in sets.items()), encoding="utf-8"
    )
    assert read_gene_sets(path) == {name: tuple(dict.fromkeys(genes)) for name, genes in sets.items()}


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("gmt") / "sets.gmt"
    path.write_bytes(content)
    try:
        found = read_gene_sets(path)
    except DataError as error:
        refused = str(error)
        assert "sets.gmt" in refused
    else:
        assert all(genes and name.isprintable() for name, genes in found.items())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no set; give one in each line"),
        ("A,http,TP53\n", "line 1 of 'sets.gmt' has 1 of the fields that a set needs"),
        ("A\tna\tTP53\n\nB\tna\n", "line 3 of 'sets.gmt' has 2 of the fields"),
        ("\tna\tTP53\n", "line 1 of 'sets.gmt': give a printable set"),
        ("A\tna\tTP53\t\tMYC\n", "line 1 of 'sets.gmt': give a printable gene"),
        ("A\tna\tTP53\nA\tna\tMYC\n", "line 2 of 'sets.gmt' names the set 'A', as a line before"),
        ("A\tna\tTP\x1b[31m\n", "holds U\\+001B"),
        (b"A\tna\tTP53\0\n", "holds a NUL character in line 1"),
        (b"\xff\xfeA", "cannot be read as text"),
        (b"\x81\x8d\x8f\x90", "cannot be read as text"),
        ("A\tna\t" + "x" * 300, "200 are the most"),
    ],
)
def test_what_is_no_set_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_gene_sets(Path(saved(tmp_path, content)))


def test_sets_are_named_behind_a_colon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, SETS)
    assert sets_named(f"{path}:HALLMARK_X", KNOWN) == {"HALLMARK_X": ("TP53", "Cebpe")}
    said = capsys.readouterr().err
    assert "2 of 3 names are in the data; not there: BRCA1" in " ".join(said.split())
    assert sets_named(f"{path}:OTHER, ONE:2", KNOWN) == {"OTHER, ONE:2": ("MYC", "TP53")}
    assert sets_named(f"{path}:HALLMARK_X, GONE", KNOWN) == {"HALLMARK_X": ("TP53", "Cebpe"), "GONE": ()}
    assert list(sets_named(path, KNOWN) or ()) == ["HALLMARK_X", "OTHER, ONE:2", "GONE"]
    assert sets_named("TP53", KNOWN) is None
    with pytest.raises(
        UnknownNameError, match=r"unknown set of 'sets.gmt' 'HALMARK_X': did you mean 'HALLMARK_X'\?"
    ):
        sets_named(f"{path}:HALMARK_X", KNOWN)
    with pytest.raises(
        DataError, match=r"there is no file 'absent.gmt'; give gene sets as sets.gmt or sets.gmt:NAME"
    ):
        sets_named("absent.gmt:A", KNOWN)
    with pytest.raises(
        DataError, match=r"none of the genes of sets.gmt:GONE \(1\) is in the data, such as 'RPL3'"
    ):
        sets_named(f"{path}:GONE", KNOWN)


def test_each_option_takes_them_or_says_so(tmp_path: Path) -> None:
    path = saved(tmp_path, SETS)
    assert read_allowed(["KLF1", f"{path}:HALLMARK_X"], known=KNOWN) == ("KLF1", "TP53", "Cebpe")
    assert read_exclusions([path], known=KNOWN) == ("TP53", "Cebpe", "MYC")
    assert read_exclusions([f"{path}:GONE"], known=KNOWN) == ()
    assert read_groups(path, known=KNOWN) == (
        Group("HALLMARK_X", ("TP53", "Cebpe")), Group("OTHER, ONE:2", ("MYC", "TP53"))
    )  # fmt: skip
    with pytest.raises(DataError, match="holds gene sets, which --allow, --exclude and --groups take"):
        read_names([path], known=KNOWN)


def test_a_compressed_file_is_named_as_such(tmp_path: Path) -> None:
    path = saved(tmp_path, gzip.compress(SETS.encode()), "sets.gmt.gz")
    with pytest.raises(DataError):
        read_allowed([path], known=KNOWN)
