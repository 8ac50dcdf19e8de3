"""Tables that a user brings: groups, incompatible pairs, costs, doses, and experiments to rank."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from inverse_design.cli.gene_sets import sets_named
from inverse_design.errors import SpaceError
from inverse_design.problem.batch_wide import DOSE, BatchWide
from inverse_design.problem.constraints import Group
from inverse_design.value_tables import NAME_COLUMNS, read_value_table, text_table
from surrogates.errors import DataError, UnknownNameError, listed, shown

COST_COLUMNS = ("cost", "costs", "price", "reagentcost")
DOSE_COLUMNS = ("dose", "concentration", "conc")
_GROUP_COLUMNS = ("group", "family", "pathway", "set")
_MOST = "at_most"


def read_groups(text: str | Path, *, known: Collection[str] = ()) -> tuple[Group, ...]:
    """Read a table of groups, with one row per member, or gene sets, of each of which a candidate holds one."""
    sets = sets_named(str(text), known)
    if sets is not None:
        return tuple(Group(name, genes) for name, genes in sets.items() if genes)
    path = Path(text)
    table = text_table(path)
    gene, group = _column(table, NAME_COLUMNS, path), _column(table, _GROUP_COLUMNS, path)
    _refuse_empty(table[[gene, group]], path)
    members: dict[str, list[str]] = {}
    most: dict[str, set[int]] = {}
    stated = table[_MOST] if _MOST in table else pd.Series("", index=table.index)
    for name, one, number in zip(table[group].str.strip(), table[gene].str.strip(), stated, strict=True):
        members.setdefault(name, []).append(one)
        if number.strip():
            most.setdefault(name, set()).add(_whole(number, name, path))
    if several := [name for name, numbers in most.items() if len(numbers) > 1]:
        numbers = " and ".join(map(str, sorted(most[several[0]])))
        raise SpaceError(f"{path.name!r} allows {numbers} of group {shown(several[0])}; state one number")
    return tuple(Group(name, tuple(dict.fromkeys(some)), *most.get(name, {1})) for name, some in members.items())


def read_pairs(path: Path) -> tuple[tuple[str, str], ...]:
    """Read a table of incompatible pairs."""
    table = text_table(path)
    if len(table.columns) != 2:
        raise SpaceError(f"{path.name!r} has {len(table.columns)} columns; give two, one for each of a pair")
    _refuse_empty(table, path)
    first, second = (table[column].str.strip() for column in table)
    return tuple(zip(first, second, strict=True))


def read_batch_wide(text: str) -> BatchWide:
    """Read a condition that a batch shares: the word for doses, or a table of names and their values."""
    if text == DOSE:
        return BatchWide()
    path = Path(text)
    table = text_table(path)
    gene = _column(table, NAME_COLUMNS, path)
    others = [str(column) for column in table if column != gene]
    if len(others) != 1:
        raise SpaceError(
            f"{path.name!r} has {len(table.columns)} columns; give two: gene, and one for the condition"
        )
    _refuse_empty(table, path)
    values: dict[str, str] = {}
    for name, value in zip(table[gene].str.strip(), table[others[0]].str.strip(), strict=True):
        if values.setdefault(name, value) != value:
            both = f"{shown(values[name])} and {shown(value)}"
            raise SpaceError(f"{path.name!r} gives {shown(name)} the values {both}; state one")
    return BatchWide(others[0], values)


def read_costs(path: Path) -> tuple[tuple[str, float], ...]:
    """Read a table of costs."""
    table = read_value_table(path, values=COST_COLUMNS)
    return tuple(zip(table.names, table.values, strict=True))


def read_doses(path: Path) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Read a grid of doses, with one row per target and dose."""
    table = text_table(path)
    gene, dose = _column(table, NAME_COLUMNS, path), _column(table, DOSE_COLUMNS, path)
    _refuse_empty(table[[gene, dose]], path)
    grid: dict[str, set[float]] = {}
    for number, (name, text) in enumerate(zip(table[gene].str.strip(), table[dose], strict=True), start=1):
        grid.setdefault(name, set()).add(_dose(text, number, path))
    return tuple((name, tuple(sorted(doses))) for name, doses in grid.items())


def _column(table: pd.DataFrame, known: tuple[str, ...], path: Path) -> str:
    found = [str(column) for column in table if str(column).casefold() in known]
    if len(found) != 1:
        raise SpaceError(f"{path.name!r} needs one column called like {known[0]!r}, and has {listed(table)}")
    return found[0]


def _refuse_empty(table: pd.DataFrame, path: Path) -> None:
    if table.empty:
        raise SpaceError(f"{path.name!r} has no rows; leave the option out, or fill the table")
    empty = table.apply(lambda column: column.str.strip() == "")
    if bool(empty.to_numpy().any()):
        row = int(empty.any(axis=1).to_numpy().argmax())
        column = str(table.columns[int(empty.iloc[row].to_numpy().argmax())])
        raise SpaceError(
            f"column {shown(column)} of {path.name!r} is empty in row {row + 1}; fill it or remove the row"
        )


def _whole(text: str, group: str, path: Path) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise SpaceError(
            f"{_MOST!r} of group {shown(group)} in {path.name!r} is {shown(text.strip())}, not a whole number"
        ) from error


def _dose(text: str, row: int, path: Path) -> float:
    try:
        dose = float(text)
    except ValueError:
        dose = math.nan
    if not 0 < dose < math.inf:
        raise SpaceError(
            f"dose {shown(text.strip())} in row {row} of {path.name!r} is no positive number; correct"
        )
    return dose


LABEL_COLUMNS = ("perturbation", "experiment", "condition", "combination", "pair", "label", "gene")


@dataclass(frozen=True)
class ExperimentList:
    """Experiments as their author wrote them."""

    labels: tuple[str, ...]  # one per row, parts joined by ``+``
    costs: tuple[float, ...] | None  # of each, ``None`` if no column was asked for


def read_experiments(
    path: Path, *, label_col: str | None = None, cost_col: str | None = None, sep: str | None = None
) -> ExperimentList:
    """Read a list of experiments."""
    table = text_table(path)
    for column in (label_col, cost_col):
        if column is not None and column not in table:
            raise UnknownNameError.from_known(f"column of {path.name!r}", column, map(str, table.columns))
    if table.empty:
        raise DataError(f"{path.name!r} has no rows; give one experiment per row")
    column = label_col or _label_column(table, cost_col, path)
    labels = tuple(str(each).strip() for each in table[column])
    if (missing := next((row for row, label in enumerate(labels, 1) if not label), None)) is not None:
        raise DataError(f"column {shown(column)} of {path.name!r} is empty in row {missing}; name the experiment")
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
        f"which column of {path.name!r} names the experiments: {listed(columns)}? Call it"
        " 'perturbation', or say which by --experiment-column"
    )


def _costs(table: pd.DataFrame, column: str, labels: tuple[str, ...], path: Path) -> tuple[float, ...]:
    costs = []
    for row, (text, label) in enumerate(zip(table[column], labels, strict=True), 1):
        number = float(pd.to_numeric(pd.Series([str(text).strip()]), errors="coerce").iloc[0])
        if not (math.isfinite(number) and number >= 0):
            raise DataError(
                f"column {shown(column)} of {path.name!r} holds {shown(str(text))} in row {row} ({shown(label)}),"
                " which is no cost; give a number that is not negative"
            )
        costs.append(number)
    return tuple(costs)
