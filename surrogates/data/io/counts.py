"""Counts of molecules in cells: how they are recognised, and made comparable between cells."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import sparse

from surrogates.data.io.annotated import LEFT_OUT, CellMatrix
from surrogates.data.io.design import Design
from surrogates.data.io.notes import NOTE
from surrogates.data.io.pseudobulk.normalised import LogNormalised, totals_of_cells
from surrogates.data.io.pseudobulk.parts import by_columns, sources_of
from surrogates.data.io.pseudobulk.spread import HERE, Spread

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
    matrix = sources_of(matrix)[0][0]
    rows = min(matrix.shape[0], _PROBED)
    if by_columns(matrix):
        return _stored(matrix[slice(0, matrix.shape[0]), slice(0, min(matrix.shape[1], 50))])
    return _stored(matrix[slice(0, rows), slice(0, matrix.shape[1])])


def size_notes(
    table: pd.DataFrame, stored: CellMatrix, design: Design, *, counts: bool, spread: Spread = HERE
) -> dict[str, str]:
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
        totals, source = totals_of_cells(stored, spread), "sums over readouts"
    else:
        return {}
    kept = (design.codes != LEFT_OUT) & np.isfinite(totals) & (totals > 0)
    medians = pd.Series(totals[kept]).groupby(design.codes[kept]).median()
    codes = [int(code) for code in medians.index]
    median = dict(zip(codes, medians.tolist(), strict=True))
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
