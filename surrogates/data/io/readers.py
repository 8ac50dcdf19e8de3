"""Reading a screen from what a user brings: a file, a DataFrame, or AnnData in memory."""

import re
import zlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from jaxtyping import Float

from surrogates.data.io.annotated import AnnotatedMatrix, is_annotated
from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import TARGET_COLUMNS, Dialect
from surrogates.data.io.effects import screen_of_effects
from surrogates.data.io.sources import sha256_of
from surrogates.data.perturbation import Mode
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

KIND_COLUMN = "kind"
READ_KINDS = frozenset({"pair", "single", "single_query"})
OTHER_KINDS = frozenset({"same_gene", "control"})
BOOKKEEPING = re.compile(r"n_.*|sd_.*|.*__sd|.*_n_guides|kind")
REPLICATE_COLUMNS = frozenset({"replicate", "rep", "replicate_id"})  # lower case
MISSING = ("", "NA", "NaN", "nan")


def screen_of_table(
    table: pd.DataFrame, stated: Dialect, *, readouts: Sequence[str] | None, provenance: Mapping[str, str]
) -> Screen:
    """Read a wide table; columns that are not read become annotations.

    Raises:
        DataError: If its content is refused.
    """
    table, kinds = _measured(table)
    design = design_of(table, stated)
    replicate = next((str(name) for name in table if str(name).casefold() in REPLICATE_COLUMNS), None)
    design_columns = [*design.detection.columns, *([] if replicate is None else [replicate])]
    names = list(readouts) if readouts is not None else _numeric_columns(table, design_columns)
    if unknown := next((name for name in names if name not in table), None):
        raise UnknownNameError.from_known("readout", unknown, map(str, table.columns))
    errors = _standard_errors(table, names)
    return screen_of_effects(
        _numbers(table, names),
        design,
        names,
        standard_errors=errors,
        replicated=replicate is not None,
        annotations=table.drop(columns=names),
        provenance={
            **provenance,
            **design.provenance,
            "detected readouts": _shown(names) + ("" if readouts is None else " (as stated)"),
            **kinds,
            **({} if errors is None else {"standard errors": "<readout>__sd / sqrt(n_wells)"}),
        },
    )


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(repr, names[:5])) + more


def _table_of_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Make columns of row names, as a file would have them; row numbers of pandas are no names and go."""
    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError("the DataFrame has columns of several levels; give it one name per column")
    if frame.empty:
        raise DataError(f"the DataFrame of shape {frame.shape} is empty; give one row per condition")
    named = frame.set_axis(frame.columns.map(str), axis=1)
    numbers = frame.index.nlevels == 1 and frame.index.name is None and frame.index.dtype.kind in "iu"
    if numbers:
        table = named.reset_index(drop=True)
    else:
        table = named.reset_index()
        table.columns = table.columns.map(str)
    _refuse_repeats(list(table.columns))
    return table


def _table(path: Path, stated: Dialect) -> pd.DataFrame:
    try:
        table = _parquet(path) if path.suffix == ".parquet" else _delimited(path, stated)
    except (ValueError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path.name!r} cannot be read as a table: {error}") from error
    if not isinstance(table.index, pd.RangeIndex):
        raise DataError(f"{path.name!r} has more values in a row than names in its header; name every column")
    return table


def _parquet(path: Path) -> pd.DataFrame:
    _refuse_repeats(pq.read_schema(path).names)
    table = pd.read_parquet(path)
    return table if isinstance(table.index, pd.RangeIndex) else table.reset_index()


def _delimited(path: Path, stated: Dialect) -> pd.DataFrame:
    comma_or_tab = "\t" if ".tsv" in path.suffixes else ","
    header = pd.read_csv(path, sep=comma_or_tab, header=None, nrows=1, dtype=str, keep_default_na=False)
    names = [str(name) for name in header.iloc[0]]
    _refuse_repeats(names)
    labels = {name for columns in TARGET_COLUMNS for name in columns}
    stated_names = [stated.target_col] if isinstance(stated.target_col, str) else stated.target_col or []
    # Names that look like numbers (drug 901) must stay as they are written.
    as_written: dict[Hashable, type[str]] = {
        name: str for name in names if name.casefold() in labels or name in stated_names
    }
    return pd.read_csv(
        path, sep=comma_or_tab, dtype=as_written, keep_default_na=False, na_values=list(MISSING), low_memory=False
    )


def _refuse_repeats(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"column {twice[0]!r} occurs {names.count(twice[0])} times; names must be unique")


def _measured(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, str]]:
    """Leave out the rows that a ``kind`` column marks as no single or pair."""
    kinds = set(table[KIND_COLUMN]) if KIND_COLUMN in table else set()
    if not kinds or not kinds <= READ_KINDS | OTHER_KINDS:
        return table, {}
    counts = table[KIND_COLUMN].value_counts()
    said = ", ".join(f"{counts[kind]} of kind {kind!r}" for kind in sorted(kinds & OTHER_KINDS))
    kept = table[table[KIND_COLUMN].isin(READ_KINDS)].reset_index(drop=True)
    return kept, {"dropped rows by kind": said} if said else {}


def _numeric_columns(table: pd.DataFrame, design_columns: Sequence[str]) -> list[str]:
    others = [name for name in table if name not in design_columns and not BOOKKEEPING.fullmatch(str(name))]
    for name in others:
        _refuse_stray_text(table[name])
    numeric = list(table[others].select_dtypes(include="number").columns)
    if not numeric:
        raise DataError(f"no column of numbers among {', '.join(map(repr, table.columns))}; nothing to read out")
    return numeric


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


TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")


def read_screen(  # noqa: PLR0913 - one argument for each thing that may be ambiguous, as users know them
    source: str | Path | pd.DataFrame | AnnotatedMatrix,
    *,
    target_col: str | Sequence[str] | None = None,
    reference_key: str | None = None,
    dose_col: str | None = None,
    group_col: str | None = None,
    layer_key: str | None = None,
    sep: str | None = None,
    mode: Mode | None = None,
    readouts: Sequence[str] | None = None,
) -> Screen:
    """Read effects, or single cells, from a file, a DataFrame, or AnnData in memory.

    Whatever is not stated is detected, and the provenance of the screen says what was taken and why. Cells
    (conditions with two rows or more on average, AnnData only) become effects with standard errors, block by
    block, so a file may be larger than memory. Rows of one condition that a column ``replicate`` tells apart are
    averaged.

    Example:
        >>> labels = ["KLF1", "SPI1", "SPI1+KLF1"]
        >>> read_screen(pd.DataFrame({"g1": [1.0, 0.5, 1.4], "g2": [0.0, 2.0, 1.8]}, index=labels))
        Screen: 3 conditions (2 singles, 1 double) on 2 readouts
        unit: as in the source; read from a DataFrame

    Args:
        source: A file (``.h5ad``, ``.csv``, ``.tsv``, both also ``.gz``, or ``.parquet``); a DataFrame with one
            row per condition or replicate, labels in a column or as row names; or ``AnnData`` of cells or effects.
        target_col: Column of labels, or several columns with one part of the combination each; the row names of a
            DataFrame or of ``obs`` are called ``index`` unless they have a name.
        reference_key: Label of the control; empty when no label is one (``CTRL`` is a gene, too).
        dose_col: Column of doses.
        group_col: Column of contexts (cell type, line, batch).
        layer_key: Layer to read instead of ``X``; AnnData only.
        sep: What stands between the parts of a combination.
        mode: How targets are acted upon; where the source names several modes, only rows of this one are read.
        readouts: Names of the readouts; by default all.

    Returns:
        The screen.

    Raises:
        DataError: If the source cannot be read, more than one column qualifies, or the content is refused; the
            message names the value seen and what to do.
    """
    stated = Dialect(target_col, reference_key, dose_col, group_col, sep, mode)
    if isinstance(source, str | Path):
        return _of_file(Path(source), stated, layer_key=layer_key, readouts=readouts)
    if isinstance(source, pd.DataFrame):
        _refuse_layer(layer_key, "the DataFrame")
        table = _table_of_frame(source)
        return screen_of_table(table, stated, readouts=readouts, provenance={"source": "a DataFrame"})
    if not is_annotated(source):
        raise DataError(
            f"a screen cannot be read from a {type(source).__name__}; give a path, a DataFrame with one row per"
            " condition, or an AnnData"
        )
    from surrogates.data.io.read_h5ad import screen_of_annotated  # noqa: PLC0415 - AnnData takes seconds to import

    return screen_of_annotated(source, stated, layer_key=layer_key, readouts=readouts)


def _of_file(file: Path, stated: Dialect, *, layer_key: str | None, readouts: Sequence[str] | None) -> Screen:
    kind = suffix_of(file)
    provenance = {"source": file.name, "sha256": sha256_of(file)}
    if kind == ".h5ad":
        from surrogates.data.io.read_h5ad import screen_of_h5ad  # noqa: PLC0415 - AnnData takes seconds to import

        return screen_of_h5ad(file, stated, layer_key=layer_key, readouts=readouts, provenance=provenance)
    _refuse_layer(layer_key, repr(file.name))
    return screen_of_table(_table(file, stated), stated, readouts=readouts, provenance=provenance)


def _refuse_layer(layer_key: str | None, what: str) -> None:
    if layer_key is not None:
        raise DataError(f"layer_key={layer_key!r} is stated, but {what} is a table, which has no layers")


def suffix_of(file: Path) -> str:
    """Find the ending of a file that can be read.

    Raises:
        DataError: If there is no such file, or its ending is none of those that are read.
    """
    if file.is_dir():
        raise DataError(f"{str(file)!r} is a folder; name a file in it")
    if not file.is_file():
        raise DataError(f"there is no file {str(file)!r}")
    known = (".h5ad", *TABLE_SUFFIXES)
    found = next((suffix for suffix in known if file.name.endswith(suffix)), None)
    if found is None:
        raise DataError(
            f"{file.name!r} has none of the known endings {', '.join(known)}; convert it to one of them"
        )
    return found
