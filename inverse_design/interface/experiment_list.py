"""A user's list of experiments: one per row, maybe with what each costs."""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from inverse_design.interface.value_tables import text_table
from surrogates.errors import DataError, UnknownNameError

LABEL_COLUMNS = ("perturbation", "experiment", "condition", "combination", "pair", "label", "gene")


@dataclass(frozen=True)
class ExperimentList:
    """Experiments as their author wrote them.

    Attributes:
        labels: One per row, parts joined by ``+``.
        costs: Of each, ``None`` if no column was asked for.
    """

    labels: tuple[str, ...]
    costs: tuple[float, ...] | None


def read_experiments(
    path: Path, *, label_col: str | None = None, cost_col: str | None = None, sep: str | None = None
) -> ExperimentList:
    """Read a list of experiments.

    Args:
        path: A ``.csv``, ``.tsv`` (both also ``.gz``) or ``.parquet`` file with a line of column names.
        label_col: Column of labels; by default the one called perturbation, experiment, condition ..., or the only
            one beside the costs.
        cost_col: Column of costs.
        sep: What stands between the parts of a combination, if not ``+``.

    Returns:
        The list.

    Raises:
        UnknownNameError: If there is no such column; the message names the nearest.
        DataError: If the table is empty, no column holds labels, a label is missing, or a cost is no finite number
            that is not negative; the message names the row and the value.
    """
    table = text_table(path)
    for column in (label_col, cost_col):
        if column is not None and column not in table:
            raise UnknownNameError.from_known(f"column of {path.name!r}", column, map(str, table.columns))
    if table.empty:
        raise DataError(f"{path.name!r} has no rows; give one experiment per row")
    column = label_col or _label_column(table, cost_col, path)
    labels = tuple(str(each).strip() for each in table[column])
    if (missing := next((row for row, label in enumerate(labels, 1) if not label), None)) is not None:
        raise DataError(f"column {column!r} of {path.name!r} is empty in row {missing}; name the experiment")
    if sep:
        labels = tuple(label.replace(sep, "+") for label in labels)
    return ExperimentList(labels, None if cost_col is None else _costs(table, cost_col, labels, path))


def _label_column(table: pd.DataFrame, cost_col: str | None, path: Path) -> str:
    columns = [str(column) for column in table if column != cost_col]
    named = [column for known in LABEL_COLUMNS for column in columns if column.casefold() == known]
    if named:
        return named[0]
    if len(columns) == 1:
        return columns[0]
    raise DataError(
        f"which column of {path.name!r} names the experiments: {', '.join(map(repr, columns))}? Call it"
        " 'perturbation', or say which by --experiment-column"
    )


def _costs(table: pd.DataFrame, column: str, labels: tuple[str, ...], path: Path) -> tuple[float, ...]:
    costs = []
    for row, (text, label) in enumerate(zip(table[column], labels, strict=True), 1):
        number = float(pd.to_numeric(pd.Series([str(text).strip()]), errors="coerce").iloc[0])
        if not (math.isfinite(number) and number >= 0):
            raise DataError(
                f"column {column!r} of {path.name!r} holds {str(text)!r} in row {row} ({label!r}), which is no"
                " cost; give a number that is not negative"
            )
        costs.append(number)
    return tuple(costs)
