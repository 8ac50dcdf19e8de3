"""Matrices that stay on disk: shape and structure are checked, each block again as it is read."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import h5py
import numpy as np
import scipy.sparse
from jaxtyping import Int

from surrogates.data.io.annotated import CellMatrix, Stored
from surrogates.data.io.untrusted.hdf5 import BROKEN, Part, part
from surrogates.errors import DataError, shown

_FORMATS: Mapping[str, Literal["csr", "csc"]] = {
    "csr_matrix": "csr", "csc_matrix": "csc", "csr": "csr", "csc": "csc",
}  # fmt: skip


def stored_matrix(parent: Stored, key: str, *, shape: tuple[int, int]) -> CellMatrix | None:
    """Find a matrix of numbers, dense or sparse, of a known shape."""
    found = part(parent, key, whole=False)
    if found is None:
        return None
    if isinstance(found, Stored):
        return _sparse(found, key, shape)
    if found.shape is None or str(_attribute(found, "encoding-type", key)) == "null":
        return None
    _refuse_shape(key, tuple(map(int, found.shape)), shape)
    _refuse_text(found, key)
    return StoredDense(found, key)


@dataclass(frozen=True)
class StoredDense:
    """A dense matrix on disk."""

    values: Part
    key: str  # where it is in the file

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of rows and columns."""
        return tuple(map(int, self.values.shape))

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """Numbers of rows and columns that are stored together, if it is cut."""
        return None if self.values.chunks is None else tuple(map(int, self.values.chunks))

    def __getitem__(self, key: tuple[slice, slice], /) -> object:
        """Read a block."""
        return read(self.values, self.key, key)


@dataclass(frozen=True)
class StoredSparse:
    """A sparse matrix on disk, by rows or by columns."""

    values: Part
    indices: Part
    starts: Int[np.ndarray, "n"]  # where each row, or column, begins, and where the last one ends
    shape: tuple[int, int]  # numbers of rows and columns
    format: Literal["csr", "csc"]  # whether rows or columns lie together
    key: str  # where it is in the file

    def values_of(self, first: int, last: int) -> np.ndarray:
        """Read what is stored in some rows, or columns if these lie together, without the places."""
        return _of_scipy(read(self.values, self.key, slice(int(self.starts[first]), int(self.starts[last]))))

    def __getitem__(self, key: tuple[slice, slice], /) -> object:
        """Read a block; entries that occur more than once are summed, as scipy does."""
        major, minor = key if self.format == "csr" else key[::-1]
        first, last, _ = major.indices(len(self.starts) - 1)
        starts = self.starts[first : last + 1]
        place = slice(int(starts[0]), int(starts[-1]))
        indices, values = read(self.indices, f"{self.key}/indices", place), read(self.values, self.key, place)
        other = self.shape[1] if self.format == "csr" else self.shape[0]
        if len(indices) and not 0 <= int(indices.min()) <= int(indices.max()) < other:
            wrong = indices[(indices < 0) | (indices >= other)][0]
            raise DataError(
                f"{shown(self.key)} says that a value stands in {'column' if self.format == 'csr' else 'row'}"
                f" {wrong} of {other}; the file is damaged: copy or write it again"
            )
        shape = (last - first, other) if self.format == "csr" else (other, last - first)
        form = scipy.sparse.csr_array if self.format == "csr" else scipy.sparse.csc_array
        short = indices.dtype == np.int32 and len(indices) <= np.iinfo(np.int32).max
        kind = np.int32 if short else np.int64
        numbers = indices.astype(kind, copy=False), (starts - starts[0]).astype(kind)
        block = form((_of_scipy(values), *numbers), shape=shape)
        block.sum_duplicates()
        rest = minor.indices(other)
        return block if rest == (0, other, 1) else block[:, minor] if self.format == "csr" else block[minor, :]


def _sparse(found: Part, key: str, shape: tuple[int, int]) -> StoredSparse:
    named = _attribute(found, "encoding-type", key)
    encoding = _attribute(found, "h5sparse_format", key) if named is None else named
    kind = _FORMATS.get(str(encoding))
    if kind is None:
        raise DataError(
            f"{shown(key)} is a group with the encoding {shown(encoding)}, which is no matrix; write the file"
            " again with anndata"
        )
    parts = {}
    for name in ("data", "indices", "indptr"):
        each = found.get(name)
        if each is None or isinstance(each, Stored) or each.shape is None or len(each.shape) != 1:
            raise DataError(f"{shown(key)} has no list of numbers {name!r}, which a sparse matrix needs")
        _refuse_text(each, f"{key}/{name}")
        if name != "data" and each.dtype.kind not in "iu":
            raise DataError(f"{shown(f'{key}/{name}')} holds numbers of type {each.dtype}, not whole ones")
        parts[name] = each
    stated = _attribute(found, "shape", key)
    stated = _attribute(found, "h5sparse_shape", key) if stated is None else stated
    try:
        declared = tuple(int(each) for each in np.atleast_1d(np.asarray(stated)))
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"the shape of {shown(key)} is {shown(stated)}, which is none") from error
    _refuse_shape(key, declared, shape)
    starts = read(parts["indptr"], f"{key}/indptr", slice(None)).astype(np.int64)
    stored = int(parts["data"].shape[0])
    ascending = len(starts) > 0 and bool((starts[1:] >= starts[:-1]).all())
    if len(starts) != shape[kind == "csc"] + 1 or starts[0] != 0 or starts[-1] != stored or not ascending:
        raise DataError(
            f"{shown(f'{key}/indptr')} does not divide its {stored:,} values into {shape[kind == 'csc']:,}"
            f" {'rows' if kind == 'csr' else 'columns'}: it must rise from 0 to {stored:,}; the file is damaged:"
            " copy or write it again"
        )
    if (indices := int(parts["indices"].shape[0])) != stored:
        raise DataError(f"{shown(key)} has {indices:,} indices of {stored:,} values; it is damaged")
    return StoredSparse(parts["data"], parts["indices"], starts, shape, kind, key)


def _attribute(found: Part, name: str, key: str) -> object:
    try:
        value: object = found.attrs.get(name)
    except BROKEN as error:
        raise DataError(f"the attribute {name!r} of {shown(key)} cannot be read; the file is damaged") from error
    return value


def size_of_file(stored: CellMatrix) -> int | None:
    """Bytes of the file in which a matrix lies, if it lies in one."""
    if not isinstance(stored, StoredDense | StoredSparse):
        return None
    values = stored.values
    return int(values.file.id.get_filesize() if isinstance(values, h5py.Dataset) else values.nbytes_stored())


def read(stored: Part, key: str, place: object = slice(None)) -> np.ndarray:
    """Read values of a checked dataset."""
    try:
        inflated = (
            _inflated(stored, place) if isinstance(place, slice) and isinstance(stored, h5py.Dataset) else None
        )
        block: np.ndarray = stored[place] if inflated is None else inflated
    except BROKEN as error:
        why = shown(str(error) or type(error).__name__, bare=True)
        raise DataError(
            f"values of {shown(key)} cannot be read ({why}); the file is damaged: copy it again"
        ) from error
    return block


def _inflated(stored: Part, place: object) -> np.ndarray | None:
    """Inflate chunks of gzip, which HDF5 does for one thread at a time; ``None`` for all that HDF5 has to read."""
    if not (isinstance(stored, h5py.Dataset) and isinstance(place, slice)):
        return None
    how, kind = stored.id.get_create_plist(), stored.dtype
    as_stored = stored.chunks is not None and stored.id.get_type() == h5py.h5t.py_create(kind)
    filters = [how.get_filter(number)[0] for number in range(how.get_nfilters())]
    if not as_stored or stored.ndim > 1 or filters != [h5py.h5z.FILTER_DEFLATE]:
        return None
    first, last, _ = place.indices(stored.shape[0])
    size, found = stored.chunks[0], np.empty(max(last - first, 0), kind)
    for start in range(first - first % size, last, size):
        inflate = zlib.decompressobj()
        try:
            left_out, content = stored.id.read_direct_chunk((start,))
            content = inflate.decompress(content, size * kind.itemsize + 1)  # one more, so that sums are checked
        except (*BROKEN, zlib.error):
            return None
        if left_out:
            return None
        if not inflate.eof or len(content) != size * kind.itemsize:  # HDF5 takes what lies in memory behind it
            raise ValueError(f"a chunk at {start:,} is too short or too long")
        inside = slice(max(first, start), min(last, start + size))
        values = np.frombuffer(content, kind)
        found[inside.start - first : inside.stop - first] = values[inside.start - start : inside.stop - start]
    return found


def _of_scipy(values: np.ndarray) -> np.ndarray:
    """Numbers of a type that scipy can add."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    known = native.dtype.kind in "iu" or (native.dtype.kind == "f" and native.dtype.itemsize in {4, 8})
    return native if known else native.astype(float)


def _refuse_shape(key: str, found: tuple[int, ...], wanted: tuple[int, int]) -> None:
    if found != wanted:
        rows, columns = wanted
        raise DataError(
            f"{shown(key)} has the shape {shown(found, bare=True)} beside {rows:,} rows of obs and {columns:,} of"
            " var; the file is damaged, or was changed after it was written: write it again with anndata"
        )


def _refuse_text(found: Part, key: str) -> None:
    if found.dtype.kind not in "iufb":
        raise DataError(f"{shown(key)} holds text; values must be numbers: write the file again")
