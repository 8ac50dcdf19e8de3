"""Sums over the cells of each condition, in one pass that holds a block of cells and the sums."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import scipy
from jaxtyping import Complex, Float, Int

from surrogates.data.io.annotated import LEFT_OUT, CellMatrix
from surrogates.data.io.pseudobulk.normalised import LogNormalised, log_normalised
from surrogates.data.io.pseudobulk.parts import (
    VALUES,
    MatrixPlace,
    blocks_of,
    by_columns,
    cuts,
    opened_source,
    parts_of,
    read_ahead,
    read_block,
    sources_of,
)
from surrogates.data.io.pseudobulk.spread import HERE, Spread
from surrogates.errors import DataError

_CACHED = 2**17  # values whose keys fit into the cache of a processor
_HELD = 2  # values for each sum: cells of one condition meet, and share the way to its sums


@dataclass(frozen=True)
class Moments:
    """Sums over the cells of each condition."""

    count: Int[np.ndarray, "c"]  # number of cells
    sums: Complex[np.ndarray, "c g"]  # sum over the cells, and of squares as the imaginary part

    @property
    def total(self) -> Float[np.ndarray, "c g"]:
        """Sum over the cells."""
        return self.sums.real

    @property
    def square(self) -> Float[np.ndarray, "c g"]:
        """Sum of squares over the cells."""
        return self.sums.imag

    @cached_property
    def mean(self) -> Float[np.ndarray, "c g"]:
        """Mean over the cells."""
        mean: np.ndarray = self.total / self.count[:, None]
        return mean

    @property
    def squares(self) -> Float[np.ndarray, "c g"]:
        """Sum of squares about the mean."""
        about_mean: np.ndarray = self.total * self.mean
        np.subtract(self.square, about_mean, out=about_mean)
        np.maximum(about_mean, 0.0, out=about_mean)
        return about_mean

    @property
    def mean_variance(self) -> Float[np.ndarray, "c g"]:
        """Squared standard error of the mean, from the sample variance."""
        count = self.count[:, None]
        squared_error = self.squares
        squared_error /= (count - 1) * count
        return squared_error

    def of(self, conditions: Int[np.ndarray, "n"]) -> "Moments":
        """Take some of the conditions."""
        return Moments(self.count[conditions], self.sums[conditions])


@dataclass(frozen=True)
class Baseline:
    """What is subtracted from each cell: the mean of the control cells of its batch."""

    means: Float[np.ndarray, "s w"]  # of each stratum, on the readouts that are wanted
    of_row: Int[np.ndarray, "cells"]  # number of the stratum of each cell


@dataclass(frozen=True)
class PartTask:
    """Cells whose sums are wanted. What is known of rows is known of those of the part, or of all by columns."""

    source: CellMatrix | MatrixPlace
    part: tuple[int, int]  # range of rows, or of columns if these lie together
    codes: Int[np.ndarray, "rows"]
    conditions: int
    columns: Int[np.ndarray, "w"] | None  # which are wanted, ``None`` for all in their order
    scale: Float[np.ndarray, "rows"] | None  # by which counts are made logarithms
    less: Baseline | None
    most: int  # values that are held at a time


def sum_cells(
    matrix: CellMatrix,
    codes: Int[np.ndarray, "cells"],
    conditions: int,
    *,
    less: Baseline | None = None,
    columns: Int[np.ndarray, "w"] | None = None,
    most: int = VALUES,
    spread: Spread = HERE,
) -> Moments:
    """Sum values and squares over the cells of each condition, in double precision.

    Sums are made for each part of the matrix and added in the order of the parts, so that they are the same bytes
    for any number of workers. Sums of squares about a baseline are exact for dense cells; of sparse ones the zeros
    are not visited: the error is that of ``sum(x^2) - 2 m sum(x) + n m^2`` in double precision.
    """
    readouts = matrix.shape[1]
    if columns is not None and np.array_equal(columns, np.arange(readouts)):
        columns = None
    width = readouts if columns is None else len(columns)
    where = _places(columns, readouts)
    tasks = list(_tasks(matrix, codes, conditions, columns, less=less, most=most))
    sums = None
    for task, found in zip(tasks, spread.in_order(sum_part, tasks), strict=True):
        if by_columns(task.source):
            sums = np.zeros((conditions, width), dtype=complex) if sums is None else sums
            into = where[slice(*task.part)]
            sums[:, into[into >= 0]] += found
        elif sums is None:
            sums = found
        else:
            sums += found
    sums = np.zeros((conditions, width), dtype=complex) if sums is None else sums
    if not np.isfinite(sums.imag.sum()):
        _refuse_not_finite(sums, where)
    return Moments(np.bincount(codes[codes != LEFT_OUT], minlength=conditions), sums)


def _places(columns: Int[np.ndarray, "w"] | None, readouts: int) -> Int[np.ndarray, "g"]:
    """Find which of the wanted columns each column is, ``-1`` if none."""
    if columns is None:
        return np.arange(readouts)
    where = np.full(readouts, -1)
    where[columns] = np.arange(len(columns))
    return where


def _tasks(
    matrix: CellMatrix,
    codes: Int[np.ndarray, "cells"],
    conditions: int,
    columns: Int[np.ndarray, "w"] | None,
    *,
    less: Baseline | None,
    most: int,
) -> Iterator[PartTask]:
    """One task for each part of each source, in the order in which their sums are added."""
    counts, scale = (matrix.counts, matrix.scale) if isinstance(matrix, LogNormalised) else (matrix, None)
    for source, start in sources_of(counts):
        for first, last in parts_of(source, conditions * matrix.shape[1]):
            across = (0, source.shape[0]) if by_columns(source) else (first, last)
            rows = slice(start + across[0], start + across[1])
            yield PartTask(
                source=source,
                part=(first, last),
                codes=codes[rows],
                conditions=conditions,
                columns=columns,
                scale=None if scale is None else scale[rows],
                less=None if less is None else Baseline(less.means, less.of_row[rows]),
                most=most,
            )


def sum_part(task: PartTask, threads: int = 1) -> Complex[np.ndarray, "c w"]:
    """Sum the cells of one part."""
    with opened_source(task.source) as cells, np.errstate(over="ignore", invalid="ignore"):
        return (_of_columns if by_columns(cells) else _of_rows)(cells, task, threads)


def _of_rows(cells: CellMatrix, task: PartTask, threads: int) -> Complex[np.ndarray, "c w"]:
    """Sum rows that lie together."""
    width = cells.shape[1] if task.columns is None else len(task.columns)
    where = None if task.columns is None else _places(task.columns, cells.shape[1])
    sums, begun, last, sparse = np.empty((task.conditions, width), dtype=complex), 0, 0, False
    blocks = read_ahead(cells, blocks_of(cells, task.part, task.most), threads, partial(_normalised, task))
    for block in _joined(blocks, min(_HELD * sums.size, np.iinfo(np.int32).max)):
        first, last, sparse = last, last + block.shape[0], scipy.sparse.issparse(block)
        codes = task.codes[first:last]
        # Cells of one condition in turn keep its sums in the cache; those that are left out come first.
        order = np.argsort(codes, kind="stable")[np.count_nonzero(codes == LEFT_OUT) :]
        sizes = np.diff(block.indptr)[order] if sparse else np.full(len(order), block.shape[1])
        for start, stop in cuts(np.append(0, np.cumsum(sizes)), _CACHED):
            rows = order[start:stop]
            after = codes[rows[-1]] + 1
            sums[begun:after] = 0.0  # where they stay in the cache until they are added to
            begun = max(begun, after)
            less = None if task.less is None else Baseline(task.less.means, task.less.of_row[first + rows])
            if sparse:
                _add_sparse(sums, block[rows], codes[rows], where, less)
            else:
                _add_dense(sums, block[rows] if where is None else block[rows][:, task.columns], codes[rows], less)
    sums[begun:] = 0.0
    if sparse and task.less is not None:
        _add_zeros(sums, task.codes, task.less)
    return sums


def _joined(blocks: Iterable[Any], room: int) -> Iterator[Any]:
    """Join sparse rows, in the same memory again and again, until it is full."""
    values, columns, lengths, filled, width = np.empty(0), np.empty(0), list[np.ndarray](), 0, 0
    for block in chain(blocks, [None]):
        fits = scipy.sparse.issparse(block) and np.can_cast(block.dtype, values.dtype)
        size = block.nnz if fits else room + 1
        if lengths and filled + size > room:
            starts = np.append(0, np.concatenate(lengths).cumsum()).astype(columns.dtype)
            yield scipy.sparse.csr_array((values[:filled], columns[:filled], starts), (len(starts) - 1, width))
            lengths, filled = [], 0
        if size > room:
            yield from () if block is None else (block,)
            continue
        if not len(values):
            values, columns = np.empty(room, block.dtype), np.empty(room, block.indices.dtype)
        width, filled = block.shape[1], filled + size
        values[filled - size : filled], columns[filled - size : filled] = block.data, block.indices
        lengths.append(np.diff(block.indptr))


def _normalised(task: PartTask, cells: CellMatrix, lines: tuple[int, int]) -> Any:  # noqa: ANN401 - scipy has no types
    block = read_block(cells, lines)
    if task.scale is None:
        return block
    rows = slice(None) if by_columns(cells) else slice(lines[0] - task.part[0], lines[1] - task.part[0])
    return log_normalised(block, task.scale[rows])


def _add_sparse(
    sums: Complex[np.ndarray, "c w"],
    block: Any,  # noqa: ANN401 - scipy has no types
    codes: Int[np.ndarray, "rows"],
    where: Int[np.ndarray, "g"] | None,
    less: Baseline | None,
) -> None:
    """Add each number that is stored in rows to its place among the sums, without a look at other places."""
    lengths, column, values = np.diff(block.indptr), block.indices, block.data
    key = np.repeat(codes * sums.shape[1], lengths)
    beside = None if less is None else np.repeat(less.of_row * sums.shape[1], lengths)
    if where is not None:
        column = where[column]
        kept = column >= 0
        column, values, key = column[kept], values[kept], key[kept]
        beside = None if beside is None else beside[kept]
    key += column
    means = None if less is None or beside is None else less.means.reshape(-1)[beside + column]
    np.add.at(sums.reshape(-1), key, _with_squares(values, means))


def _with_squares(values: np.ndarray, means: Float[np.ndarray, "n"] | None) -> Complex[np.ndarray, "n"]:
    """Values, and beside them their squares, or those about means less the squares of the means.

    One array of pairs takes half the way to memory that two arrays take.
    """
    both = np.empty(len(values), dtype=complex)
    both.real = values
    np.multiply(both.real, both.real if means is None else both.real - 2 * means, out=both.imag)
    return both


def _add_zeros(sums: Complex[np.ndarray, "c w"], codes: Int[np.ndarray, "rows"], less: Baseline) -> None:
    """Add what the cells of a part, had they nothing but zeros, would differ by from their baseline."""
    kept = codes != LEFT_OUT
    numbers = (np.ones(int(kept.sum())), (codes[kept], less.of_row[kept]))
    cells = scipy.sparse.csr_array(numbers, shape=(len(sums), len(less.means)))  # dense products round by width
    sums.real -= cells @ less.means
    sums.imag += cells @ less.means**2


def _add_dense(
    sums: Complex[np.ndarray, "c w"], block: np.ndarray, codes: Int[np.ndarray, "rows"], less: Baseline | None
) -> None:
    """Add dense rows."""
    block = block.astype(np.float64, copy=False)
    if less is not None:
        block = block - less.means[less.of_row]
    present, local = np.unique(codes, return_inverse=True)
    ones, rows = np.ones(len(codes)), np.arange(len(codes))
    belongs = scipy.sparse.csr_array((ones, (local, rows)), shape=(len(present), len(codes)))
    sums.real[present] += belongs @ block
    sums.imag[present] += belongs @ (block * block)


def _of_columns(cells: CellMatrix, task: PartTask, threads: int) -> Complex[np.ndarray, "c w"]:
    """Sum columns that lie together; blocks without a wanted one are not read."""
    where = _places(task.columns, cells.shape[1])
    columns = task.part[0] + np.flatnonzero(where[slice(*task.part)] >= 0)
    sums = np.zeros((task.conditions, len(columns)), dtype=complex)
    wanted = [each for each in blocks_of(cells, task.part, task.most) if np.ptp(np.searchsorted(columns, each))]
    blocks = read_ahead(cells, wanted, threads, partial(_normalised, task))
    for (first, last), block in zip(wanted, blocks, strict=True):
        inside = slice(*np.searchsorted(columns, (first, last)))
        some = block[:, columns[inside] - first]
        row, column, values = some.indices, np.repeat(np.arange(some.shape[1]), np.diff(some.indptr)), some.data
        kept = task.codes[row] != LEFT_OUT
        row, column, values = row[kept], column[kept], values[kept]
        means = (
            None if task.less is None else task.less.means[task.less.of_row[row], where[columns[inside]][column]]
        )
        of_block = np.zeros(some.shape[1] * task.conditions, dtype=complex)
        np.add.at(of_block, column * task.conditions + task.codes[row], _with_squares(values, means))
        sums[:, inside] = of_block.reshape(-1, task.conditions).T
    if task.less is not None:
        _add_zeros(sums, task.codes, Baseline(task.less.means[:, where[columns]], task.less.of_row))
    return sums


def _refuse_not_finite(sums: Complex[np.ndarray, "c w"], where: Int[np.ndarray, "g"]) -> None:
    for column in np.flatnonzero(where >= 0).tolist():
        if not np.isfinite(sums.imag[:, where[column]]).all():
            raise DataError(
                f"the cells hold NaN or infinite values, first in readout number {column}; remove it first"
            )
