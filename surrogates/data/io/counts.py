"""Counts of molecules in cells: how they are recognised, and made comparable between cells."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import sparse

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.batches import LEFT_OUT
from surrogates.data.io.design import Design
from surrogates.data.io.notes import NOTE
from surrogates.data.io.pseudobulk import CHUNK, blocks_of
from surrogates.errors import DataError

_PROBED = 2000  # cells that are looked at
_LARGEST_CALL = 1  # whole numbers up to here may be calls of presence
_LARGEST_LOG = 30.0  # the natural logarithm of 10^13
_FOLD = 1.5  # by which median totals may differ before it is said
_TOTALS = re.compile(
    r"n_?counts?|total_?counts|ncount_?rna|n_?umis?|umi_?counts?|total_?umis?|umis?|n_?transcripts", re.IGNORECASE
)
LOG_WORDS = ("log", "norm", "scaled", "lognorm")


def holds_counts(matrix: CellMatrix) -> bool:
    """Tell whether the first cells hold whole numbers only, some of them above one."""
    values = _probe(matrix)
    whole = values.size > 0 and bool(np.all(values == np.floor(values))) and float(values.min()) >= 0
    return whole and float(values.max()) > _LARGEST_CALL


def largest_of_no_logarithms(matrix: CellMatrix) -> float | None:
    """The largest value of the first cells, if none is below zero and it is too large for a logarithm."""
    values = _probe(matrix)
    largest = float(values.max()) if values.size and values.min() >= 0 else 0.0
    return largest if largest > _LARGEST_LOG else None


def _probe(matrix: CellMatrix) -> np.ndarray:
    rows = min(matrix.shape[0], _PROBED)
    if getattr(matrix, "format", None) == "csc":
        return _stored(matrix[slice(0, matrix.shape[0]), slice(0, min(matrix.shape[1], 50))])
    return _stored(matrix[slice(0, rows), slice(0, matrix.shape[1])])


@dataclass(frozen=True)
class LogNormalised:
    """Counts as logarithms of shares: each cell scaled to the median total, then ``log(1 + x)``.

    As ``scanpy.pp.normalize_total`` and ``scanpy.pp.log1p`` do by default.
    """

    counts: CellMatrix
    scale: Float[np.ndarray, "cells"]  # median total over that of each cell

    @classmethod
    def of(cls, counts: CellMatrix) -> "LogNormalised":
        """Sum each cell, block by block."""
        total = _totals(counts)
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


def _totals(counts: CellMatrix) -> Float[np.ndarray, "cells"]:
    """Sum each cell, block by block."""
    total = np.zeros(counts.shape[0])
    for rows, columns in blocks_of(counts, CHUNK):
        block = counts[rows, columns]
        values = _stored(block)
        if not np.isfinite(values).all() or (values < 0).any():
            raise DataError("values below zero or not finite are no counts; leave --normalise out")
        total[rows] += np.asarray(sparse.csr_array(block).sum(axis=1)).ravel()
    return total


def size_notes(table: pd.DataFrame, stored: CellMatrix, design: Design, *, counts: bool) -> dict[str, str]:
    """Name the conditions whose cells differ in size from those of the control, where totals can be seen."""
    columns = [name for name in map(str, table.columns) if _TOTALS.fullmatch(name)]
    numeric = [name for name in columns if pd.api.types.is_numeric_dtype(table[name])]
    if not design.is_replicated:
        return {}
    if numeric:
        totals, source = table[numeric[0]].to_numpy(dtype=np.float64), repr(numeric[0])
    elif isinstance(stored, LogNormalised):
        totals, source = 1.0 / stored.scale, "sums over readouts"
    elif counts:
        totals, source = _totals(stored), "sums over readouts"
    else:
        return {}
    kept = (design.codes != LEFT_OUT) & np.isfinite(totals) & (totals > 0)
    codes = np.unique(design.codes[kept]).tolist()
    median = {code: float(np.median(totals[kept & (design.codes == code)])) for code in codes}
    control = {design.contexts[code]: median[code] for code in codes if design.perturbations[code].order == 0}
    ratio = {
        code: median[code] / control[design.contexts[code]] for code in codes if design.contexts[code] in control
    }
    far = sorted((code for code in ratio if not 1 / _FOLD <= ratio[code] <= _FOLD), key=lambda code: ratio[code])
    if not far:
        return {}
    shown = ", ".join(f"{design.perturbations[code].label} ({ratio[code]:.2g} times)" for code in far[:4])
    said = (
        f"cells of {len(far)} condition(s) differ from control cells in their median total ({source}) by more"
        f" than {_FOLD:g} times: {shown}{', ...' if len(far) > 4 else ''}; some of their effects may be those of"
        " the size of cells"
    )
    return {f"{NOTE}of sizes": said}


def _stored(block: object) -> np.ndarray:
    """The values of a block, without the zeros that a sparse one leaves out."""
    return np.asarray(sparse.csr_array(block).data if sparse.issparse(block) else block, dtype=np.float64).ravel()


def log_layers(names: Sequence[str]) -> list[str]:
    """Layers whose names say that they hold logarithms or normalised values."""
    return [name for name in names if any(word in name.casefold() for word in LOG_WORDS)]
