"""Where cells should go, from cells: the way from one group to another, or from a control to the wanted state."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget
from surrogates.data.io.annotated import LEFT_OUT, AnnotatedMatrix
from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.h5ad_file import design_table, frame, matrix, matrix_in_memory, readout_names
from surrogates.data.io.notes import COUNTS
from surrogates.data.io.pseudobulk.effects import FEWEST_CELLS, effects_of_cells
from surrogates.data.io.pseudobulk.sums import sum_cells
from surrogates.data.io.read_h5ad import values
from surrogates.data.io.untrusted.hdf5 import opened
from surrogates.errors import DataError, UnknownNameError


def state_of_cells(
    adata: AnnotatedMatrix,
    *,
    target_col: str | None = None,
    reference_key: str | None = None,
    layer_key: str | None = None,
    normalise: bool | None = None,
    name: str | None = None,
) -> ProfileTarget:
    """Take cells in a wanted state, beside cells of the control, as a target: the difference of their means.

    Args:
        adata: The cells of both groups, with values in the unit of the screen's cells (such as log-normalised
            expression).
        target_col: Column of ``obs`` that tells the groups apart; found as in :func:`surrogates.read_screen`.
        reference_key: Label of the control in that column.
        layer_key: Layer to read instead of ``X``.
        normalise: Whether values are counts of molecules, to be made logarithms as those of the screen were; must
            be said where they look like counts.
        name: What to call the target; by default the label of the wanted state.

    Returns:
        The target, with the standard errors of the difference.

    Raises:
        TargetError: If the cells are of several states besides the control, or of none.
        DataError: If the columns cannot be told, there are fewer than two cells of either group, or values look
            like counts and nothing is said of them.
    """
    stated = Dialect(target_col, reference_key, layer_key=layer_key, normalise=normalise)
    table = design_table(adata.obs, stated)
    design = design_of(table, stated)
    stored = matrix_in_memory(adata, layer_key, rows=len(table))
    cells, said = values(stored, list(adata.layers), stated)
    if COUNTS in said:
        raise DataError(f"{said[COUNTS]}; normalise=False takes them as they are")
    found = effects_of_cells(cells, design)
    labels = [design.perturbations[code].label for code in found.conditions]
    if len(labels) != 1:
        shown = ", ".join(map(repr, labels[:5])) or "none"
        raise TargetError(
            f"the cells of a target are of one state and its control, and these are of {len(labels)} states:"
            f" {shown}; keep the cells of one of them and the control"
        )
    return ProfileTarget(
        name=name or labels[0],
        readouts=readout_names(adata.var)[0],
        values=torch.from_numpy(found.effects[0]),
        standard_errors=torch.from_numpy(found.errors[0]),
    )


def cell_shift(path: Path, *, column: str, start: str, end: str) -> ProfileTarget:
    """Take the difference of means of two groups of cells, block by block."""
    with opened(path) as file:
        groups = _groups(frame(file, "obs"), column)
        readouts, _ = readout_names(frame(file, "var"))
        cells = matrix(file, None, rows=len(groups), columns=len(readouts))
        moments = sum_cells(cells, _codes(groups, column, (start, end)), 2)
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
