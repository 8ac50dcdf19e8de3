"""Damaged and crafted HDF5 is refused by name; what is sound is read as before."""

import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from surrogates.data.io.h5ad_file import in_memory
from surrogates.data.io.readers import read_screen
from surrogates.data.io.untrusted.hdf5 import opened
from surrogates.data.io.untrusted.matrices import read, stored_matrix
from surrogates.errors import DataError

ROWS, READOUTS = 20, 4
SPARSE = {"csr": sparse.csr_array, "csc": sparse.csc_array}


def cells(form: str = "csr") -> anndata.AnnData:
    labels = np.repeat(["control", "A", "B", "A+B"], ROWS // 4)
    values = np.arange(float(ROWS * READOUTS)).reshape(ROWS, READOUTS) / 7
    values[values % 3 < 1] = 0
    return anndata.AnnData(
        {"dense": np.asarray, **SPARSE}[form](values),
        obs=pd.DataFrame({"perturbation": labels}, index=[f"c{row}" for row in range(ROWS)]),
        var=pd.DataFrame(index=[f"r{column}" for column in range(READOUTS)]),
    )


def write_zarr(data: anndata.AnnData, path: Path) -> None:
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=3):
        warnings.simplefilter("ignore")  # of what will be the default
        data.write_zarr(path)


def replaced(name: str, *data: object, **how: object) -> Callable[[h5py.File], None]:
    """Put another dataset in a place, with the attributes of the old one."""

    def change(file: h5py.File) -> None:
        kept = dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, *data, **how).attrs.update(kept)

    return change


def linked(name: str, link: object) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def written(name: str, place: int, value: float) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[name][place] = value

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((ROWS,), "f8")
    layout[...] = h5py.VirtualSource("other.h5", "/X", (ROWS,))
    kept = dict(file["obs/_index"].attrs)
    del file["obs/_index"]
    file.create_virtual_dataset("obs/_index", layout).attrs.update(kept)


def circle(file: h5py.File) -> None:
    file["obs/inside"] = file["obs"]


def one_more_readout(file: h5py.File) -> None:
    file["X"].attrs["shape"] = (ROWS, READOUTS + 1)


def odd_encoding(file: h5py.File) -> None:
    file["X"].attrs["encoding-type"] = "awkward-array"


def unknown_version(file: h5py.File) -> None:
    file["obs/perturbation"].attrs["encoding-version"] = "99"


HARM: dict[str, tuple[Callable[[h5py.File], None], str]] = {
    "index beyond": (written("X/indices", 3, 10**6), "stands in column 1000000 of 4"),
    "index below": (written("X/indices", 3, -5), "stands in column -5 of 4"),
    "starts fall": (written("X/indptr", 3, 50), "indptr' does not divide its .* values into 20 rows"),
    "starts late": (written("X/indptr", 0, 1), "must rise from 0"),
    "ends late": (written("X/indptr", ROWS, 10**6), "must rise from 0"),
    "starts of one row": (replaced("X/indptr", data=[0, 3]), "does not divide"),
    "fewer indices": (replaced("X/indices", data=[0, 1]), "has 2 indices of"),
    "indices with decimals": (replaced("X/indices", data=np.ones(9)), "not whole ones"),
    "columns beyond var": (one_more_readout, r"'X' has the shape \(20, 5\) beside 20 rows of obs and 4 of var"),
    "unknown encoding": (odd_encoding, "encoding 'awkward-array', which is no matrix"),
    "unknown version": (unknown_version, "'obs' is not as anndata writes it"),
    "another file": (linked("X", h5py.ExternalLink("other.h5", "/X")), "a link into another file, 'other.h5'"),
    "a part from another file": (linked("obs", h5py.ExternalLink("/dev/zero", "/")), "a link into another file"),
    "soft link": (linked("X", h5py.SoftLink("/X")), "'X' is a link to '/X'"),
    "circle": (circle, "lies inside of itself"),
    "named type": (linked("X", np.dtype("f8")), "named type, neither a group nor a dataset"),
    "external storage": (
        replaced("X", (ROWS, READOUTS), "f8", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]),
        "lie in other files",
    ),
    "virtual": (virtual, "lie in other datasets"),
    "complex": (replaced("X", data=np.ones((ROWS, READOUTS), complex)), "'X' holds complex numbers"),
    "texts": (replaced("X", data=np.full((ROWS, READOUTS), b"1")), "'X' holds text"),
    "records": (replaced("X", data=np.ones((ROWS, READOUTS), [("a", "f8")])), "records of several fields"),
    "references": (replaced("obs/perturbation", (ROWS,), h5py.ref_dtype), "references to other parts"),
    "of several lengths": (replaced("obs/perturbation", (ROWS,), h5py.vlen_dtype("i4")), "several lengths"),
    "one axis": (replaced("X", data=np.ones(ROWS)), r"the shape \(20,\)"),
    "three axes": (replaced("X", data=np.ones((ROWS, READOUTS, 2))), r"the shape \(20, 4, 2\)"),
    "huge matrix": (
        replaced("X", (ROWS, 10**9), "f8", chunks=True),
        "'X' declares 160.0 GB and stores 0 bytes",
    ),
    "huge table": (replaced("obs/perturbation", (10**9,), "f8", chunks=True), "declares 8.0 GB"),
    "many zeros": (
        replaced("obs/perturbation", data=np.zeros(6 * 10**7, "i1"), compression="gzip", chunks=(10**7,)),
        "needs 6.0 GB of memory, more than 100 times",
    ),
    "huge chunk": (
        replaced("X", (ROWS, READOUTS), "f8", maxshape=(None, None), chunks=(10**5, 10**3)),
        "a chunk of 'X' needs 800.0 MB",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HARM)
def test_crafted_files_are_refused_by_name(name: str, tmp_path: Path) -> None:
    harm, said = HARM[name]
    cells().write_h5ad(tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad", "r+") as file:
        harm(file)
    with pytest.raises(DataError, match=said) as refused:
        read_screen(tmp_path / "t.h5ad")
    assert "'t.h5ad'" in str(refused.value)


@pytest.mark.parametrize("raw", [b"", b"\x89HDF\r\n\x1a\n", b"no HDF5 at all"])
def test_files_that_are_no_hdf5_are_refused(raw: bytes, tmp_path: Path) -> None:
    (tmp_path / "t.h5ad").write_bytes(raw)
    with pytest.raises(DataError, match=r"'t\.h5ad' is not a readable HDF5 file"):
        read_screen(tmp_path / "t.h5ad")


def test_what_is_not_read_may_be_of_any_type(tmp_path: Path) -> None:
    cells().write_h5ad(tmp_path / "t.h5ad")
    sound = read_screen(tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad", "r+") as file:
        file["uns/tests"] = np.ones(3, [("name", "S4"), ("score", "f8")])
        file["obsm/image"] = h5py.ExternalLink("other.h5", "/image")
    assert read_screen(tmp_path / "t.h5ad").effects.equal(sound.effects)


def test_a_matrix_that_is_empty_but_for_its_size_is_not_held(tmp_path: Path) -> None:
    rows, columns = 700, 100_000
    with h5py.File(tmp_path / "t.h5", "w") as file:
        file.create_dataset("X", (rows, columns), "i1", data=np.zeros((rows, columns), "i1"), compression="gzip")
    with opened(tmp_path / "t.h5") as file:
        found = stored_matrix(file, "X", shape=(rows, columns))
        assert found is not None
        with pytest.raises(DataError, match=r"needs 1\.7 GB of memory, and its file has"):
            in_memory(found)


@pytest.mark.parametrize("form", ["dense", "csr", "csc"])
def test_bytes_may_stand_in_either_order(form: str, tmp_path: Path) -> None:
    data = cells(form)
    data.obs["well"] = np.arange(ROWS)
    data.write_h5ad(tmp_path / "t.h5ad")
    sound = read_screen(tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad", "r+") as file:
        for name in ("X",) if form == "dense" else ("X/data", "X/indices", "X/indptr", "obs/well"):
            replaced(name, data=file[name][:].astype(file[name].dtype.newbyteorder(">")))(file)
    assert read_screen(tmp_path / "t.h5ad").effects.equal(sound.effects)


def test_attributes_of_odd_types_are_refused(tmp_path: Path) -> None:
    cells().write_h5ad(tmp_path / "t.h5ad")
    with h5py.File(tmp_path / "t.h5ad", "r+") as file:
        file["obs/perturbation"].attrs["more"] = np.ones(1, [("a", "f8")])
    with pytest.raises(DataError, match="an attribute of 'obs/perturbation' is neither numbers nor text"):
        read_screen(tmp_path / "t.h5ad")


@given(st.data())
def test_blocks_of_sparse_matrices_are_those_of_dense_ones(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(sorted(SPARSE)))
    rows, columns = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5))
    numbers = st.lists(st.integers(-2, 2), min_size=rows * columns, max_size=rows * columns)
    dense = np.array(data.draw(numbers), dtype=np.float64).reshape(rows, columns)
    first, last = sorted(data.draw(st.tuples(st.integers(0, rows), st.integers(0, rows))))
    place = (slice(first, last), slice(0, columns))
    with h5py.File("in memory", "w", driver="core", backing_store=False) as file:
        anndata.io.write_elem(file, "X", SPARSE[form](dense))
        found = stored_matrix(file, "X", shape=(rows, columns))
        assert found is not None
        block = found[place]
    assert isinstance(block, sparse.csr_array | sparse.csc_array)
    assert np.array_equal(block.toarray(), dense[place])


def test_zarr_arrays_hold_no_more_than_they_store(tmp_path: Path) -> None:
    write_zarr(cells(), tmp_path / "t.zarr")
    group = zarr.open_group(tmp_path / "t.zarr")
    group.create_array("obs/much", shape=(10**10,), chunks=(10**4,), dtype="f8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what version 3 does not define
        zarr.consolidate_metadata(tmp_path / "t.zarr")
    with pytest.raises(DataError, match=r"'obs/much' declares 80\.0 GB"):
        read_screen(tmp_path / "t.zarr")


def test_links_out_of_a_zarr_folder_are_refused(tmp_path: Path) -> None:
    write_zarr(cells(), tmp_path / "t.zarr")
    (tmp_path / "t.zarr" / "linked").symlink_to("/etc")
    with pytest.raises(DataError, match="holds 'linked', which is neither a file nor a folder"):
        read_screen(tmp_path / "t.zarr")


@pytest.mark.parametrize(("name", "place", "value"), [("X/indices", 2, 10**6), ("X/indptr", 2, 10**6)])
def test_sparse_matrices_in_zarr_are_checked_alike(name: str, place: int, value: int, tmp_path: Path) -> None:
    write_zarr(cells(), tmp_path / "t.zarr")
    zarr.open_group(tmp_path / "t.zarr")[name][place] = value
    with pytest.raises(DataError, match=r"stands in column 1000000|does not divide"):
        read_screen(tmp_path / "t.zarr")


def test_a_heap_of_texts_that_never_ends_is_refused(tmp_path: Path) -> None:
    cells().write_h5ad(tmp_path / "t.h5ad")
    raw = bytearray((tmp_path / "t.h5ad").read_bytes())
    first = raw.index(b"GCOL") + 16
    raw[first : first + 16] = bytes(16)  # free, and of no size
    (tmp_path / "t.h5ad").write_bytes(raw)
    with pytest.raises(DataError, match=r"a heap of texts at byte .* does not fit"):
        read_screen(tmp_path / "t.h5ad")


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<i4", "?"])
@pytest.mark.parametrize("stored", [{}, {"shuffle": True}, {"fletcher32": True}, {"maxshape": (None,)}])
def test_chunks_inflated_here_are_what_hdf5_reads(tmp_path: Path, kind: str, stored: dict[str, Any]) -> None:
    values = np.random.default_rng(0).integers(0, 2, 1000).astype(kind)
    with h5py.File(tmp_path / "list.h5", "w") as file:
        made = file.create_dataset("list", (1000,), kind, chunks=(64,), compression="gzip", **stored)
        made[100:] = values[100:]  # a chunk is not stored
        for place in (slice(None), slice(130, 140), slice(128, 192), slice(60, 999), slice(7, 7)):
            found = read(made, "list", place)
            assert found.dtype == made.dtype
            assert np.array_equal(found, made[place])


@pytest.mark.parametrize("content", [zlib.compress(bytes(10**4)), zlib.compress(bytes(8)), b"?" * 50])
def test_a_chunk_that_is_damaged_too_long_or_too_short_is_refused(tmp_path: Path, content: bytes) -> None:
    with h5py.File(tmp_path / "list.h5", "w") as file:
        made = file.create_dataset("list", data=np.arange(128.0), chunks=(64,), compression="gzip")
        made.id.write_direct_chunk((64,), content)
        assert np.array_equal(read(made, "list", slice(0, 64)), np.arange(64.0))
        with pytest.raises(DataError, match=r"'list' cannot be read .* the file is damaged"):
            read(made, "list")
