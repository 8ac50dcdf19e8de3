"""A screen from a table that already holds effects, one row per condition."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from surrogates.data.design import LEFT_OUT, Design
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

    Args:
        effects: One row per condition, relative to the control of its context.
        design: What was done in each row.
        readouts: Names of the columns.
        standard_errors: Of each effect, if known.
        annotations: Further columns of the table.
        provenance: Where the effects come from.

    Returns:
        The screen, without rows of a mode that is not read.

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
