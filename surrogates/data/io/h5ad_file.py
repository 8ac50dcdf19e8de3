"""The parts of AnnData, in a file or in memory, read one by one, with a reason where one is missing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy
from jaxtyping import Float

from surrogates.data.io.annotated import AnnotatedMatrix, CellMatrix
from surrogates.data.io.dialects import Dialect
from surrogates.errors import DataError, UnknownNameError


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open the file for reading.

    Raises:
        DataError: If it is not readable HDF5.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path.name!r} is not a readable HDF5 file ({error}); it may be cut short: copy it again"
        ) from error
    with file:
        yield file


def frame(file: h5py.File, key: str) -> pd.DataFrame:
    """Read a table.

    Raises:
        DataError: If there is none.
    """
    table = element(file[key]) if key in file else None
    if not isinstance(table, pd.DataFrame):
        raise DataError(f"the file has no table {key!r}: it is HDF5, but not AnnData; write it with anndata")
    return table


def design_table(obs: pd.DataFrame, stated: Dialect) -> pd.DataFrame:
    """Make a column of the row names when they are named like one, or when they are asked for."""
    name = "index" if obs.index.name is None else str(obs.index.name)
    if name in obs or (name == "index" and stated.target_col != "index"):
        return obs.reset_index(drop=True)
    return obs.reset_index(names=name)


def matrix(file: h5py.File, layer_key: str | None, *, rows: int) -> CellMatrix:
    """Find the matrix of values; it stays on disk.

    Raises:
        UnknownNameError: If there is no such layer.
        DataError: If there is no ``X``, or the number of rows differs.
    """
    layers = list(file["layers"]) if "layers" in file else []
    _refuse_unknown_layer(layer_key, layers)
    key = "X" if layer_key is None else f"layers/{layer_key}"
    if key not in file:
        raise _no_values("the file", layers)
    stored = file[key]
    values = on_disk(stored)
    if values.shape[0] != rows:
        raise DataError(f"{key} has {values.shape[0]} rows beside {rows} rows of obs; the file is damaged")
    return values


def matrix_in_memory(source: AnnotatedMatrix, layer_key: str | None, *, rows: int) -> CellMatrix:
    """Find the matrix of values of an ``AnnData``.

    Raises:
        UnknownNameError: If there is no such layer.
        DataError: If there is no ``X``, or it is empty.
    """
    layers = list(source.layers)
    _refuse_unknown_layer(layer_key, layers)
    stored = source.X if layer_key is None else source.layers[layer_key]
    if stored is None:
        raise _no_values("the AnnData", layers)
    if not rows:
        raise DataError("the AnnData has no rows; give cells, or one row per condition")
    return stored


def _refuse_unknown_layer(layer_key: str | None, layers: Sequence[str]) -> None:
    if layer_key is not None and layer_key not in layers:
        raise UnknownNameError.from_known("layer", layer_key, layers)


def _no_values(what: str, layers: Sequence[str]) -> DataError:
    return DataError(f"{what} has no X; name one of its layers ({', '.join(layers)}) with layer_key=")


def element(stored: h5py.Group | h5py.Dataset) -> object:
    """Read one element of the file as AnnData writes it."""
    from anndata.io import read_elem  # noqa: PLC0415 - takes half a second

    return read_elem(stored)


def on_disk(stored: h5py.Group | h5py.Dataset) -> CellMatrix:
    """Leave a matrix where it is, sparse or dense."""
    from anndata.io import sparse_dataset  # noqa: PLC0415 - takes half a second

    matrix: CellMatrix = sparse_dataset(stored) if isinstance(stored, h5py.Group) else stored
    return matrix


def in_memory(stored: CellMatrix) -> Float[np.ndarray, "rows g"]:
    """Read a whole matrix."""
    block = stored[:]
    dense = scipy.sparse.csr_array(block).toarray() if scipy.sparse.issparse(block) else block
    return np.asarray(dense, dtype=np.float64)


def positions(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find the numbers of some readouts.

    Raises:
        UnknownNameError: If there is no such readout.
    """
    where = {name: column for column, name in enumerate(names)}
    if unknown := next((name for name in wanted if name not in where), None):
        raise UnknownNameError.from_known("readout", unknown, names)
    return [where[name] for name in wanted]
