"""A screen from a table that already holds effects, one row per condition, or one per replicate."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from surrogates.data.io.design import LEFT_OUT, Design
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
    replicated: bool = False,
) -> Screen:
    """Take the rows of a table of effects; those of one condition are averaged if they are known as replicates.

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
    known = {
        **provenance,
        "unit": provenance.get("unit", "as in the source"),
        "rows": f"{len(effects)} conditions",
        **({"dropped rows": f"{other_mode} of another mode"} if other_mode else {}),
    }
    codes, values = design.codes[kept], effects[kept]
    errors = None if standard_errors is None else standard_errors[kept]
    first = np.arange(len(kept))
    if replicated and len(np.unique(codes)) < len(codes):
        first, values, errors = _averaged(codes, values)
        known["rows"] = f"{len(effects)} replicates of {len(first)} conditions"
        known["standard errors"] = "spread of replicates, pooled over conditions, / sqrt(replicates)"
    return Screen.from_labels(
        torch.from_numpy(values),
        [done[row] for row in first],
        readouts,
        contexts=[design.contexts[code] for code in codes[first]],
        standard_errors=None if errors is None else torch.from_numpy(errors),
        annotations=annotations.iloc[kept[first]],
        provenance=known,
    )


def _averaged(
    codes: Int[np.ndarray, "rows"], values: Float[np.ndarray, "rows g"]
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n g"], Float[np.ndarray, "n g"]]:
    """Average the rows of each condition; the spread of two or three says little, so it is pooled over all."""
    _, first, place, count = np.unique(codes, return_index=True, return_inverse=True, return_counts=True)
    mean = np.zeros((len(first), values.shape[1]))
    np.add.at(mean, place, values)
    mean /= count[:, None]
    spread = np.sqrt(np.square(values - mean[place]).sum(0) / (len(codes) - len(first)))
    order = np.argsort(first)  # as they stand in the table
    return first[order], mean[order], spread / np.sqrt(count[order, None])
