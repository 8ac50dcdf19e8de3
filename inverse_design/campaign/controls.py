"""Control wells of a told table: left out of the results, and looked at for drift."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy import stats

from inverse_design.campaign.plate import CONTROL_LABEL
from surrogates.data.columns import as_text
from surrogates.data.vocabulary import Vocabulary

ROLE, PLATE = "role", "plate"
_FEWEST = 3  # wells of which a scatter can be told
_LEVEL = 0.001  # probability that a table without drift is flagged
_SHOWN = 3


@dataclass(frozen=True)
class Controls:
    """What the control wells of a table say.

    Attributes:
        wells: How many there are.
        drift: Where their mean is off zero, in words: they are effects against the control, as all are.
    """

    wells: int = 0
    drift: tuple[str, ...] = ()


def is_control(table: pd.DataFrame, labels: Sequence[str], vocabulary: Vocabulary) -> Bool[np.ndarray, "m"]:
    """Find the control wells, as a plate map marks them.

    Args:
        table: A told table; a column ``role`` counts if there is one.
        labels: Its perturbations, as text.
        vocabulary: A gene or compound named like the control is not one.

    Returns:
        Whether each well is a control: its role says so, or its perturbation is ``control``.
    """
    named = CONTROL_LABEL not in vocabulary.targets
    by_name = np.array([named and label.casefold() == CONTROL_LABEL for label in labels], dtype=bool)
    if ROLE not in table:
        return by_name
    by_role = np.array([role.casefold() == CONTROL_LABEL for role in as_text(table[ROLE])], dtype=bool)
    either: np.ndarray = by_name | by_role
    return either


def controls_of(wells: pd.DataFrame, readouts: Sequence[str]) -> Controls:
    """Look at control wells.

    On each plate, and for each readout, the mean of the wells is compared with zero (Student's t; over all plates
    and readouts together, one table in a thousand is flagged by chance).

    Args:
        wells: The rows of a told table that are controls; those without a number for each readout are counted, and
            tell nothing more.
        readouts: Of the campaign.

    Returns:
        Their number, and a sentence on each of the first drifts.
    """
    if not len(wells):
        return Controls()
    numbers = wells[list(readouts)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    plates = np.array(as_text(wells[PLATE]) if PLATE in wells else ("",) * len(wells), dtype=object)
    whole = np.isfinite(numbers).all(1)
    names = sorted(set(plates[whole]))
    level = _LEVEL / max(1, len(names) * len(readouts))
    said = [each for name in names for each in _drifts(name, numbers[whole & (plates == name)], readouts, level)]
    more = (f"and {len(said) - _SHOWN} more drifts of controls",) if len(said) > _SHOWN else ()
    return Controls(len(wells), (*said[:_SHOWN], *more))


def _drifts(plate: str, values: Float[np.ndarray, "c g"], readouts: Sequence[str], level: float) -> Iterator[str]:
    count = len(values)
    if count < _FEWEST:
        return
    mean, error = values.mean(0), values.std(0, ddof=1) / math.sqrt(count)
    least = float(stats.t.isf(level / 2, count - 1))
    where = f"controls of plate {plate}" if plate else "controls"
    for column in np.flatnonzero((np.abs(mean) > least * error) & (error > 0)).tolist():
        yield (
            f"{where}, {readouts[column]!r}: the mean {mean[column]:.4g} of {count} wells is"
            f" {abs(mean[column]) / error[column]:.1f} standard errors from zero; are the effects against these"
            " controls?"
        )
