"""Counts of molecules in cells: how they are recognised, and made comparable between cells."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import sparse

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.pseudobulk import CHUNK, blocks_of
from surrogates.errors import DataError

_PROBED = 2000  # cells that are looked at
_LARGEST_CALL = 3  # whole numbers up to here may be calls, classes or doses
LOG_WORDS = ("log", "norm", "scaled", "lognorm")


def holds_counts(matrix: CellMatrix) -> bool:
    """Tell whether the first cells hold whole numbers only, some of them above three."""
    rows = min(matrix.shape[0], _PROBED)
    if getattr(matrix, "format", None) == "csc":
        values = _stored(matrix[slice(0, matrix.shape[0]), slice(0, min(matrix.shape[1], 50))])
    else:
        values = _stored(matrix[slice(0, rows), slice(0, matrix.shape[1])])
    whole = values.size > 0 and bool(np.all(values == np.floor(values))) and float(values.min()) >= 0
    return whole and float(values.max()) > _LARGEST_CALL


@dataclass(frozen=True)
class LogNormalised:
    """Counts as logarithms of shares: each cell scaled to the median total, then ``log(1 + x)``.

    As ``scanpy.pp.normalize_total`` and ``scanpy.pp.log1p`` do by default.
    """

    counts: CellMatrix
    scale: Float[np.ndarray, "cells"]  # median total over that of each cell

    @classmethod
    def of(cls, counts: CellMatrix) -> "LogNormalised":
        """Sum each cell, block by block.

        Raises:
            DataError: If a value is negative or not finite, or all cells are empty.
        """
        total = np.zeros(counts.shape[0])
        for rows, columns in blocks_of(counts, CHUNK):
            block = counts[rows, columns]
            values = _stored(block)
            if not np.isfinite(values).all() or (values < 0).any():
                raise DataError("values below zero or not finite are no counts; leave --normalise out")
            total[rows] += np.asarray(sparse.csr_array(block).sum(axis=1)).ravel()
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
        block, scale = self.counts[key], self.scale[key[0]]
        if sparse.issparse(block):
            scaled = sparse.csr_array(sparse.diags_array(scale) @ sparse.csr_array(block, dtype=np.float64))
            scaled.data = np.log1p(scaled.data)
            return scaled
        return np.log1p(np.asarray(block, dtype=np.float64) * scale[:, None])


def _stored(block: object) -> np.ndarray:
    """The values of a block, without the zeros that a sparse one leaves out."""
    return np.asarray(sparse.csr_array(block).data if sparse.issparse(block) else block, dtype=np.float64).ravel()


def log_layers(names: Sequence[str]) -> list[str]:
    """Layers whose names say that they hold logarithms or normalised values."""
    return [name for name in names if any(word in name.casefold() for word in LOG_WORDS)]
