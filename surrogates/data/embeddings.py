"""Tables of embeddings, from symbol to vector: CSV and TSV, parquet, npz, and obsm or varm of an .h5ad file."""

import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from surrogates.data.catalogue import GENE_FEATURES, is_available, locate
from surrogates.data.columns import folded
from surrogates.data.descriptors import Descriptors, Kernel, read_symbols
from surrogates.data.io.h5ad_file import frame
from surrogates.data.io.tabular import holds_numbers, read_delimited
from surrogates.data.io.untrusted.hdf5 import located, names_in, opened
from surrogates.data.io.untrusted.matrices import read, stored_matrix
from surrogates.data.io.untrusted.parquet import read_parquet
from surrogates.data.io.untrusted.sizes import refuse_too_large
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, listed, shown, some_of

ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".parquet", ".npz", ".h5ad")
# Lower case, without blanks, dots, dashes and underscores.
_SYMBOL_COLUMNS = ("symbol", "gene", "genesymbol", "genename", "target", "name", "")
_IN_H5AD = ("obsm", "varm")
# What zipfile and numpy raise on damaged archives.
_BROKEN = (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, MemoryError, NotImplementedError)
_LONGEST_HEADER = 10_000


def read_embedding(source: str | Path, *, kernel: Kernel = "rbf") -> Descriptors:
    """Read one vector for each symbol.

    Args:
        source: A table with a column of symbols and otherwise numbers (``.csv``, ``.tsv``, ``.parquet``), an
            ``.npz`` of one array of symbols and one of vectors, or an ``.h5ad`` with vectors in ``obsm`` or
            ``varm``; where it holds several, ``file.h5ad:obsm/X_name`` says which.
        kernel: How vectors are compared.

    Returns:
        Descriptors by the name of the file, which know symbols by their other names as well where the table of
        HGNC is at hand; a row of exactly a target's name comes first. A row without any value is left out.

    Raises:
        DataError: If the file is none of these or damaged, a symbol is empty or occurs twice, vectors and symbols
            differ in number, or a value is text, missing or not finite.
    """
    path, key = Path(source), ""
    if not path.exists() and ".h5ad:" in str(source):
        before, _, key = str(source).rpartition(":")
        path = Path(before)
    if not path.is_file():
        raise DataError(f"there is no file {shown(str(path))}; name a table of embeddings, {', '.join(ENDINGS)}")
    if not path.name.endswith(ENDINGS):
        raise DataError(f"{path.name!r} ends like no table of embeddings; give one of {', '.join(ENDINGS)}")
    if path.suffix == ".npz":
        symbols, vectors = _of_npz(path)
    else:
        symbols, vectors = _of_h5ad(path, key) if path.suffix == ".h5ad" else _of_table(path)
    named = [str(each).strip() for each in symbols]
    if "" in named:
        raise DataError(f"row {named.index('') + 1} of {path.name!r} has no symbol; name it or remove it")
    resolver = read_symbols(locate(GENE_FEATURES)) if is_available(GENE_FEATURES) else None
    if len(named) != len(vectors):
        raise DataError(
            f"{path.name!r} has {len(named):,} symbols and {len(vectors):,} vectors; give one for each"
        )
    held = ~np.isnan(vectors).all(axis=1)  # a row without a value is a symbol without a vector
    values = torch.from_numpy(np.ascontiguousarray(vectors[held], dtype=np.float64))
    kept = tuple(name for name, having in zip(named, held.tolist(), strict=True) if having)
    return Descriptors(path.name.partition(".")[0], kernel, kept, values, resolver)


def coverage(descriptors: Descriptors, vocabulary: Vocabulary) -> str:
    """Say how many targets have a vector, and which have none.

    Args:
        descriptors: The table.
        vocabulary: What can be acted upon.

    Returns:
        One line.

    Raises:
        DataError: If no target has one.
    """
    missing, targets = descriptors.unresolved(vocabulary), {*vocabulary.targets}
    if len(missing) == len(targets):
        raise DataError(
            f"no target has a vector in {descriptors.name!r}: it names {listed(descriptors.symbols[:3])}, the data"
            f" {listed(sorted(targets)[:3])}; name both alike"
        )
    known = f"{len(targets) - len(missing)} of {len(targets)} targets have a vector in {descriptors.name!r}"
    return known + (f"; missing: {some_of(missing)}" if missing else "")


def _of_table(path: Path) -> tuple[np.ndarray, Float[np.ndarray, "m f"]]:
    if path.suffix == ".parquet":
        table = read_parquet(path)
    else:
        try:
            table, _ = read_delimited(path, is_text=_names_symbols, row_names="symbol")
        except (ValueError, OverflowError) as error:  # a row with more fields than the header, far below it
            raise DataError(
                f"{path.name!r} is no table ({shown(error, bare=True)}); give each row as many"
                " values as the header has names"
            ) from error
    names = [name for name in table if _names_symbols(name)][:1]
    names = names or [name for name, kind in table.dtypes.items() if kind.kind not in "iufb"]
    if len(names) != 1:
        raise DataError(
            f"{path.name!r} needs one column of symbols, called symbol, beside columns of numbers; it has"
            f" {listed(names) if names else 'none'} among {listed(table)}"
        )
    named, numbers = table[names[0]].fillna("").astype(str), table.drop(columns=names)
    if not len(numbers):
        raise DataError(f"{path.name!r} holds no vectors; give a row for each symbol, with numbers")
    for column, kind in numbers.dtypes.items():
        if not holds_numbers(kind):
            wrong = next((str(each) for each in numbers[column] if not _is_number(each)), "")
            raise DataError(
                f"column {shown(str(column))} of {path.name!r} holds {shown(wrong)}, which is no number; drop it,"
                " or correct it"
            )
    return named.to_numpy(), numbers.to_numpy(np.float64, na_value=math.nan)


def _names_symbols(column: object) -> bool:
    return folded(str(column)) in _SYMBOL_COLUMNS


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def _of_npz(path: Path) -> tuple[np.ndarray, Float[np.ndarray, "m f"]]:
    try:
        arrays = _arrays(path)
    except (*_BROKEN, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path.name!r} is no readable .npz of plain arrays ({shown(error, bare=True)}); write it with"
            " numpy.savez(file, symbols=numpy.array(names, dtype=str), vectors=matrix)"
        ) from error
    texts = [name for name, each in arrays.items() if each.dtype.kind == "U" and each.ndim == 1]
    tables = [name for name, each in arrays.items() if each.dtype.kind in "iuf" and each.ndim == 2]
    if len(texts) != 1 or len(tables) != 1:
        kinds = listed(f"{name} {each.dtype}{list(each.shape)}" for name, each in arrays.items())
        raise DataError(f"{path.name!r} needs one array of symbols and one table of numbers; it holds {kinds}")
    return arrays[texts[0]], arrays[tables[0]].astype(np.float64)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """Read plain arrays, after a look at what their headers declare; objects, which are code, are refused."""
    of_file = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            with archive.open(member) as file:
                major, _ = np.lib.format.read_magic(file)
                header = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
                shape, _, kind = header(file, max_header_size=_LONGEST_HEADER)
            declared = math.prod(shape) * kind.itemsize
            refuse_too_large(f"{member.filename!r} of {path.name!r}", declared, of_file=of_file)
            if kind.hasobject or declared > member.file_size:
                raise ValueError(f"{member.filename} holds objects, or declares more than it holds")
    with np.load(path, allow_pickle=False, max_header_size=_LONGEST_HEADER) as found:
        return {name: found[name] for name in found.files}


def _of_h5ad(path: Path, key: str) -> tuple[np.ndarray, Float[np.ndarray, "m f"]]:
    with opened(path) as file:
        known = [f"{part}/{name}" for part in _IN_H5AD for name in names_in(file, part)]
        if not key and len(known) == 1:
            key = known[0]
        if key not in known:
            asked = f"no {shown(key)}" if key else f"{len(known)} tables"
            raise DataError(
                f"{path.name!r} has {asked} in obsm and varm: {listed(known)}; name one, as"
                f" {path.name}:obsm/X_embedding"
            )
        names = frame(file, key[:3]).index
        found = located(file, key)
        width = found.shape[1] if found is not None and getattr(found, "ndim", 0) == 2 else 0
        if found is None or not width:
            raise DataError(f"{shown(key)} of {path.name!r} is no table of numbers; write it as an array")
        stored = stored_matrix(file, key, shape=(len(names), int(width)))
        if stored is None:
            raise DataError(f"{shown(key)} of {path.name!r} is empty; write it again")
        refuse_too_large(
            f"{shown(key)} of {path.name!r}", 8 * len(names) * int(width), of_file=path.stat().st_size
        )
        return names.to_numpy(), np.asarray(read(found, key), dtype=np.float64)
