"""Effects and their standard errors from single cells, in one pass that never holds the whole matrix."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.batches import LEFT_OUT, Batches
from surrogates.data.io.design import Design
from surrogates.data.screen import Screen
from surrogates.errors import DataError, some_of

CHUNK = 1024
FEWEST_CELLS = 2
_NARROWER = 16  # blocks of columns are made dense where means are subtracted


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
    def squares(self) -> Float[np.ndarray, "c g"]:
        """Sum of squares about the mean."""
        about_mean: np.ndarray = np.maximum(self.square - self.total**2 / self.count[:, None], 0.0)
        return about_mean

    @property
    def mean_variance(self) -> Float[np.ndarray, "c g"]:
        """Squared standard error of the mean, from the sample variance."""
        count = self.count[:, None]
        squared_error: np.ndarray = self.squares / (count - 1) / count
        return squared_error


@dataclass(frozen=True)
class Baseline:
    """What is subtracted from each cell: the mean of the control cells of its batch."""

    means: Float[np.ndarray, "s g"]  # of each stratum
    of_row: Int[np.ndarray, "cells"]  # number of the stratum of each cell


def sum_cells(
    matrix: CellMatrix,
    codes: Int[np.ndarray, "cells"],
    conditions: int,
    *,
    less: Baseline | None = None,
    chunk: int = CHUNK,
) -> Moments:
    """Sum values and squares over the cells of each condition, in float64, less a baseline if there is one.

    Raises:
        DataError: If a value is not finite.
    """
    kept = np.flatnonzero(codes != LEFT_OUT)
    total = np.zeros((conditions, matrix.shape[1]))
    square = np.zeros_like(total)
    narrow = less is not None and getattr(matrix, "format", None) == "csc"
    for rows, columns in blocks_of(matrix, max(chunk // _NARROWER, 1) if narrow else chunk):
        block = _float64(matrix[rows, columns])
        if less is not None:  # rows that are not read are given some baseline, and not summed
            block = _dense(block) - less.means[less.of_row[rows]][:, columns]
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
    if design.batches is not None:
        return _within_batches(matrix, design, design.batches, control, chunk=chunk)
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


def _within_batches(
    matrix: CellMatrix, design: Design, batches: Batches, control: Int[np.ndarray, "c"], *, chunk: int
) -> CellEffects:
    """Compare each cell with the mean of the control cells of its batch, and average over those of a condition.

    Batches thus weigh as the cells of the condition lie in them. With ``s^2`` the variance of these differences,
    and ``s0^2`` that of control cells within batches, the squared standard error is
    ``s^2 / n + s0^2 * sum_b((n_b / n)^2 / n0_b)`` for ``n_b`` cells and ``n0_b`` control cells in batch ``b``.
    """
    is_control = np.append(control == np.arange(len(design)), False)[design.codes]
    strata = np.where(is_control, batches.of_row, LEFT_OUT)
    beside = sum_cells(matrix, strata, len(batches), chunk=chunk)
    here = np.where(is_control, LEFT_OUT, design.codes)
    with np.errstate(divide="ignore", invalid="ignore"):  # strata and conditions of which no cell is left
        means = np.nan_to_num(beside.mean)
        about_means = np.nan_to_num(beside.squares)
        sums = sum_cells(matrix, here, len(design), less=Baseline(means, batches.of_row), chunk=chunk)
        effects, own = sums.mean, sums.mean_variance
    enough = (sums.count >= FEWEST_CELLS) | (control == np.arange(len(design)))
    treated = np.flatnonzero(enough & (control != np.arange(len(design))))
    cells = np.zeros((len(design), len(batches)))
    read = here != LEFT_OUT
    np.add.at(cells, (here[read], batches.of_row[read]), 1.0)
    share = cells / np.maximum(cells.sum(axis=1, keepdims=True), 1.0)
    weight = share**2 @ (1.0 / np.maximum(beside.count, 1))
    where = np.array(batches.contexts, dtype=object)
    variance = np.zeros_like(effects)
    for context in set(design.contexts):
        of_context = where == context
        free = int((beside.count[of_context] - 1).clip(min=0).sum())
        if not free:
            raise DataError(
                f"no batch of {batches.column!r} in context {context!r} holds two control cells, without which no"
                " effect has a standard error; leave batch_col= (--batch-col) out"
            )
        among = np.array(design.contexts, dtype=object) == context
        variance[among] = weight[among, None] * about_means[of_context].sum(axis=0) / free
    errors = np.sqrt(own[treated] + variance[treated])
    return CellEffects(treated, effects[treated], errors, enough, int((design.codes != LEFT_OUT).sum()))


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
            "standard errors": "between cells; without the variation between guides"
            + (" and batches" if design.batches is None else ", within batches"),
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
        raise DataError(
            f"no control among the cells; their labels are {some_of(map(repr, labels))}. Name the"
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
