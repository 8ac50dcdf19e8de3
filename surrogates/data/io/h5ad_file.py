"""The parts of AnnData, in a file or in memory, read one by one, with a reason where one is missing."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence

import h5py
import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from surrogates.data.columns import folded
from surrogates.data.io.annotated import AnnotatedMatrix, CellMatrix, Stored
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.notes import NOTE
from surrogates.data.io.untrusted.hdf5 import Part, names_in, part
from surrogates.data.io.untrusted.matrices import size_of_file, stored_matrix
from surrogates.data.io.untrusted.sizes import refuse_beyond_memory, refuse_unlikely
from surrogates.errors import DataError, UnknownNameError, shown

_ENSEMBL = re.compile(r"ENS[A-Z]*G\d{6,}(\.\d+)?")
_SYMBOLS = frozenset({
    "gene_name", "gene_names", "gene_symbol", "gene_symbols", "symbol", "symbols", "feature_name", "gene", "genes",
    "gene_short_name", "hgnc_symbol", "hgnc_symbols", "external_gene_name", "name",
})  # fmt: skip


def frame(parent: Stored, key: str) -> pd.DataFrame:
    """Read a table, after a look at all that it is made of."""
    found = part(parent, key, whole=True)
    table = None if found is None else element(found, key)
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"the file has no table {key!r}: it is not AnnData; write it with anndata")
    foreign = {
        name: kind for name, kind in table.dtypes.items() if isinstance(kind, np.dtype) and not kind.isnative
    }
    return table.astype({name: kind.newbyteorder("=") for name, kind in foreign.items()})


def design_table(obs: pd.DataFrame, stated: Dialect) -> pd.DataFrame:
    """Make a column of the row names when they are named like one, or when they are asked for."""
    name = "index" if obs.index.name is None else str(obs.index.name)
    if name in obs or (name == "index" and stated.target_col != "index"):
        return obs.reset_index(drop=True)
    return obs.reset_index(names=name)


def matrix(parent: Stored, layer_key: str | None, *, rows: int, columns: int) -> CellMatrix:
    """Find the matrix of values; it stays on disk."""
    layers = names_in(parent, "layers")
    _refuse_unknown_layer(layer_key, layers)
    key = "X" if layer_key is None else f"layers/{layer_key}"
    found = stored_matrix(parent, key, shape=(rows, columns))
    if found is None:
        raise _no_values("the file", layers, raw="X" in names_in(parent, "raw"))
    return found


def matrix_in_memory(source: AnnotatedMatrix, layer_key: str | None, *, rows: int) -> CellMatrix:
    """Find the matrix of values of an ``AnnData``."""
    layers = list(source.layers)
    _refuse_unknown_layer(layer_key, layers)
    stored = source.X if layer_key is None else source.layers[layer_key]
    if stored is None:
        raise _no_values("the AnnData", layers, raw=getattr(source, "raw", None) is not None)
    if not rows:
        raise DataError("the AnnData has no rows; give cells, or one row per condition")
    return stored


def _refuse_unknown_layer(layer_key: str | None, layers: Sequence[str]) -> None:
    if layer_key is not None and layer_key not in layers:
        raise UnknownNameError.from_known("layer", layer_key, layers)


def _no_values(what: str, layers: Sequence[str], *, raw: bool) -> DataError:
    if layers:
        return DataError(
            f"{what} has no X; name one of its layers, {', '.join(layers)}, with layer_key= (--layer-key)"
        )
    if raw:
        return DataError(
            f"{what} has no X, and values in raw/X only, which may be counts; copy them (in Python:"
            " adata = adata.raw.to_adata()), normalise them if they are counts, and write the file again"
        )
    return DataError(f"{what} has neither X nor layers: there are no values to read")


def element(found: Part, key: str) -> object:
    """Read one checked part of the file as AnnData writes it."""
    try:
        if (plain := _plain(found)) is not None:
            return plain
        from anndata.io import read_elem  # noqa: PLC0415 - takes half a second

        with warnings.catch_warnings():  # of old encodings, which are read all the same
            warnings.simplefilter("ignore")
            return read_elem(found)
    except Exception as error:  # those of AnnData have no class in common
        why = shown(str(error) or type(error).__name__, bare=True)
        raise DataError(f"{shown(key)} is not as anndata writes it ({why}); write the file again") from error


def _plain(found: Part) -> Part:
    """Read a table of HDF5 whose columns are numbers, texts and categories, or one of these; else ``None``."""
    if not isinstance(found, h5py.Group | h5py.Dataset) or found.attrs.get("encoding-version") != "0.2.0":
        return None
    kind = found.attrs.get("encoding-type")
    if kind == "dataframe":
        names, index = [str(name) for name in found.attrs["column-order"]], str(found.attrs["_index"])
        parts = {name: _plain(found[name]) for name in (index, *names)}
        if any(part is None for part in parts.values()):
            return None
        rows = pd.Index(parts[index], name=None if index == "_index" else index)
        return pd.DataFrame({name: parts[name] for name in names}, index=rows, columns=names or None)
    if kind == "categorical":
        codes, categories = found["codes"][:], _plain(found["categories"])
        ordered = bool(found.attrs["ordered"])
        return None if categories is None else pd.Categorical.from_codes(codes, categories, ordered=ordered)
    if kind in {"string-array", "string"}:
        return found.asstr()[()]
    return found[()] if kind == "array" else None


def readout_names(var: pd.DataFrame) -> tuple[tuple[str, ...], dict[str, str]]:
    """Name the readouts: by symbols if the row names are Ensembl ids, and each by a name of its own."""
    names, said = [str(name) for name in var.index], {}
    if names and sum(bool(_ENSEMBL.fullmatch(name)) for name in names) > len(names) / 2:
        column = next((name for name in var if folded(name) in _SYMBOLS), None)
        if column is not None:
            symbols = ["" if pd.isna(name) else str(name).strip() for name in var[column]]
            names = [symbol or name for symbol, name in zip(symbols, names, strict=True)]
            said["readout names"] = f"from {str(column)!r} of var, as its row names are Ensembl ids"
    count: Counter[str] = Counter()
    taken, unique = set(names), []
    for name in names:
        again = name
        while count[name] and again in taken:
            again = f"{name}-{count[name]}"
            count[name] += 1
        count[name] += count[name] == 0
        taken.add(again)
        unique.append(again)
    if (
        repeated := sorted({name for name in names if names.count(name) > 1})
        if len(set(names)) < len(names)
        else []
    ):
        said[f"{NOTE}of repeated readouts"] = (
            f"{len(repeated)} readout name(s) occur more than once ({', '.join(repeated[:4])}); told apart as"
            f" {repeated[0]!r}, {f'{repeated[0]}-1'!r} and so on"
        )
    return tuple(unique), said


def in_memory(stored: CellMatrix) -> Float[np.ndarray, "rows g"]:
    """Read a whole matrix."""
    rows, columns = stored.shape
    what, needed = f"a matrix of {rows:,} rows and {columns:,} columns", 3 * 8 * rows * columns
    refuse_beyond_memory(what, needed)
    if (of_file := size_of_file(stored)) is not None:
        refuse_unlikely(what, needed, of_file=of_file)
    block = stored[slice(0, stored.shape[0]), slice(0, stored.shape[1])]
    dense = scipy.sparse.csr_array(block).toarray() if scipy.sparse.issparse(block) else block
    return np.asarray(dense, dtype=np.float64)
