"""Effects and their standard errors from single cells, in one pass that never holds the whole matrix."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.design import LEFT_OUT, Design
from surrogates.data.screen import Screen
from surrogates.errors import DataError

CHUNK = 1024
FEWEST_CELLS = 2


@dataclass(frozen=True)
class Moments:
    """Sums over the cells of each condition."""

    count: Int[np.ndarray, "c"]  # number of cells
    total: Float[np.ndarray, "c g"]  # sum over the cells
    square: Float[np.ndarray, "c g"]  # sum of squares over the cells

    @property
    def mean(self) -> Float[np.ndarray, "c g"]:
        """Mean over the cells."""
        mean: np.ndarray = self.total / self.count[:, None]
        return mean

    @property
    def mean_variance(self) -> Float[np.ndarray, "c g"]:
        """Squared standard error of the mean, from the sample variance."""
        count = self.count[:, None]
        variance = (self.square - self.total**2 / count) / (count - 1)
        squared_error: np.ndarray = np.maximum(variance, 0.0) / count
        return squared_error


def sum_cells(
    matrix: CellMatrix, codes: Int[np.ndarray, "cells"], conditions: int, *, chunk: int = CHUNK
) -> Moments:
    """Sum values and squares over the cells of each condition, in float64.

    Raises:
        DataError: If a value is not finite.
    """
    kept = np.flatnonzero(codes != LEFT_OUT)
    total = np.zeros((conditions, matrix.shape[1]))
    square = np.zeros_like(total)
    for rows, columns in blocks_of(matrix, chunk):
        block = _float64(matrix[rows, columns])
        here = kept[slice(*np.searchsorted(kept, (rows.start, rows.stop)))]
        present, local = np.unique(codes[here], return_inverse=True)
        ones = np.ones(len(here))
        shape = (len(present), rows.stop - rows.start)
        belongs = scipy.sparse.csr_array((ones, (local, here - rows.start)), shape=shape)
        total[present, columns] += _dense(belongs @ block)
        square[present, columns] += _dense(belongs @ (block * block))
    if not np.isfinite(square).all():
        column = int(np.flatnonzero(~np.isfinite(square).all(axis=0))[0])
        raise DataError(
            f"the cells hold NaN or infinite values, first in readout number {column}; remove it first"
        )
    return Moments(np.bincount(codes[kept], minlength=conditions), total, square)


@dataclass(frozen=True)
class CellEffects:
    """Effects of conditions, from their cells and those of their control.

    Attributes:
        conditions: Number of each condition in the design; those of too few cells are not among them.
    """

    conditions: Int[np.ndarray, "n"]
    effects: Float[np.ndarray, "n g"]  # difference of the means
    errors: Float[np.ndarray, "n g"]  # standard errors of it
    enough: Bool[np.ndarray, "c"]  # whether each condition of the design has the fewest cells that are needed
    cells: int  # how many cells were read


def effects_of_cells(matrix: CellMatrix, design: Design, *, chunk: int = CHUNK) -> CellEffects:
    """Compare the cells of each condition with the control cells of the same context.

    Raises:
        DataError: If there are no control cells, or not two of them in each context, or values are not finite.
    """
    control = _control_of(design)
    sums = sum_cells(matrix, design.codes, len(design), chunk=chunk)
    enough = sums.count >= FEWEST_CELLS
    _refuse_few_controls(design, control, enough)
    treated = np.flatnonzero(enough & (control != np.arange(len(design))))
    # Conditions of one cell have no variance: they are not among the treated, and must not warn either.
    with np.errstate(divide="ignore", invalid="ignore"):
        mean, variance = sums.mean, sums.mean_variance
    effects = mean[treated] - mean[control[treated]]
    errors = np.sqrt(variance[treated] + variance[control[treated]])
    return CellEffects(treated, effects, errors, enough, int(sums.count.sum()))


def screen_of_cells(
    matrix: CellMatrix,
    design: Design,
    readouts: Sequence[str],
    provenance: Mapping[str, str],
    *,
    chunk: int = CHUNK,
) -> Screen:
    """Compare the cells of each condition with the control cells of the same context.

    The effect is the difference of means, its standard error ``sqrt(s1^2 / n1 + s0^2 / n0)``. The error counts
    cells as replicates: it leaves out what varies between guides and batches, and conditions of one context
    share the error of their control.

    Raises:
        DataError: If there are no control cells, or not two of them in each context, or values are not finite.
    """
    found = effects_of_cells(matrix, design, chunk=chunk)
    treated, effects, errors = found.conditions, found.effects, found.errors
    changing = np.flatnonzero(np.ptp(effects, axis=0) > 0) if len(treated) else np.arange(len(readouts))
    return Screen.from_labels(
        torch.from_numpy(effects[:, changing]),
        [design.perturbations[code] for code in treated],
        [readouts[int(column)] for column in changing],
        contexts=[design.contexts[code] for code in treated],
        standard_errors=torch.from_numpy(errors[:, changing]),
        provenance={
            **provenance,
            "unit": provenance.get("unit", "difference of mean values per cell"),
            "standard errors": "between cells; without the variation between guides and batches",
            "rows": f"{found.cells} cells",
            **_left_out(design, found.enough, len(readouts) - len(changing)),
        },
    )


def blocks_of(matrix: CellMatrix, chunk: int) -> Iterator[tuple[slice, slice]]:
    """Divide a matrix as it is stored: by columns if these lie together, else by rows."""
    cells, readouts = matrix.shape
    if getattr(matrix, "format", None) == "csc":
        for start in range(0, readouts, chunk):
            yield slice(0, cells), slice(start, min(start + chunk, readouts))
        return
    for start in range(0, cells, chunk):
        yield slice(start, min(start + chunk, cells)), slice(0, readouts)


def _float64(block: object) -> "np.ndarray | scipy.sparse.csr_array":
    if scipy.sparse.issparse(block):
        return scipy.sparse.csr_array(block, dtype=np.float64)
    return np.asarray(block, dtype=np.float64)


def _dense(block: "np.ndarray | scipy.sparse.csr_array") -> np.ndarray:
    return np.asarray(block) if isinstance(block, np.ndarray) else block.toarray()


def _control_of(design: Design) -> Int[np.ndarray, "c"]:
    """Find for each condition the control of its context."""
    orders = [perturbation.order for perturbation in design.perturbations]
    controls = {design.contexts[code]: code for code, order in enumerate(orders) if order == 0}
    if not controls:
        labels = sorted({perturbation.label for perturbation in design.perturbations})
        more = f" and {len(labels) - 8} more" if len(labels) > 8 else ""
        raise DataError(
            f"no control among the cells; their labels are {', '.join(map(repr, labels[:8]))}{more}. Name the"
            " label of the control with reference_key= (--reference-key)"
        )
    if bare := sorted(set(design.contexts) - controls.keys()):
        raise DataError(
            f"no control cells in context(s) {', '.join(map(repr, bare))}; remove their cells, or name another"
            " column of contexts with group_col= (--group-col)"
        )
    return np.array([controls[context] for context in design.contexts])


def _refuse_few_controls(design: Design, control: Int[np.ndarray, "c"], enough: Bool[np.ndarray, "c"]) -> None:
    for code in np.unique(control):
        if not enough[code]:
            raise DataError(
                f"context {design.contexts[code]!r} has fewer than {FEWEST_CELLS} control cells; without them"
                " no effect in it has a standard error; remove the context"
            )


def _left_out(design: Design, enough: Bool[np.ndarray, "c"], constant: int) -> dict[str, str]:
    few = [str(design.perturbations[code]) for code in np.flatnonzero(~enough)]
    said = {
        "dropped conditions": ", ".join(few) + f" (fewer than {FEWEST_CELLS} cells)" if few else "",
        "dropped readouts": f"{constant} that never change" if constant else "",
    }
    return {what: text for what, text in said.items() if text}
