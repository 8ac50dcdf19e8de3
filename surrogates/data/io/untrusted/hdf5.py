"""Parts of HDF5 files, checked before they are read: nothing from elsewhere, no circles, no odd types or sizes.

HDF5 follows links, opens other files and allocates what a header declares before anybody can look. Each part is
therefore walked first, by its links and headers alone, and refused by name.
"""

import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np

from surrogates.data.io.annotated import Stored
from surrogates.data.io.untrusted.sizes import MIB, refuse_too_large, refuse_unstored
from surrogates.errors import DataError, shown

# What h5py raises on damaged files: of HDF5, and of numpy where a type or shape cannot be.
BROKEN = (
    OSError, KeyError, RuntimeError, ValueError, TypeError, IndexError, AttributeError, OverflowError, MemoryError,
    SystemError,
)  # fmt: skip
_HEAP, _OF_HEAP = b"GCOL\x01\0\0\0", struct.Struct("<H6xQ")
_LARGEST_WALKED = 64 * MIB
_OF_ATTRIBUTES = {h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM, h5py.h5t.REFERENCE}
_MOST_ATTRIBUTES = 10**6  # values of one of them
_DEEPEST = 16
_OF_TEXT = 100  # bytes that a text takes in memory, beside its characters, or a number that becomes one
_OF_OBJECT = 1000  # bytes that a dataset takes
_ROWS = 256  # texts that are read at once to see how long they are
_MOST_TEXT = 1024**3  # bytes: fewer are not counted beforehand

Part: TypeAlias = Any  # a group or a dataset, of HDF5 or zarr


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading; what is refused of it names the file."""
    if not path.is_file():
        raise DataError(f"{str(path)!r} is a folder or no file; name an HDF5 file")
    if path.stat().st_size <= _LARGEST_WALKED:
        _refuse_endless(path)
    try:
        file = h5py.File(path, "r")
    except BROKEN as error:
        raise DataError(
            f"{path.name!r} is not a readable HDF5 file ({shown(error, bare=True)}); it may be cut short: copy it"
            " again"
        ) from error
    try:
        yield file
    except DataError as error:
        if type(error) is not DataError or repr(path.name) in str(error):
            raise
        raise DataError(f"{path.name!r}: {error}") from error
    finally:
        file.close()


def _refuse_endless(path: Path) -> None:
    """Walk the heaps of texts as HDF5 does, which never ends where one says that it takes no place."""
    raw = path.read_bytes()
    start = raw.find(_HEAP)
    while start >= 0:
        place, end = start + 16, start + int.from_bytes(raw[start + 8 : start + 16], "little")
        while place + 16 <= end:
            number, size = _OF_HEAP.unpack_from(raw, place) if place + 16 <= len(raw) else (0, 0)
            needed = (16 if number else 0) + -(-size // 8) * 8
            if not 0 < needed <= end - place:
                raise DataError(
                    f"{path.name!r} is damaged or cut short: a heap of texts at byte {start:,} does not fit;"
                    " copy it again"
                )
            place += needed
        start = raw.find(_HEAP, start + 16)


def names_in(parent: Stored, key: str) -> list[str]:
    """Names of what a group holds; none if there is no such group."""
    group = located(parent, key)
    try:
        return list(map(str, group)) if isinstance(group, Stored) else []
    except BROKEN as error:
        raise _damaged(key, error) from error


def part(parent: Stored, key: str, *, whole: bool) -> Part | None:
    """Find a part, and check it with all that lies below it."""
    found = located(parent, key)
    if not isinstance(found, h5py.Group | h5py.Dataset):
        return found
    try:
        needed = _walked(found, key, above=())
        if whole:
            refuse_too_large(key, needed, of_file=found.file.id.get_filesize())
    except BROKEN as error:
        raise _damaged(key, error) from error
    return found


def _damaged(key: str, error: BaseException) -> DataError:
    why = shown(str(error) or type(error).__name__, bare=True)
    return DataError(f"{shown(key)} cannot be read ({why}); the file is damaged: copy or write it again")


def located(parent: Stored, key: str) -> Part | None:
    """Go down to a part, link by link, none of which may lead elsewhere; what lies below it is not checked.

    A zarr store has no links, and its arrays are checked when it is opened.
    """
    if not isinstance(parent, h5py.Group):
        if key and key not in parent:
            return None
        return parent[key] if key else parent
    where: Part = parent
    names = [name for name in key.split("/") if name]
    for depth, name in enumerate(names):
        if not isinstance(where, h5py.Group):
            return None
        try:
            child = _child(where, name, "/".join(names[: depth + 1]))
        except BROKEN as error:
            raise _damaged(key, error) from error
        if child is None:
            return None
        where = child
    return where


def _child(parent: h5py.Group, name: str, key: str) -> Part | None:
    link = parent.get(name, getlink=True)
    if link is None:
        return None
    if isinstance(link, h5py.ExternalLink):
        raise DataError(
            f"{shown(key)} is a link into another file, {shown(link.filename)}; copy the data into this one"
            " (in Python: adata = anndata.read_h5ad(...); adata.write_h5ad(...))"
        )
    if isinstance(link, h5py.SoftLink):
        raise DataError(
            f"{shown(key)} is a link to {shown(link.path)}, which may lead anywhere; copy the data to where the"
            " link is"
        )
    found = parent[name]
    if not isinstance(found, h5py.Group | h5py.Dataset):
        raise DataError(f"{shown(key)} is a named type, neither a group nor a dataset; write the file again")
    return found


def _walked(found: Part, key: str, *, above: tuple[int, ...]) -> int:
    """Check a part and all below it; give the bytes that it takes in memory."""
    _refuse_attributes(found, key)
    if isinstance(found, h5py.Dataset):
        return _OF_OBJECT + int(_dataset(found, key))
    address = int(h5py.h5o.get_info(found.id).addr)
    if address in above or len(above) > _DEEPEST:
        raise DataError(f"{shown(key)} lies inside of itself: its links lead in a circle; write the file again")
    needed = _OF_OBJECT
    for name in found:
        below = f"{key}/{name}"
        if (child := _child(found, name, below)) is not None:
            needed += _walked(child, below, above=(*above, address))
    return needed


def _refuse_attributes(found: Part, key: str) -> None:
    """Refuse attributes of types that anndata does not write; HDF5 crashes on some of them."""
    for number in range(h5py.h5a.get_num_attrs(found.id)):
        attribute = h5py.h5a.open(found.id, index=number)
        if attribute.get_type().get_class() not in _OF_ATTRIBUTES or math.prod(attribute.shape) > _MOST_ATTRIBUTES:
            raise DataError(
                f"an attribute of {shown(key)} is neither numbers nor text, or too large; write it again"
            )


def _dataset(found: h5py.Dataset, key: str) -> int:
    """Check a dataset by its header; give the bytes that it takes in memory."""
    how = found.id.get_create_plist()
    if how.get_external_count() or how.get_layout() == h5py.h5d.VIRTUAL:
        where = "other files" if how.get_external_count() else "other datasets (it is virtual)"
        raise DataError(f"the values of {shown(key)} lie in {where}; copy them into this file")
    if found.shape is None:
        return 0
    kind, size = _kind(found, key), int(np.prod(found.shape, dtype=object))
    for number in range(how.get_nfilters()):
        code, _, _, name = how.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise DataError(
                f"{shown(key)} is compressed by {shown(name.decode('utf-8', 'replace'))} (filter {code}), which is"
                " not installed here; write the file again with gzip"
            )
    refuse_unstored(shown(key), size * found.dtype.itemsize, found.id.get_storage_size())
    if found.chunks is not None:
        chunk = int(np.prod(found.chunks, dtype=object)) * found.dtype.itemsize
        refuse_too_large(f"a chunk of {shown(key)}", chunk, of_file=found.file.id.get_filesize())
    if kind == "text":
        return size * (_OF_TEXT + _fixed(found)) + _variable(found, key, size)
    return size * _OF_TEXT


def _kind(found: h5py.Dataset, key: str) -> str:
    """Whether a dataset holds numbers or text; anything else is refused by name."""
    dtype = found.dtype
    if h5py.check_string_dtype(dtype) is not None or dtype.kind in "SU":
        return "text"
    if h5py.check_ref_dtype(dtype) is not None:
        what = "references to other parts"
    elif h5py.check_vlen_dtype(dtype) is not None:
        what = "arrays of several lengths"
    elif dtype.fields is not None:
        what = "records of several fields (as anndata before 0.7 wrote tables)"
    elif dtype.subdtype is not None:
        what = "an array in each place"
    elif dtype.kind in "iufb":
        return "numbers"
    else:
        what = "complex numbers" if dtype.kind == "c" else f"values of the type {dtype}"
    raise DataError(
        f"{shown(key)} holds {what}; neither numbers nor text: remove it, or write it as one of the two"
    )


def _fixed(found: h5py.Dataset) -> int:
    return int(found.dtype.itemsize) if found.dtype.kind in "SU" else 0


def _variable(found: h5py.Dataset, key: str, size: int) -> int:
    """Characters of texts of any length; many may be stored once and named many times."""
    of_file = int(found.file.id.get_filesize())
    if found.dtype.kind in "SU" or found.ndim != 1 or size * of_file <= _MOST_TEXT:
        return 0
    characters = 0
    for start in range(0, size, _ROWS):
        characters += sum(map(len, found[start : start + _ROWS]))
        refuse_too_large(shown(key), characters, of_file=of_file)
    return characters
