"""Screens from AnnData files: effects of conditions, or single cells read block by block."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from anndata.io import read_elem, sparse_dataset
from jaxtyping import Float
from scipy import sparse

from surrogates.data.design import design_of
from surrogates.data.dialects import Dialect
from surrogates.data.effects import screen_of_effects
from surrogates.data.pseudobulk import CellMatrix, screen_of_cells
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError


def screen_of_h5ad(
    path: Path,
    stated: Dialect,
    *,
    layer_key: str | None,
    readouts: Sequence[str] | None,
    provenance: Mapping[str, str],
) -> Screen:
    """Read an ``.h5ad`` file; conditions that have two rows or more on average are taken for cells.

    Args:
        path: The file.
        stated: What the caller states about ``obs``.
        layer_key: Layer to read instead of ``X``.
        readouts: Which variables to read; all by default.
        provenance: Facts about the file.

    Returns:
        The screen.

    Raises:
        DataError: If the file is damaged, is not AnnData, or its content is refused.
    """
    with _opened(path) as file:
        table = _design_table(_frame(file, "obs"), stated)
        names = tuple(_frame(file, "var").index.map(str))
        matrix = _matrix(file, layer_key, rows=len(table))
        design = design_of(table, stated)
        known = {**provenance, **_unit(file), **design.provenance}
        if design.is_replicated:
            screen = screen_of_cells(matrix, design, names, known)
            return screen if readouts is None else screen.with_readouts(_positions(readouts, screen.readouts))
        keep = _positions(names if readouts is None else readouts, names)
        return screen_of_effects(
            _in_memory(matrix)[:, keep],
            design,
            [names[column] for column in keep],
            standard_errors=None,
            annotations=table,
            provenance=known,
        )


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(
            f"{path.name!r} is not a readable HDF5 file ({error}); it may be cut short: copy it again"
        ) from error
    with file:
        yield file


def _frame(file: h5py.File, key: str) -> pd.DataFrame:
    frame = read_elem(file[key]) if key in file else None
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"the file has no table {key!r}: it is HDF5, but not AnnData; write it with anndata")
    return frame


def _design_table(obs: pd.DataFrame, stated: Dialect) -> pd.DataFrame:
    """Make a column of the row names when they are named like one, or when they are asked for."""
    name = "index" if obs.index.name is None else str(obs.index.name)
    if name in obs or (name == "index" and stated.target_col != "index"):
        return obs.reset_index(drop=True)
    return obs.reset_index(names=name)


def _matrix(file: h5py.File, layer_key: str | None, *, rows: int) -> CellMatrix:
    layers = list(file["layers"]) if "layers" in file else []
    if layer_key is not None and layer_key not in layers:
        raise UnknownNameError.from_known("layer", layer_key, layers)
    key = "X" if layer_key is None else f"layers/{layer_key}"
    if key not in file:
        raise DataError(f"the file has no X; name one of its layers ({', '.join(layers)}) with layer_key=")
    stored = file[key]
    matrix: CellMatrix = sparse_dataset(stored) if isinstance(stored, h5py.Group) else stored
    if matrix.shape[0] != rows:
        raise DataError(f"{key} has {matrix.shape[0]} rows beside {rows} rows of obs; the file is damaged")
    return matrix


def _in_memory(matrix: CellMatrix) -> Float[np.ndarray, "rows g"]:
    block = matrix[:]
    dense = sparse.csr_array(block).toarray() if sparse.issparse(block) else block
    return np.asarray(dense, dtype=np.float64)


def _unit(file: h5py.File) -> dict[str, str]:
    return {"unit": str(read_elem(file["uns/value"]))} if "uns/value" in file else {}


def _positions(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    where = {name: column for column, name in enumerate(names)}
    if unknown := next((name for name in wanted if name not in where), None):
        raise UnknownNameError.from_known("readout", unknown, names)
    return [where[name] for name in wanted]
