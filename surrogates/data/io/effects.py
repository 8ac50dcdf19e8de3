"""Screens from rows of effects: wide tables, one row for each condition, replicate or control."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from surrogates.data.columns import METADATA, NO_READOUTS, OF_DESIGN, folded
from surrogates.data.io.annotated import LEFT_OUT
from surrogates.data.io.batches import Batches, surely_batches
from surrogates.data.io.design import Design, design_of
from surrogates.data.io.dialects import Dialect, as_text, detect
from surrogates.data.io.notes import NOTE, may_be_replicates, notes_on_names
from surrogates.data.io.orientation import looks_transposed, perturbed_in, refuse_design_columns, refuse_wrong_way
from surrogates.data.io.tabular import holds_numbers, no_readouts, widened
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError, listed, shown

KIND_COLUMN = "kind"
READ_KINDS = frozenset({"pair", "single", "single_query"})
OTHER_KINDS = frozenset({"same_gene", "control"})
# Kinds of numpy that are no measured numbers.
_NO_NUMBERS = {"b": "true or false", "c": "complex numbers", "M": "times", "m": "durations"}
_IF_MEASURED = "; if it names what was measured, call it 'readout', the column of values 'value'"
_FEWEST_CROSSED = 3  # conditions of which it can be said
_LEVELS = re.compile(
    r"((mean|median|raw|average|avg)_)?(values?|intensit(y|ies)|signal|expression|abundance|viability|tpm|cpm|rfu|reads)"
    r"|(?!.*log)(.*_)?(fold_?change|fc|ratio)"
)
_OWN = re.compile(r".*__sd|n_wells|n_cells|.*_n_guides|kind")  # beside effects as this package writes them


def screen_of_table(table: pd.DataFrame, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read a wide table; columns that are not read become annotations."""
    readouts, value = stated.readouts, None
    table, kinds = _measured(table)
    detection = detect(table, stated)
    if len(detection.target_cols) == 1:
        (column,) = detection.target_cols
        labels, against = perturbed_in(as_text(table[column]), column, stated.reference_key)
        if against:
            stated = replace(stated, target_col=column, reference_key="")
            return screen_of_table(table.assign(**{column: labels}), stated, {**provenance, **against})
    names = _readable(table, detection.columns)
    if readouts is None and (long := widened(table, detection.columns, names)) is not None:
        (texts,) = (name for name in names if not pd.api.types.is_numeric_dtype(table[name]))
        if stated.target_col is None and looks_transposed(list(table[texts].unique()), ()):
            return screen_of_table(table, replace(stated, target_col=texts), provenance)
        table, value, kinds["shape"] = long
        names = _readable(table, detection.columns)
    numeric = _numeric_columns(table, names)
    left = {} if readouts is not None else dict.fromkeys(no_readouts(table, numeric))
    known = set(numeric)
    odd = {} if readouts is not None else _no_numbers(table, [name for name in names if name not in known])
    names = [name for name in numeric if name not in left] if readouts is None else list(readouts)
    if not names:
        raise DataError(
            f"no column of numbers among {listed(table.columns)} is a readout; name those that are with readouts="
            " (--readouts)"
        )
    # Averaged rows are said apart, but for those of several batches.
    design = design_of(table, stated, used=[name for name in map(str, table) if not surely_batches(name)])
    if readouts is None:
        _refuse_crossed(table[names], design)
    if unknown := next((name for name in names if name not in table), None):
        raise UnknownNameError.from_known("readout", unknown, map(str, table.columns))
    errors, of_errors = _standard_errors(table, names)
    effects = _numbers(table, names)
    if readouts is None:
        refuse_design_columns(names, effects, guessed="only text" in detection.rules["targets"])
    if stated.target_col is None and value is None and len(detection.target_cols) == 1:
        refuse_wrong_way(column := detection.target_cols[0], as_text(table[column]), names, effects)
    return screen_of_effects(
        effects,
        design,
        names,
        standard_errors=errors,
        annotations=table.drop(columns=names),
        provenance={
            **provenance,
            **design.provenance,
            "detected readouts": listed(names) + ("" if readouts is None else " (as stated)"),
            **_dropped({**dict.fromkeys(left, "row numbers, sizes, tests or batches, no readouts"), **odd}),
            **kinds,
            **_concerns(names),
            **_levels(effects, design, names, value),
            **of_errors,
        },
    )


def _dropped(columns: Mapping[str, str]) -> dict[str, str]:
    """Say which columns are not read, by the reason."""
    why = [
        f"{listed([name for name, each in columns.items() if each == reason])} ({reason})"
        for reason in dict.fromkeys(columns.values())
    ]
    return {"dropped columns": "; ".join(why)} if why else {}


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
    return [str(name) for name in table if name not in design_columns and not _OWN.fullmatch(str(name))]


def _numeric_columns(table: pd.DataFrame, others: Sequence[str]) -> list[str]:
    kinds = dict(zip(table.columns, table.dtypes, strict=True))
    for name in others:
        if not pd.api.types.is_numeric_dtype(kinds[name]):
            _refuse_stray_text(table[name])
    return [name for name in others if holds_numbers(kinds[name]) and not name.startswith(METADATA)]


def _no_numbers(table: pd.DataFrame, others: Sequence[str]) -> dict[str, str]:
    """Columns that may be meant as readouts, and hold no numbers; of others, texts, nobody thinks so."""
    found = {}
    for name in others:
        kind = getattr(table[name].dtype, "kind", "")
        if kind in _NO_NUMBERS:
            found[name] = _NO_NUMBERS[kind]
        elif not table[name].notna().any():
            found[name] = "no value in any row"
    return found


def _refuse_stray_text(column: pd.Series) -> None:
    """Refuse a column of which most values are numbers: a word in it is a mistake, not an annotation."""
    if pd.api.types.is_numeric_dtype(column):
        return
    stray = pd.to_numeric(column, errors="coerce").isna() & column.notna()
    if 0 < stray.sum() < column.notna().sum() / 2:
        _refuse_text(column, int(np.flatnonzero(stray)[0]))


def _refuse_text(column: pd.Series, row: int) -> None:
    raise DataError(
        f"column {shown(str(column.name))} holds {shown(column.iloc[row])} in row {row}, which is not a number;"
        " correct it, or name the columns to read with readouts="
    )


def _numbers(table: pd.DataFrame, names: Sequence[str]) -> Float[np.ndarray, "rows g"]:
    kinds = dict(zip(table.columns, table.dtypes, strict=True))
    wanted = list(names)
    for name in wanted:
        if not holds_numbers(kinds[name]):
            column = pd.to_numeric(table[name], errors="coerce")
            stray = column.isna() & table[name].notna()
            if stray.any() or not holds_numbers(column.dtype):
                _refuse_text(table[name], int(np.flatnonzero(stray)[0]) if stray.any() else 0)
            table = table.assign(**{name: column})
    numbers: np.ndarray = table[wanted].to_numpy(dtype=np.float64, na_value=np.nan)
    return numbers


def _refuse_crossed(table: pd.DataFrame, design: Design) -> None:
    """Refuse a column that takes the same few values in each condition: it says what was done."""
    kept = design.codes != LEFT_OUT
    conditions, count = np.unique(design.codes[kept], return_counts=True)
    if len(conditions) < _FEWEST_CROSSED or count.min() < 2:
        return
    for name in table.columns[table[kept].nunique() <= count.min()]:
        cells = pd.crosstab(design.codes[kept], table[name][kept].to_numpy()).to_numpy()
        if cells.shape[1] > 1 and (cells == cells[:1]).all():
            raise DataError(
                f"{name!r} takes the same {cells.shape[1]} values in each condition: it is no readout; keep them"
                f" apart with --dose-col {name} or --group-col {name}, or remove the column if its rows are"
                " replicates"
            )


def _standard_errors(
    table: pd.DataFrame, names: Sequence[str]
) -> tuple[Float[np.ndarray, "rows g"] | None, dict[str, str]]:
    """Standard errors from deviations beside the readouts, and what is to be said of them."""
    columns = set(table.columns)
    without = [name for name in names if f"{name}__sd" not in columns]
    if len(without) == len(names):
        return None, {}
    if "n_wells" not in columns:
        return None, {"dropped standard errors": "of <readout>__sd, as no column n_wells says of how many wells"}
    if without:
        raise DataError(
            f"readout {shown(without[0])} has no column {shown(f'{without[0]}__sd')}, and"
            f" {len(names) - len(without)} other(s) have one; add it, or remove all of them"
        )
    spread, wells = _numbers(table, [f"{name}__sd" for name in names]), _numbers(table, ["n_wells"])
    if not (wells > 0).all() or (spread < 0).any():
        raise DataError(
            "a column ...__sd is below zero, or n_wells is not above zero; correct them, or remove both"
        )
    zero = [name for name, column in zip(names, spread.T, strict=True) if not column.any()]
    if len(zero) == len(names):
        return None, {"dropped standard errors": "of <readout>__sd, which are all zero"}
    if zero:
        raise DataError(
            f"column {shown(f'{zero[0]}__sd')} is zero in every row, as if {shown(zero[0])} were measured without"
            " error; correct it, or remove the columns of deviations"
        )
    errors: np.ndarray = spread / np.sqrt(wells)
    return errors, {"standard errors": "<readout>__sd / sqrt(n_wells)"}


def _concerns(readouts: Sequence[str]) -> dict[str, str]:
    """What is worth knowing of the names of readouts."""
    said = list(notes_on_names(readouts, what="readouts"))
    return {f"{NOTE}of readouts {number}": each for number, each in enumerate(said, 1)}


def _levels(
    effects: Float[np.ndarray, "rows g"], design: Design, readouts: Sequence[str], value: str | None
) -> dict[str, str]:
    """Say which columns look like levels, not like effects: by their names, and as they are never below zero."""
    found = [
        name
        for name, column in zip(readouts, effects.T, strict=True)
        if _LEVELS.fullmatch(folded(value or name)) and column.min(initial=np.inf) >= 0
    ]
    if not found or any(one.order == 0 for one in design.perturbations):
        return {}
    said = (
        f"nothing in {listed(found)} is below zero, and no row is a control: these look like levels, and effects"
        " are differences from the control; add the rows of the control, or subtract it (of ratios, take the"
        " logarithm)"
    )
    return {f"{NOTE}of levels": said}


def screen_of_effects(
    effects: Float[np.ndarray, "rows g"],
    design: Design,
    readouts: Sequence[str],
    *,
    standard_errors: Float[np.ndarray, "rows g"] | None,
    annotations: pd.DataFrame,
    provenance: Mapping[str, str],
) -> Screen:
    """Take the rows of a table of effects; replicates are averaged, and the mean of control rows is subtracted."""
    design.refuse_without_label()
    if column := looks_transposed(readouts, [one.label for one in design.perturbations]):
        raise DataError(
            f"the columns look like conditions (such as {column!r}) and the rows like readouts: transpose the"
            " table, so that each condition has a row (in pandas: table.set_index(...).T)"
        )
    refuse_pooled(annotations, design)
    rows = averaged(effects, standard_errors, design)
    changing = (
        np.flatnonzero(np.ptp(rows.effects, axis=0) != 0) if len(rows.codes) > 1 else np.arange(len(readouts))
    )
    constant = len(readouts) - len(changing)
    if not len(changing):
        raise DataError("no readout ever changes: all effects are the same; check which columns are read")
    errors = None if rows.errors is None else numbered(rows.errors, changing, axis=1)
    return Screen.from_labels(
        torch.from_numpy(numbered(rows.effects, changing, axis=1)),
        [design.perturbations[code] for code in rows.codes],
        [readouts[int(column)] for column in changing],
        contexts=[design.contexts[code] for code in rows.codes],
        standard_errors=None if errors is None else torch.from_numpy(errors),
        annotations=annotations.iloc[rows.first],
        provenance={
            **provenance,
            "unit": provenance.get("unit", "as in the source"),
            "rows": rows.said,
            **({"dropped readouts": f"{constant} that never change"} if constant else {}),
            **({} if rows.spread is None else {"standard errors": rows.spread}),
        },
    )


@dataclass(frozen=True)
class Averaged:
    """Effects of conditions, from one row or several each."""

    codes: Int[np.ndarray, "n"]  # number of each condition in the design
    first: Int[np.ndarray, "n"]  # its first row
    effects: Float[np.ndarray, "n g"]  # mean over its rows, less the mean of the control rows of its context
    errors: Float[np.ndarray, "n g"] | None  # standard errors, if stated or to be had from replicates
    said: str  # how many rows and of what
    spread: str | None  # where the errors come from, if from replicates


def averaged(
    values: Float[np.ndarray, "rows g"], stated: Float[np.ndarray, "rows g"] | None, design: Design
) -> Averaged:
    """Average the rows of each condition; the variance between replicates is pooled over conditions.

    Where batches are stated, each row is first compared with the control rows of its own.
    """
    kept, subtracted = np.flatnonzero(design.codes != LEFT_OUT), 0
    if design.batches is not None:
        values, kept, subtracted = _within_batches(values, design, design.batches)
    codes, first, of_row = np.unique(design.codes[kept], return_index=True, return_inverse=True)
    appeared = np.argsort(first)
    place = np.empty_like(appeared)
    place[appeared] = np.arange(len(appeared))
    codes, first, of_row = codes[appeared], kept[first[appeared]], place[of_row]
    count = np.bincount(of_row)
    total = _totals(kept, of_row, len(values))
    mean = total @ values
    mean /= count[:, None]
    squares = None
    if stated is not None:
        squares = total @ stated**2
        squares /= count[:, None] ** 2
    elif len(kept) > len(codes):
        free = len(kept) - len(codes)
        squares = ((values[kept] - mean[of_row]) ** 2).sum(0) / free / count[:, None]
    orders = np.array([design.perturbations[code].order for code in codes])
    contexts = np.array([design.contexts[code] for code in codes])
    controls = np.flatnonzero(orders == 0)
    for control in controls:
        beside = ((contexts == contexts[control]) & (orders > 0))[:, None]
        np.subtract(mean, mean[control], out=mean, where=beside)
        if squares is not None:
            np.add(squares, squares[control], out=squares, where=beside)
    treated = np.flatnonzero(orders > 0)
    mean = numbered(mean, treated, axis=0)
    replicates = f" in {len(kept):,} rows" if len(kept) > len(codes) else ""
    said = f"{len(treated)} conditions{replicates}"
    if len(controls):
        said += f"; the mean of {int(count[controls].sum())} control row(s) is subtracted"
    if subtracted:
        said += f"; the mean of the control rows of the same batch is subtracted ({subtracted} rows)"
    return Averaged(
        codes=codes[treated],
        first=first[treated],
        effects=mean,
        errors=None if squares is None else np.sqrt(numbered(squares, treated, axis=0)),
        said=said,
        spread="between replicate rows, pooled over conditions"
        if stated is None and squares is not None
        else None,
    )


def _totals(rows: Int[np.ndarray, "kept"], groups: Int[np.ndarray, "kept"], count: int) -> csr_array:
    """Make the matrix that adds some of ``count`` rows up by their groups."""
    return csr_array((np.ones(len(rows)), (groups, rows)), shape=(groups.max(initial=-1) + 1, count))


def numbered(
    matrix: Float[np.ndarray, "rows columns"],
    numbers: Sequence[int] | Int[np.ndarray, "n"],
    *,
    axis: Literal[0, 1],
) -> Float[np.ndarray, "_ _"]:
    """Take rows or columns by their numbers; all of them, in order, are not copied."""
    whole = np.array_equal(numbers, np.arange(matrix.shape[axis]))
    return matrix if whole else np.take(matrix, numbers, axis)


def _within_batches(
    values: Float[np.ndarray, "rows g"], design: Design, batches: Batches
) -> tuple[Float[np.ndarray, "rows g"], Int[np.ndarray, "kept"], int]:
    """Subtract from each row the mean of the control rows beside it, if there are any; say which rows are left."""
    orders = np.array([*(one.order for one in design.perturbations), -1])[design.codes]
    control = np.flatnonzero(orders == 0)
    if not len(control):
        return values, np.flatnonzero(design.codes != LEFT_OUT), 0
    mean = _totals(control, batches.of_row[control], len(values)) @ values
    mean /= np.bincount(batches.of_row[control], minlength=len(batches)).clip(min=1)[:, None]
    return values - mean[batches.of_row], np.flatnonzero(orders > 0), len(control)


def refuse_pooled(annotations: pd.DataFrame, design: Design) -> None:
    """Refuse to average rows of a condition that differ in what looks like a dose, a time or a partner."""
    kept = design.codes != LEFT_OUT
    for name in map(str, annotations.columns):
        batches = None if design.batches is None else design.batches.column
        if (
            name in {*design.detection.columns, batches}
            or may_be_replicates(name)
            or NO_READOUTS.fullmatch(folded(name))
        ):
            continue
        numbers, distinct = pd.factorize(annotations[name][kept])
        names_rows = len(distinct) == kept.sum() and not OF_DESIGN.fullmatch(folded(name))
        if len(distinct) < 2 or names_rows:
            continue
        pairs = np.unique(np.stack([design.codes[kept], numbers]), axis=1)[0]
        mixed = np.flatnonzero(np.bincount(pairs) > 1)
        if len(mixed):
            raise DataError(
                f"{design.perturbations[mixed[0]].label or 'the control'!r} is measured more than once, with"
                f" several values of"
                f" {name!r} ({', '.join(map(str, distinct[:4]))}); they would be averaged: keep them apart with"
                f" --group-col {name}, --dose-col {name} or a second --target-col {name}, or remove the"
                " column if its rows are replicates"
                + ("" if holds_numbers(annotations[name].dtype) else _IF_MEASURED)
            )
