"""AnnData and MuData as zarr stores: a folder, or a folder in one .zip file; read block by block."""

import json
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import zarr
from zarr.storage import LocalStore, ZipStore

from surrogates.data.io.annotated import Stored
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.formats.multimodal import screen_of_modality
from surrogates.data.io.h5ad_file import frame
from surrogates.data.io.read_h5ad import screen_of_group
from surrogates.data.io.untrusted.hdf5 import names_in
from surrogates.data.io.untrusted.sizes import in_units, most_unpacked, refuse_too_large, refuse_unstored
from surrogates.data.screen import Screen
from surrogates.errors import DataError, shown

_DAMAGE = (
    ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_LONGEST_DOCUMENT = 50_000_000
_TABLES = frozenset({"obs", "var"})
_METADATA = frozenset({".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json"})


def screen_of_zarr(path: Path, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read what ``AnnData.write_zarr`` wrote, or one modality of what ``MuData.write_zarr`` wrote."""
    with opened_store(path) as group:
        if names_in(group, "mod"):
            return screen_of_modality(group, stated, provenance)
        if stated.modality is not None:
            raise DataError(f"modality={stated.modality!r} is stated, but {path.name!r} has no modalities")
        return screen_of_group(group, frame(group, "obs"), stated, provenance)


@contextmanager
def opened_store(path: Path) -> Iterator[Stored]:
    """Open a store for reading; what zarr and AnnData say of a damaged one becomes a refusal."""
    try:
        _refuse_hostile(path)
        with closing(LocalStore(path, read_only=True) if path.is_dir() else ZipStore(path, mode="r")) as store:
            group = zarr.open_group(store, mode="r")
            _refuse_arrays(group, of_file=_size(path))
            yield group
    except _DAMAGE as error:
        raise DataError(
            f"{path.name!r} cannot be read as zarr ({type(error).__name__}: {shown(error, bare=True)}); it may be"
            " incomplete: copy it again, or write it again with anndata"
        ) from error


def _refuse_hostile(path: Path) -> None:
    """Refuse pickles, which run code when they are read, and what is neither file nor folder."""
    if path.is_dir():
        entries = list(path.rglob("*"))
        if odd := next(
            (each for each in entries if each.is_symlink() or not (each.is_file() or each.is_dir())), None
        ):
            raise DataError(
                f"{path.name!r} holds {shown(odd.name)}, which is neither a file nor a folder; remove it"
            )
        documents = (each.read_bytes() for each in entries if each.name in _METADATA)
        _refuse_pickles(path, documents)
        return
    with zipfile.ZipFile(path) as packed:
        names = [name for name in packed.namelist() if name.rpartition("/")[2] in _METADATA]
        if outside := next((each for each in packed.namelist() if _outside(each)), None):
            raise DataError(f"{path.name!r} holds {shown(outside)}, which is no place in it; zip the folder again")
        unpacked = sum(each.file_size for each in packed.infolist())
        if unpacked > most_unpacked(_size(path)):
            raise DataError(
                f"{path.name!r} says that it unpacks to {in_units(unpacked)}, more than its size allows; unpack it"
            )
        if any(packed.getinfo(name).file_size > _LONGEST_DOCUMENT for name in names):
            raise DataError(f"{path.name!r} says more of its arrays than they can be; write it again with anndata")
        _refuse_pickles(path, (packed.read(name) for name in names))


def _outside(name: str) -> bool:
    """Tell whether a name in an archive starts at a root, climbs, or has a part without a name."""
    return bool({"", ".", ".."} & set(name.removesuffix("/").split("/")))


def _refuse_arrays(group: zarr.Group, *, of_file: int) -> None:
    """Hold what arrays declare against what is stored, and all but the matrices, read whole, against memory."""
    held: Counter[str] = Counter()
    for key, found in group.members(max_depth=None):
        if not isinstance(found, zarr.Array):
            continue
        wide = max(8, found.dtype.itemsize)
        declared = wide * math.prod(found.shape)
        refuse_unstored(shown(key), declared, found.nbytes_stored())
        refuse_too_large(f"a chunk of {shown(key)}", wide * math.prod(found.chunks), of_file=of_file)
        held[key.rpartition("/")[0]] += declared if _TABLES & set(key.split("/")) else 0
    for key, needed in held.items():
        refuse_too_large(shown(key), needed, of_file=of_file)


def _size(path: Path) -> int:
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")))


def _refuse_pickles(path: Path, documents: Iterable[bytes]) -> None:
    for document in documents:
        if any(str(word).endswith("pickle") for word in _words(json.loads(document))):
            raise DataError(
                f"{path.name!r} stores an array as pickles, which may hold a program; write it again with anndata"
            )


def _words(document: object) -> Iterator[object]:
    """Every value of what JSON says."""
    if isinstance(document, dict | list):
        for each in document.values() if isinstance(document, dict) else document:
            yield from _words(each)
    else:
        yield document
