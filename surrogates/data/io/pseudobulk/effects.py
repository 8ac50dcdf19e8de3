"""Effects of conditions and their standard errors, from the sums over their cells and those of their controls."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import psutil
import torch
from jaxtyping import Bool, Float, Int

from surrogates.data.io.annotated import LEFT_OUT, CellMatrix
from surrogates.data.io.batches import Batches
from surrogates.data.io.design import Design
from surrogates.data.io.pseudobulk.parts import VALUES
from surrogates.data.io.pseudobulk.spread import HERE, Spread
from surrogates.data.io.pseudobulk.sums import Baseline, Moments, sum_cells
from surrogates.data.io.untrusted.sizes import refuse_beyond_memory
from surrogates.data.screen import Screen
from surrogates.errors import DataError, some_of

FEWEST_CELLS = 2
_AT_ONCE = 2**15  # effects that are compared with their controls at a time: the cache of a processor holds them
_OF_SUM = np.dtype(complex).itemsize
_TIMES = 4  # what sums take: those of all parts and of one, and twice that for the cells that are held


@dataclass(frozen=True)
class CellEffects:
    """Effects of conditions, from their cells and those of their control."""

    # Number of each condition in the design; those of too few cells are not among them.
    conditions: Int[np.ndarray, "n"]
    effects: Float[np.ndarray, "n g"]  # difference of the means
    errors: Float[np.ndarray, "n g"]  # standard errors of it
    enough: Bool[np.ndarray, "c"]  # whether each condition of the design has the fewest cells that are needed
    cells: int  # how many cells were read


def effects_of_cells(
    matrix: CellMatrix,
    design: Design,
    *,
    columns: Sequence[int] | None = None,
    most: int = VALUES,
    spread: Spread = HERE,
) -> CellEffects:
    """Compare the cells of each condition with the control cells of the same context.

    Sums that do not fit the memory are made for some of the readouts at a time.
    """
    control = _control_of(design)
    wanted = np.arange(matrix.shape[1]) if columns is None else np.asarray(columns)
    kept = design.codes[design.codes != LEFT_OUT]
    is_control = control == np.arange(len(design))
    enough = np.bincount(kept, minlength=len(design)) >= FEWEST_CELLS
    if design.batches is None:
        _refuse_few_controls(design, control, enough)
    else:
        enough |= is_control
    treated = np.flatnonzero(enough & ~is_control)
    size = f"effects of {len(treated):,} conditions on {len(wanted):,} readouts, with their standard errors,"
    refuse_beyond_memory(size, 2 * 8 * len(treated) * len(wanted))
    groups = max(len(design), 0 if design.batches is None else len(design.batches))
    shards = list(_shards(len(wanted), groups, spread))
    found = np.empty((len(treated), 2, len(wanted)) if len(shards) != 1 else 0)
    for shard in shards:
        summed = _Summed(matrix, design, control, wanted[shard], most, spread)
        sums, beside = _pooled(summed) if design.batches is None else _within_batches(summed, design.batches)
        if len(shards) == 1:  # take the place of the sums: those of a condition are read before it is written
            found = sums.sums.view(float).reshape(len(design), 2, -1)[: len(treated)]
        at_once = max(1, _AT_ONCE // (shard.stop - shard.start))
        for first in range(0, len(treated), at_once):
            rows = slice(first, first + at_once)
            here, (mean, variance) = sums.of(treated[rows]), beside(treated[rows])
            found[rows, 0, shard] = here.mean - mean
            np.sqrt(here.mean_variance + variance, out=found[rows, 1, shard])
    return CellEffects(treated, found[:, 0], found[:, 1], enough, len(kept))


def _shards(readouts: int, groups: int, spread: Spread) -> Iterator[slice]:
    """Cut readouts into ranges whose sums, those of a part, and the cells held beside them fit the memory."""
    memory = psutil.virtual_memory().available // 2 if spread.memory is None else spread.memory
    width = max(1, memory // (_OF_SUM * groups * _TIMES))
    for first in range(0, readouts, width):
        yield slice(first, min(first + width, readouts))


@dataclass(frozen=True)
class _Summed:
    """Cells of which some readouts are summed."""

    matrix: CellMatrix
    design: Design
    control: Int[np.ndarray, "c"]  # number of the control of each condition
    columns: Int[np.ndarray, "w"]
    most: int
    spread: Spread

    def by(self, codes: Int[np.ndarray, "cells"], number: int, less: Baseline | None = None) -> Moments:
        """Sum over the cells of each code."""
        return sum_cells(
            self.matrix, codes, number, less=less, columns=self.columns, most=self.most, spread=self.spread
        )


# Of some conditions: what is subtracted from their means, and added to the squared errors of these.
_Beside: TypeAlias = Callable[[Int[np.ndarray, "m"]], tuple[Float[np.ndarray, "..."], Float[np.ndarray, "m w"]]]


def _pooled(cells: _Summed) -> tuple[Moments, _Beside]:
    """Compare with all control cells of the context."""
    sums = cells.by(cells.design.codes, len(cells.design))
    controls, number = np.unique(cells.control, return_inverse=True)
    of_controls = sums.of(controls)
    mean, variance = of_controls.mean, of_controls.mean_variance
    return sums, lambda some: (mean[number[some]], variance[number[some]])


def _within_batches(cells: _Summed, batches: Batches) -> tuple[Moments, _Beside]:
    """Compare each cell with the mean of the control cells of its batch, and average over those of a condition.

    Batches thus weigh as the cells of the condition lie in them. With ``s^2`` the variance of these differences,
    and ``s0^2`` that of control cells within batches, the squared standard error is
    ``s^2 / n + s0^2 * sum_b((n_b / n)^2 / n0_b)`` for ``n_b`` cells and ``n0_b`` control cells in batch ``b``.
    """
    design = cells.design
    is_control = np.append(cells.control == np.arange(len(design)), np.False_)[design.codes]
    beside = cells.by(np.where(is_control, batches.of_row, LEFT_OUT), len(batches))
    with np.errstate(divide="ignore", invalid="ignore"):  # strata of which no cell is left
        means, about_means = np.nan_to_num(beside.mean), np.nan_to_num(beside.squares)
    here = np.where(is_control, LEFT_OUT, design.codes)
    sums = cells.by(here, len(design), Baseline(means, batches.of_row))
    number = np.zeros((len(design), len(batches)))
    read = here != LEFT_OUT
    np.add.at(number, (here[read], batches.of_row[read]), 1.0)
    share = number / np.maximum(number.sum(axis=1, keepdims=True), 1.0)
    weight = share**2 @ (1.0 / np.maximum(beside.count, 1))
    names = sorted(set(design.contexts))
    noise = np.stack([_noise(batches, beside.count, about_means, context) for context in names])
    context = np.array([names.index(each) for each in design.contexts])
    return sums, lambda some: (np.zeros(1), weight[some, None] * noise[context[some]])


def _noise(
    batches: Batches, count: Int[np.ndarray, "s"], squares: Float[np.ndarray, "s w"], context: str
) -> Float[np.ndarray, "w"]:
    """Variance of the control cells of a context within its batches."""
    inside = np.array([each == context for each in batches.contexts])
    free = int((count[inside] - 1).clip(min=0).sum())
    if not free:
        raise DataError(
            f"no batch of {batches.column!r} in context {context!r} holds two control cells, without which no"
            " effect has a standard error; leave batch_col= (--batch-col) out"
        )
    noise: np.ndarray = squares[inside].sum(axis=0) / free
    return noise


def screen_of_cells(
    matrix: CellMatrix,
    design: Design,
    readouts: Sequence[str],
    provenance: Mapping[str, str],
    *,
    columns: Sequence[int] | None = None,
    most: int = VALUES,
    spread: Spread = HERE,
) -> Screen:
    """Compare the cells of each condition with the control cells of the same context.

    The effect is the difference of means, its standard error ``sqrt(s1^2 / n1 + s0^2 / n0)``. The error counts
    cells as replicates: it leaves out what varies between guides and batches, and conditions of one context
    share the error of their control.
    """
    found = effects_of_cells(matrix, design, columns=columns, most=most, spread=spread)
    readouts = readouts if columns is None else [readouts[column] for column in columns]
    treated, effects, errors = found.conditions, found.effects, found.errors
    changing = (
        np.flatnonzero(effects.max(axis=0) > effects.min(axis=0)) if len(treated) else np.arange(len(readouts))
    )
    if len(changing) < len(readouts):
        effects, errors = effects[:, changing], errors[:, changing]
    return Screen.from_labels(
        torch.from_numpy(effects),
        [design.perturbations[code] for code in treated],
        [readouts[int(column)] for column in changing],
        contexts=[design.contexts[code] for code in treated],
        standard_errors=torch.from_numpy(errors),
        provenance={
            **provenance,
            "unit": provenance.get("unit", "difference of mean values per cell"),
            "standard errors": "between cells; without the variation between guides"
            + (" and batches" if design.batches is None else ", within batches"),
            "rows": f"{found.cells} cells",
            **_left_out(design, found.enough, len(readouts) - len(changing)),
        },
    )


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
