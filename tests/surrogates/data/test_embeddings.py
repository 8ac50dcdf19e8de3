"""Tables of embeddings: every format gives the same vectors, and what is wrong with a file is refused by name."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.data.descriptors import Descriptors
from surrogates.data.embeddings import coverage, read_embedding
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError

Table = pd.DataFrame
VECTORS = st.lists(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=3), min_size=1, max_size=6)


def _csv(table: Table, folder: Path) -> Path:
    table.to_csv(folder / "e.csv", index_label="symbol")
    return folder / "e.csv"


def _unnamed(table: Table, folder: Path) -> Path:
    table.to_csv(folder / "e.tsv.gz", sep="\t")
    return folder / "e.tsv.gz"


def _parquet(table: Table, folder: Path) -> Path:
    table.rename_axis("gene").to_parquet(folder / "e.parquet")
    return folder / "e.parquet"


def _npz(table: Table, folder: Path) -> Path:
    np.savez(folder / "e.npz", names=table.index.to_numpy(dtype=str), matrix=table.to_numpy())
    return folder / "e.npz"


def _h5ad(table: Table, folder: Path) -> Path:
    obs = pd.DataFrame(index=table.index)
    anndata.AnnData(obs=obs, obsm={"X_model": table.to_numpy()}).write_h5ad(folder / "e.h5ad")
    return folder / "e.h5ad"


def _row_names(table: Table, folder: Path) -> Path:
    """As R writes row names: without a name above them."""
    text = table.to_csv(sep="\t", index_label="symbol")
    (folder / "e.tsv").write_text(text.removeprefix("symbol\t"))
    return folder / "e.tsv"


WRITE = {
    "row names": _row_names,
    "csv": _csv,
    "unnamed tsv.gz": _unnamed,
    "parquet": _parquet,
    "npz": _npz,
    "h5ad": _h5ad,
}


def _table(values: list[list[float]]) -> Table:
    names = pd.Index([f"G{number}" for number in range(len(values))])
    return Table(np.array(values, dtype=float), index=names, columns=["d0", "d1", "d2"])


@pytest.mark.parametrize("form", WRITE)
def test_every_format_gives_the_vectors_that_were_written(
    form: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    @settings(max_examples=5)
    @given(values=VECTORS)
    def check(values: list[list[float]]) -> None:
        table = _table(values)
        found = read_embedding(WRITE[form](table, tmp_path_factory.mktemp("written")))
        assert isinstance(found, Descriptors)
        assert (found.name, found.symbols) == ("e", tuple(table.index))
        torch.testing.assert_close(found.vectors, torch.from_numpy(table.to_numpy()), rtol=1e-12, atol=0)

    check()


def test_the_table_of_an_h5ad_with_several_is_named(tmp_path: Path) -> None:
    one, other = np.ones((2, 3)), np.zeros((4, 2))
    frames = {"obs": Table(index=["A", "B"]), "var": Table(index=[*"wxyz"])}
    anndata.AnnData(**frames, obsm={"X_a": one}, varm={"b": other + np.arange(2)}).write_h5ad(tmp_path / "e.h5ad")
    assert read_embedding(f"{tmp_path / 'e.h5ad'}:varm/b").symbols == ("w", "x", "y", "z")
    with pytest.raises(DataError, match=r"has 2 tables in obsm and varm: 'obsm/X_a', 'varm/b'; name one"):
        read_embedding(tmp_path / "e.h5ad")
    with pytest.raises(DataError, match=r"has no 'obsm/c' in obsm and varm"):
        read_embedding(f"{tmp_path / 'e.h5ad'}:obsm/c")


def test_symbols_without_any_value_have_no_vector(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("symbol,a,b\nA,1,2\nB,,\nC,3,4\n")
    found = read_embedding(tmp_path / "e.csv")
    assert found.symbols == ("A", "C")
    vocabulary = Vocabulary(tuple(map(Intervention, "ABCD")))
    assert coverage(found, vocabulary) == "2 of 4 targets have a vector in 'e'; missing: B, D"
    with pytest.raises(DataError, match="no target has a vector in 'e': it names 'A', 'C', the data 'X', 'Y'"):
        coverage(found, Vocabulary(tuple(map(Intervention, "XY"))))


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("symbol;a;b\nA;0,5;1\nB;2;-1,25\n")
    assert read_embedding(tmp_path / "e.csv").vectors.tolist() == [[0.5, 1.0], [2.0, -1.25]]


def test_a_line_may_be_longer_than_any_field(tmp_path: Path) -> None:
    names = [f"dimension {number:05}" for number in range(9_000)]  # 131,072 characters are the most of a field
    (tmp_path / "e.csv").write_text(",".join(["symbol", *names]) + "\nA" + ",0.5" * len(names) + "\n")
    assert read_embedding(tmp_path / "e.csv").vectors.shape == (1, len(names))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("symbol,a,b\nA,1,2\nB,3,\n", r"1 value\(s\) that are not finite, the first is nan for 'B', column 1"),
        ("symbol,a,b\nA,1,2\nB,3,inf\n", "the first is inf for 'B'"),
        ("symbol,a,b\nA,1,2\nA,3,4\n", "symbol 'A' occurs twice"),
        ("symbol,a,b\nA,1,x\nB,3,4\n", "column 'b' of 'e.csv' holds 'x', which is no number"),
        ("symbol,a,b\nA,1,2\n,3,4\n", "row 2 of 'e.csv' has no symbol"),
        ("symbol,a,b\nA,1,2\nB,3,4,5,6\n", "'e.csv' has more values in a row than names"),
        ("symbol,a,b\n" + "A,1,2\n" * 40 + "B,3,4,5,6\n", "'e.csv' is no table"),
        ("symbol,a,a\nA,1,2\n", "column 'a' occurs 2 times"),
        ("a,b\n1,2\n", "needs one column of symbols"),
        ("one,other,a\nA,B,2\n", "needs one column of symbols, called symbol, .* it has 'one', 'other'"),
        ("symbol\nA\n", "describes nothing"),
    ],
)
def test_tables_that_are_no_embeddings_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_embedding(tmp_path / "e.csv")


def _objects(path: Path) -> None:
    np.savez(path, symbols=np.array(["A"], dtype=object), vectors=np.ones((1, 2)))


def _other_length(path: Path) -> None:
    np.savez(path, symbols=np.array(["A", "B"]), vectors=np.ones((3, 2)))


def _two_tables(path: Path) -> None:
    np.savez(path, symbols=np.array(["A"]), one=np.ones((1, 2)), two=np.ones((1, 2)))


def _declared(path: Path) -> None:
    """A header that declares far more than the file holds."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**6)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("vectors.npy", header.getvalue())


def _text(path: Path) -> None:
    path.write_text("symbol,a\nA,1\n")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_objects, "holds objects"),
        (_other_length, "has 2 symbols and 3 vectors; give one for each"),
        (_two_tables, "needs one array of symbols and one table of numbers"),
        (_declared, "damaged or made up|declares more than it holds"),
        (_text, r"is no readable \.npz"),
    ],
)
def test_archives_that_are_no_embeddings_are_refused(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    write(tmp_path / "e.npz")
    with pytest.raises(DataError, match=message):
        read_embedding(tmp_path / "e.npz")


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "e.pkl").write_bytes(b"")
    with pytest.raises(DataError, match="ends like no table of embeddings"):
        read_embedding(tmp_path / "e.pkl")
    with pytest.raises(DataError, match="there is no file"):
        read_embedding(tmp_path / "absent.csv")
