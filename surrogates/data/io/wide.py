"""Screens from wide tables: one row per condition or replicate, one column of numbers per readout."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from surrogates.data.io.design import Design, design_of
from surrogates.data.io.dialects import Dialect, detect
from surrogates.data.io.effects import screen_of_effects
from surrogates.data.io.notes import NOTE, notes_on_names
from surrogates.data.io.tabular import looks_transposed, no_readouts, widened
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

KIND_COLUMN = "kind"
READ_KINDS = frozenset({"pair", "single", "single_query"})
OTHER_KINDS = frozenset({"same_gene", "control"})
BOOKKEEPING = re.compile(r"n_.*|sd_.*|.*__sd|.*_n_guides|kind")


def screen_of_table(
    table: pd.DataFrame, stated: Dialect, *, readouts: Sequence[str] | None, provenance: Mapping[str, str]
) -> Screen:
    """Read a wide table; columns that are not read become annotations.

    Raises:
        DataError: If its content is refused.
    """
    table, kinds = _measured(table)
    detection = detect(table, stated)
    names = _readable(table, detection.columns)
    if readouts is None and (long := widened(table, detection.columns, names)) is not None:
        table, kinds["shape"] = long
        names = _readable(table, detection.columns)
    left = [name for name in no_readouts(table, _numeric_columns(table, names)) if readouts is None]
    names = (
        list(readouts)
        if readouts is not None
        else [each for each in _numeric_columns(table, names) if each not in left]
    )
    if not names:
        raise DataError(f"no column of numbers among {', '.join(map(repr, table.columns))}; nothing to read out")
    design = design_of(table, stated, used=list(table.columns))  # averaged rows are said apart
    if unknown := next((name for name in names if name not in table), None):
        raise UnknownNameError.from_known("readout", unknown, map(str, table.columns))
    errors = _standard_errors(table, names)
    return screen_of_effects(
        _numbers(table, names),
        design,
        names,
        standard_errors=errors,
        annotations=table.drop(columns=names),
        provenance={
            **provenance,
            **design.provenance,
            "detected readouts": _shown(names) + ("" if readouts is None else " (as stated)"),
            **(
                {"dropped columns": f"{_shown(left)} (row numbers, sizes, tests or batches, no readouts)"}
                if left
                else {}
            ),
            **kinds,
            **_concerns(names, design),
            **({} if errors is None else {"standard errors": "<readout>__sd / sqrt(n_wells)"}),
        },
    )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def _measured(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Leave out the rows that a ``kind`` column marks as no single or pair."""
    kinds = set(table[KIND_COLUMN]) if KIND_COLUMN in table else set()
    if not kinds or not kinds <= READ_KINDS | OTHER_KINDS:
        return table, {}
    counts = table[KIND_COLUMN].value_counts()
    said = ", ".join(f"{counts[kind]} of kind {kind!r}" for kind in sorted(kinds & OTHER_KINDS))
    kept = table[table[KIND_COLUMN].isin(READ_KINDS)].reset_index(drop=True)
    return kept, {"dropped rows by kind": said} if said else {}


def _readable(table: pd.DataFrame, design_columns: Sequence[str]) -> list[str]:
    return [str(name) for name in table if name not in design_columns and not BOOKKEEPING.fullmatch(str(name))]


def _numeric_columns(table: pd.DataFrame, others: Sequence[str]) -> list[str]:
    for name in others:
        _refuse_stray_text(table[name])
    return list(table[list(others)].select_dtypes(include="number").columns)


def _refuse_stray_text(column: pd.Series) -> None:
    """Refuse a column of which most values are numbers: a word in it is a mistake, not an annotation."""
    if pd.api.types.is_numeric_dtype(column):
        return
    stray = pd.to_numeric(column, errors="coerce").isna() & column.notna()
    if 0 < stray.sum() < column.notna().sum() / 2:
        _refuse_text(column, int(np.flatnonzero(stray)[0]))


def _refuse_text(column: pd.Series, row: int) -> None:
    raise DataError(
        f"column {column.name!r} holds {column.iloc[row]!r} in row {row}, which is not a number; correct it, or"
        " name the columns to read with readouts="
    )


def _numbers(table: pd.DataFrame, names: Sequence[str]) -> Float[np.ndarray, "rows g"]:
    columns = []
    for name in names:
        column = pd.to_numeric(table[name], errors="coerce")
        stray = column.isna() & table[name].notna()
        if stray.any():
            _refuse_text(table[name], int(np.flatnonzero(stray)[0]))
        columns.append(column.to_numpy(dtype=np.float64))
    return np.stack(columns, axis=1)


def _standard_errors(table: pd.DataFrame, names: Sequence[str]) -> Float[np.ndarray, "rows g"] | None:
    spreads = [f"{name}__sd" for name in names]
    if "n_wells" not in table or not set(spreads) <= set(table.columns):
        return None
    errors: np.ndarray = _numbers(table, spreads) / np.sqrt(_numbers(table, ["n_wells"]))
    return errors


def _concerns(readouts: Sequence[str], design: Design) -> dict[str, str]:
    """What is worth knowing of the shape of a table and the names of its readouts."""
    said = list(notes_on_names(readouts, what="readouts"))
    if looks_transposed(readouts, [one.label for one in design.perturbations]):
        raise DataError(
            f"the columns look like conditions (such as {next(name for name in readouts if '+' in name)!r})"
            f" and the rows like"
            " readouts: transpose the table, so that each condition has a row (in pandas: table.set_index(...).T)"
        )
    return {f"{NOTE}of readouts {number}": each for number, each in enumerate(said, 1)}
