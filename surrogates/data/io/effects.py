"""Tables that already hold effects: as a screen to learn from, or as the rows of a few new measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from surrogates.data.io.design import LEFT_OUT, Design, design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.h5ad_file import design_table, frame, in_memory, matrix, opened
from surrogates.data.io.pseudobulk import effects_of_cells
from surrogates.data.screen import Screen
from surrogates.errors import DataError


def screen_of_effects(
    effects: Float[np.ndarray, "rows g"],
    design: Design,
    readouts: Sequence[str],
    *,
    standard_errors: Float[np.ndarray, "rows g"] | None,
    annotations: pd.DataFrame,
    provenance: Mapping[str, str],
) -> Screen:
    """Take the rows of a table of effects.

    Raises:
        DataError: If a row is the control, or on anything that :meth:`Screen.from_labels` refuses.
    """
    kept = np.flatnonzero(design.codes != LEFT_OUT)
    done = [design.perturbations[code] for code in design.codes[kept]]
    for row, perturbation in zip(kept, done, strict=True):
        if perturbation.order == 0:
            raise DataError(
                f"row {row} is the control, but each condition has one row, so these are taken for effects"
                " relative to the control; subtract the control from the other rows and remove it, or state"
                " reference_key='' if its label is the name of a target"
            )
    other_mode = len(effects) - len(kept)
    return Screen.from_labels(
        torch.from_numpy(effects[kept]),
        done,
        readouts,
        contexts=[design.contexts[code] for code in design.codes[kept]],
        standard_errors=None if standard_errors is None else torch.from_numpy(standard_errors[kept]),
        annotations=annotations.iloc[kept],
        provenance={
            **provenance,
            "unit": provenance.get("unit", "as in the source"),
            "rows": f"{len(effects)} conditions",
            **({"dropped rows": f"{other_mode} of another mode"} if other_mode else {}),
        },
    )


@dataclass(frozen=True)
class EffectRows:
    """Effects as they were measured."""

    labels: tuple[str, ...]  # canonical label of each condition; empty for a control
    contexts: tuple[str, ...]  # its context, empty if there is none
    readouts: tuple[str, ...]  # what was measured
    effects: Float[np.ndarray, "n g"]  # one row per condition; nothing is left out because it never changes


def read_effect_rows(path: Path, stated: Dialect, *, layer_key: str | None = None) -> EffectRows:
    """Read an ``.h5ad`` file; conditions that have two rows or more on average are taken for cells.

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
