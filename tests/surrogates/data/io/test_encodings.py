"""Encodings of AnnData since 0.7: those of tables that are read without it, and those that are left to it."""

from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from surrogates.data.io.h5ad_file import frame
from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

LABELS = ["KLF1", "MYC", "SPI1", "KLF1+MYC"]
VALUES = np.arange(12.0).reshape(4, 3) % 5 - 1
COLUMNS = {
    "texts": ["é", "", "nan", "x"],
    "categories": pd.Categorical(["b", None, "a", "b"]),
    "grades": pd.Categorical([2, 1, 2, 2], categories=[2, 1, 3], ordered=True),
    "flags": [True, False, True, True],
    "numbers": np.array([1.5, np.nan, 2, 3], dtype=np.float32),
    "whole": pd.array([1, None, 3, 4], dtype="Int64"),
}


@given(st.lists(st.sampled_from(sorted(COLUMNS)), unique=True), st.sampled_from([None, "cell"]))
def test_tables_are_read_as_anndata_reads_them(names: list[str], index: str | None) -> None:
    table = pd.DataFrame({name: COLUMNS[name] for name in names}, index=pd.Index(LABELS, name=index))
    with h5py.File.in_memory() as file:
        anndata.io.write_elem(file, "obs", table)
        pd.testing.assert_frame_equal(frame(file, "obs"), anndata.io.read_elem(file["obs"]))


def old_file(path: Path, matrix: str) -> None:
    """Write what AnnData 0.7 wrote: categories beside the table, and strings that say no encoding."""
    with h5py.File(path, "w") as file:
        text = h5py.string_dtype()
        for key, ids in (("obs", [f"c{row}" for row in range(4)]), ("var", ["a", "b", "c"])):
            table = file.create_group(key)
            table.attrs.update({"encoding-type": "dataframe", "encoding-version": "0.1.0", "_index": "_index"})
            table.attrs.create("column-order", ["condition"] if key == "obs" else [], dtype=text)
            table.create_dataset("_index", data=np.array(ids, dtype=object), dtype=text)
        codes = file["obs"].create_dataset("condition", data=np.argsort(np.argsort(LABELS)).astype(np.int8))
        codes.attrs["categories"] = (
            file["obs"]
            .create_dataset("__categories/condition", data=np.array(sorted(LABELS), dtype=object), dtype=text)
            .ref
        )
        if matrix == "dense":
            file["X"] = VALUES
            return
        stored, group = sparse.csr_matrix(VALUES).asformat(matrix), file.create_group("X")
        group.attrs.update(
            {"encoding-type": f"{matrix}_matrix", "encoding-version": "0.1.0", "shape": VALUES.shape}
        )
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(stored, name)


@pytest.mark.parametrize("matrix", ["csr", "csc", "dense"])
def test_files_of_anndata_0_7_are_read(tmp_path: Path, matrix: str) -> None:
    old_file(tmp_path / "old.h5ad", matrix)
    screen = read_screen(tmp_path / "old.h5ad")
    assert screen.labels == tuple(LABELS)
    np.testing.assert_array_equal(screen.effects, VALUES)


def test_a_table_of_records_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "older.h5ad", "w") as file:
        file["obs"] = np.array([(b"c0", b"KLF1")], dtype=[("index", "S2"), ("condition", "S4")])
    with pytest.raises(DataError, match="records of several fields"):
        read_screen(tmp_path / "older.h5ad")


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_each_form_of_a_matrix_gives_the_same_effects_backed_or_not(tmp_path: Path, form: str) -> None:
    obs, var = pd.DataFrame({"condition": LABELS}, index=list("wxyz")), pd.DataFrame(index=list("abc"))
    values = VALUES if form == "dense" else sparse.csr_matrix(VALUES).asformat(form)
    anndata.AnnData(values, obs=obs, var=var).write_h5ad(tmp_path / "new.h5ad")
    backed = anndata.read_h5ad(tmp_path / "new.h5ad", backed="r")
    for source in (tmp_path / "new.h5ad", backed, backed.to_memory()):
        np.testing.assert_array_equal(read_screen(source).effects, VALUES)
    backed.file.close()
