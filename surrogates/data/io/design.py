"""The design of a table: which condition each row belongs to."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Int

from surrogates.data.io.dialects import MODE_VALUES, Detection, Dialect, as_text, detect
from surrogates.data.io.labels import dose_parts
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError

LEFT_OUT = -1


@dataclass(frozen=True)
class Design:
    """What was done in each row of a table, and in which context.

    Attributes:
        codes: Number of the condition of each row, ``-1`` where the row is of a mode that is not read.
    """

    codes: Int[np.ndarray, "rows"]
    perturbations: tuple[Perturbation, ...]  # what was done in each condition
    contexts: tuple[str, ...]  # context of each condition, empty when the table has none
    detection: Detection  # how this was found

    def __len__(self) -> int:
        return len(self.perturbations)

    @property
    def provenance(self) -> dict[str, str]:
        """What was detected, as entries of a screen's provenance."""
        return {f"detected {finding}": rule for finding, rule in self.detection.rules.items()}

    @property
    def is_replicated(self) -> bool:
        """Whether conditions have two rows or more on average: cells then, not effects."""
        return int((self.codes != LEFT_OUT).sum()) >= 2 * len(self)


def design_of(table: pd.DataFrame, stated: Dialect) -> Design:
    """Find what was done in each row.

    Raises:
        DataError: If the columns cannot be told, or a label, context, dose or mode is missing or unreadable.
    """
    detection = detect(table, stated)
    texts = pd.DataFrame({column: as_text(table[column]) for column in detection.columns})
    _refuse_missing(texts, detection.target_cols, "label")
    if detection.context_col is not None:
        _refuse_missing(texts, (detection.context_col,), "context")
    numbers: dict[tuple[Perturbation, str], int] = {}
    of_group = []
    for row in texts.drop_duplicates().to_dict("records"):
        condition = _condition({str(name): str(text) for name, text in row.items()}, detection)
        of_group.append(LEFT_OUT if condition is None else numbers.setdefault(condition, len(numbers)))
    group = texts.groupby(list(texts.columns), sort=False).ngroup().to_numpy()
    return Design(
        codes=np.asarray(of_group, dtype=np.int64)[group],
        perturbations=tuple(perturbation for perturbation, _ in numbers),
        contexts=tuple(context for _, context in numbers),
        detection=detection,
    )


def _condition(row: Mapping[str, str], detection: Detection) -> tuple[Perturbation, str] | None:
    named = None if detection.mode_col is None else MODE_VALUES.get(row[detection.mode_col].casefold())
    if named is not None and named not in detection.modes:
        return None
    labels = [row[column] for column in detection.target_cols]
    parts = [part for label in labels for part in detection.label_format.split(label)]
    doses = [dose for column in detection.dose_cols for dose in dose_parts(row[column]) or ("",)]
    done = detection.label_format.perturbation(parts, doses, named or detection.modes[0])
    if done.order and named is None and detection.mode_col is not None:
        raise DataError(
            f"column {detection.mode_col!r} says {row[detection.mode_col]!r} for {done.label!r}, which is no"
            f" mode; write one of {', '.join(sorted(MODE_VALUES))} or remove the column and state mode="
        )
    return done, "" if detection.context_col is None else row[detection.context_col]


def _refuse_missing(texts: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = np.flatnonzero((texts[list(columns)] == "").all(axis=1))
    if len(missing):
        raise DataError(
            f"{len(missing)} row(s) have no {what} in {' and '.join(map(repr, columns))}, the first is row"
            f" {missing[0]}; fill it in or remove the row"
        )
