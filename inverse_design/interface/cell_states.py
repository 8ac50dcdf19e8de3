"""The way from one group of cells to another, as a target."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import torch
from anndata.io import read_elem, sparse_dataset

from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget
from surrogates.data.design import LEFT_OUT
from surrogates.data.pseudobulk import FEWEST_CELLS, CellMatrix, sum_cells
from surrogates.errors import UnknownNameError


def cell_shift(path: Path, *, column: str, start: str, end: str) -> ProfileTarget:
    """Take the difference of means of two groups of cells, block by block.

    Args:
        path: An ``.h5ad`` file of cells, in the unit of the screen (usually log-normalised).
        column: Column of ``obs`` that names the groups.
        start: The group that the cells are like now.
        end: The group that they should become like.

    Returns:
        The difference on every variable of the file, with its standard error.

    Raises:
        TargetError: If the file cannot be read, or a group has too few cells.
        UnknownNameError: If there is no such column or group.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise TargetError(f"{str(path)!r} is not a readable .h5ad file ({error})") from error
    with file:
        if not {"obs", "var", "X"} <= set(file):
            raise TargetError(f"{path.name!r} has no obs, var and X: it is HDF5, but not AnnData")
        groups = _groups(read_elem(file["obs"]), column)
        readouts = tuple(read_elem(file["var"]).index.map(str))
        stored = file["X"]
        matrix: CellMatrix = sparse_dataset(stored) if isinstance(stored, h5py.Group) else stored
        moments = sum_cells(matrix, _codes(groups, column, (start, end)), 2)
    difference, variance = moments.mean[1] - moments.mean[0], moments.mean_variance.sum(0)
    return ProfileTarget(
        name=f"{start} to {end} ({path.name}, {column!r})",
        readouts=readouts,
        values=torch.from_numpy(difference),
        standard_errors=torch.from_numpy(np.sqrt(variance)),
    )


def _groups(obs: pd.DataFrame, column: str) -> pd.Series:
    if column not in obs:
        raise UnknownNameError.from_known("column of cells", column, map(str, obs.columns))
    return obs[column].astype(str)


def _codes(groups: pd.Series, column: str, wanted: tuple[str, str]) -> np.ndarray:
    codes = np.full(len(groups), LEFT_OUT, dtype=np.int64)
    for code, name in enumerate(wanted):
        chosen = (groups == name).to_numpy()
        if not chosen.any():
            raise UnknownNameError.from_known(f"group of {column!r}", name, groups.unique())
        if chosen.sum() < FEWEST_CELLS:
            raise TargetError(f"group {name!r} of {column!r} has {chosen.sum()} cell(s); it needs {FEWEST_CELLS}")
        codes[chosen] = code
    return codes
