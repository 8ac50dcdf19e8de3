"""Counts of molecules made comparable between cells, as they are read."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.pseudobulk.parts import (
    VALUES,
    MatrixPlace,
    blocks_of,
    by_columns,
    opened_source,
    parts_of,
    read_ahead,
    read_block,
    sources_of,
)
from surrogates.data.io.pseudobulk.spread import HERE, Spread
from surrogates.data.io.untrusted.matrices import StoredSparse
from surrogates.errors import DataError


@dataclass(frozen=True)
class LogNormalised:
    """Counts as logarithms of shares: each cell scaled to the median total, then ``log(1 + x)``.

    As ``scanpy.pp.normalize_total`` and ``scanpy.pp.log1p`` do by default.
    """

    counts: CellMatrix
    scale: Float[np.ndarray, "cells"]  # median total over that of each cell

    @classmethod
    def of(cls, counts: CellMatrix, spread: Spread = HERE) -> "LogNormalised":
        """Sum each cell, block by block."""
        total = totals_of_cells(counts, spread)
        if not total.any():
            raise DataError("all cells are empty: there are no counts to normalise")
        return cls(counts, np.median(total[total > 0]) / np.where(total > 0, total, 1.0))

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of cells and readouts."""
        return self.counts.shape

    @property
    def format(self) -> str | None:
        """How the counts are stored, if they are sparse."""
        return getattr(self.counts, "format", None)

    def __getitem__(self, key: tuple[slice, slice], /) -> object:
        """Read a block of rows and columns, normalised."""
        return log_normalised(self.counts[key], self.scale[key[0]])


def log_normalised(block: Any, scale: Float[np.ndarray, "rows"]) -> Any:  # noqa: ANN401 - scipy has no types
    """Scale the rows of a block, and take logarithms."""
    if not scipy.sparse.issparse(block):
        return np.log1p(np.asarray(block, dtype=np.float64) * scale[:, None])
    scaled = block.astype(np.float64)
    scaled.sum_duplicates()
    of_value = scale[scaled.indices] if scaled.format == "csc" else np.repeat(scale, np.diff(scaled.indptr))
    np.log1p(np.multiply(scaled.data, of_value, out=scaled.data), out=scaled.data)
    return scaled


@dataclass(frozen=True)
class TotalTask:
    """Cells whose totals are wanted: those of a part, or all of them over a part of the columns."""

    source: CellMatrix | MatrixPlace
    part: tuple[int, int]  # range of rows, or of columns if these lie together


def totals_of_cells(counts: CellMatrix, spread: Spread = HERE) -> Float[np.ndarray, "cells"]:
    """Sum each cell, block by block."""
    total = np.zeros(counts.shape[0])
    tasks, rows = [], []
    for source, start in sources_of(counts):
        for part in parts_of(source, 0):
            first, last = (0, source.shape[0]) if by_columns(source) else part
            tasks.append(TotalTask(source, part))
            rows.append(slice(start + first, start + last))
    for here, found in zip(rows, spread.in_order(total_part, tasks), strict=True):
        total[here] += found
    return total


def total_part(task: TotalTask, threads: int = 1) -> Float[np.ndarray, "rows"]:
    """Sum the cells of one part, of whose numbers the places are not read."""
    with opened_source(task.source) as counts:
        found = list(read_ahead(counts, blocks_of(counts, task.part, VALUES), threads, _totals))
        if by_columns(counts):
            return np.sum(found, axis=0) if found else np.zeros(counts.shape[0])
        return np.concatenate(found) if found else np.zeros(0)


def _totals(counts: CellMatrix, lines: tuple[int, int]) -> Float[np.ndarray, "rows"]:
    if isinstance(counts, StoredSparse) and not by_columns(counts):
        starts, values = counts.starts[lines[0] : lines[1] + 1], counts.values_of(*lines)
        row, number = np.repeat(np.arange(len(starts) - 1), np.diff(starts)), lines[1] - lines[0]
    else:
        number = counts.shape[0] if by_columns(counts) else lines[1] - lines[0]
        block = scipy.sparse.coo_array(read_block(counts, lines))
        row, values = block.coords[0], block.data
    if not np.isfinite(values).all() or (values < 0).any():
        raise DataError("values below zero or not finite are no counts; leave --normalise out")
    return np.bincount(row, weights=values, minlength=number)
