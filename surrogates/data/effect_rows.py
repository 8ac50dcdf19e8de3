"""Measured effects of an AnnData file as rows, however few: the results of a day are no screen to learn from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from surrogates.data.design import LEFT_OUT, design_of
from surrogates.data.dialects import Dialect
from surrogates.data.h5ad_file import design_table, frame, in_memory, matrix, opened
from surrogates.data.pseudobulk import effects_of_cells


@dataclass(frozen=True)
class EffectRows:
    """Effects as they were measured.

    Attributes:
        labels: Canonical label of each condition; empty for a control.
        contexts: Its context, empty if there is none.
        readouts: What was measured.
        effects: One row per condition; nothing is left out because it never changes.
    """

    labels: tuple[str, ...]
    contexts: tuple[str, ...]
    readouts: tuple[str, ...]
    effects: Float[np.ndarray, "n g"]


def read_effect_rows(path: Path, stated: Dialect, *, layer_key: str | None = None) -> EffectRows:
    """Read an ``.h5ad`` file; conditions that have two rows or more on average are taken for cells.

    Args:
        path: The file.
        stated: What the caller states about ``obs``.
        layer_key: Layer to read instead of ``X``.

    Returns:
        The rows, as the screen of such a file would hold them.

    Raises:
        DataError: If the file is damaged, is not AnnData, or cells have no control.
    """
    with opened(path) as file:
        table = design_table(frame(file, "obs"), stated)
        readouts = tuple(frame(file, "var").index.map(str))
        stored = matrix(file, layer_key, rows=len(table))
        design = design_of(table, stated)
        if design.is_replicated:
            found = effects_of_cells(stored, design)
            conditions, effects = found.conditions, found.effects
        else:
            kept = np.flatnonzero(design.codes != LEFT_OUT)
            conditions, effects = design.codes[kept], in_memory(stored)[kept]
    return EffectRows(
        labels=tuple(design.perturbations[code].label for code in conditions),
        contexts=tuple(design.contexts[code] for code in conditions),
        readouts=readouts,
        effects=effects,
    )
