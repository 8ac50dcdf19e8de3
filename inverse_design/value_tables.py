"""Tables that give each name a number: targets, prior weights."""

import io
import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget
from inverse_design.spreadsheets import as_written
from surrogates.data.io.tabular import DECIMAL_COMMA, MISSING, delimiter_of, text_of, without_comments
from surrogates.data.io.untrusted.parquet import read_parquet
from surrogates.data.io.untrusted.sheets import sheet_rows
from surrogates.errors import DataError, listed, shown

# Lower case, without blanks, dots, dashes and underscores.
NAME_COLUMNS = ("readout", "gene", "genename", "genesymbol", "symbol", "feature", "protein", "name", "names")
VALUE_COLUMNS = (
    "value", "effect", "logfc", "log2fc", "lfc", "avglog2fc", "avglogfc", "log2foldchange", "logfoldchange",
    "logfoldchanges", "foldchange", "delta",
)  # fmt: skip
RATIO_COLUMNS = ("foldchange", "fc", "ratio", "fold")
WEIGHT_COLUMNS = ("weight", "prior", "priorweight")
_DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?")
_THOUSANDS = re.compile(r",\d{3}$")
ERROR_COLUMNS = ("standarderror", "se", "stderr", "lfcse")


@dataclass(frozen=True)
class ValueTable:
    """Numbers by name."""

    origin: str  # the file, and which columns were taken
    names: tuple[str, ...]  # what each row is about; none occurs twice
    values: tuple[float, ...]  # its number
    weights: tuple[float, ...] | None  # its weight, if the table has one
    errors: tuple[float, ...] | None  # its standard error, if the table has one

    def profile(self, name: str | None = None) -> ProfileTarget:
        """Take the numbers as a wanted effect."""
        return ProfileTarget(
            name=name or self.origin,
            readouts=self.names,
            values=torch.tensor(self.values, dtype=torch.float64),
            standard_errors=None if self.errors is None else torch.tensor(self.errors, dtype=torch.float64),
            weights=None if self.weights is None else torch.tensor(self.weights, dtype=torch.float64),
        )


def names_a_file(text: str) -> bool:
    """Tell whether a text is the path of a file."""
    try:
        return Path(text).is_file()
    except OSError:  # longer than any path
        return False


def read_value_table(
    path: Path, *, name_col: str | None = None, value_col: str | None = None, values: Sequence[str] = VALUE_COLUMNS
) -> ValueTable:
    """Read a table with one row per name; columns are found by name, and refused on a tie."""
    table = text_table(path)
    if table.empty:
        raise TargetError(f"{path.name!r} has no rows; give one row per name, with its value")
    name = _stated(table, name_col, path) or _name_column(table, path)
    others = [column for column in table if column != name]
    value = _stated(table, value_col, path) or _value_column(table[others], values, path)
    extra = [column for column in others if column != value]
    _refuse_ratio(table[value], value, path)
    missing = table[value].str.strip().isin(MISSING)
    table = table[~missing].drop_duplicates(subset=[name, value], ignore_index=True)
    if table.empty:
        raise TargetError(f"column {shown(value)} of {path.name!r} holds no numbers")
    left = f"; {int(missing.sum())} without a value left out" if missing.any() else ""
    names = tuple(table[name].str.strip())
    _refuse_unnamed(names, name, path)
    weight = _one_named(table[extra], WEIGHT_COLUMNS, path)
    error = _one_named(table[extra], ERROR_COLUMNS, path)
    return ValueTable(
        origin=f"{path.name}, {shown(value)} of each {shown(name)}{left}",
        names=names,
        values=_numbers(table, value, names, path),
        weights=None if weight is None else _numbers(table, weight, names, path),
        errors=None if error is None else _numbers(table, error, names, path),
    )


def text_table(path: Path) -> pd.DataFrame:
    """Read a table as text, so that what a cell holds can be shown as it is."""
    if not path.is_file():
        raise TargetError(f"{str(path)!r} is " + ("a folder; name a file in it" if path.is_dir() else "no file"))
    try:
        if path.suffix == ".parquet":
            rows = read_parquet(path).astype(str)
            header = [str(column) for column in rows.columns]
        elif path.suffix == ".xlsx":
            _, cells = sheet_rows(path)
            header, rows = [str(cell).strip() for cell in cells[0]], pd.DataFrame(cells[1:]).map(str)
        else:
            text, _ = without_comments(text_of(path))
            sep = delimiter_of([line for line in text.splitlines()[:100] if line.strip()] or [""])
            whole = pd.read_csv(io.StringIO(text), sep=sep, header=None, dtype=str, keep_default_na=False)
            whole = as_written(whole) if "'" in text else whole
            header, rows = [str(cell).strip() for cell in whole.iloc[0]], whole.iloc[1:].reset_index(drop=True)
    except (ValueError, IndexError, OSError, EOFError, zlib.error) as error:
        raise TargetError(f"{path.name!r} cannot be read as a table: {shown(error, bare=True)}") from error
    except TargetError:
        raise
    except DataError as error:
        raise TargetError(str(error)) from error
    if len(set(header)) < len(header):
        twice, count = Counter(header).most_common(1)[0]
        raise TargetError(f"column {shown(twice)} of {path.name!r} occurs {count} times; rename one")
    blank = rows.apply(lambda column: column.str.strip() == "").all(axis=1)
    kept: pd.DataFrame = rows[~blank].reset_index(drop=True)
    return _with_points(kept).set_axis(header, axis=1)


def _with_points(rows: pd.DataFrame) -> pd.DataFrame:
    """Write decimal commas as points, unless a number has a point or commas may stand between thousands."""
    cells = [str(cell).strip() for cell in rows.to_numpy().ravel()]
    commas = [cell for cell in cells if "," in cell and DECIMAL_COMMA.fullmatch(cell)]
    if all(_THOUSANDS.search(cell) for cell in commas) or any(_DECIMAL_POINT.fullmatch(cell) for cell in cells):
        return rows
    return rows.map(lambda cell: cell.replace(",", ".") if DECIMAL_COMMA.fullmatch(cell.strip()) else cell)


def _refuse_ratio(column: pd.Series, name: str, path: Path) -> None:
    """Refuse ratios, such as fold changes without a logarithm, which are no differences."""
    numbers = pd.to_numeric(column, errors="coerce")
    folded = _folded(name)
    ratio = folded.endswith(RATIO_COLUMNS) and "log" not in folded and folded != "lfc"
    if ratio and numbers.notna().any() and not bool((numbers < 0).any()):
        raise TargetError(
            f"column {shown(name)} of {path.name!r} holds no negative value: these look like ratios, not"
            f" differences; take"
            " their log2, and call the column log2FoldChange (or 'value', if they are differences all the same)"
        )


def _stated(table: pd.DataFrame, column: str | None, path: Path) -> str | None:
    if column is not None and column not in table:
        raise TargetError(f"{path.name!r} has no column {shown(column)}; it has {listed(table)}")
    return column


def _name_column(table: pd.DataFrame, path: Path) -> str:
    if (named := _one_named(table, NAME_COLUMNS, path)) is not None:
        return named
    for column in table:
        if _share_of_numbers(table[column]) < 0.5:
            return str(column)
    raise TargetError(f"{path.name!r} has no column of names among {listed(table)}; call it 'readout' or 'gene'")


def _value_column(table: pd.DataFrame, known: Sequence[str], path: Path) -> str:
    if (named := _one_named(table, known, path)) is not None:
        return named
    apart = {*WEIGHT_COLUMNS, *ERROR_COLUMNS}
    numeric = [str(c) for c in table if _folded(c) not in apart and _share_of_numbers(table[c]) > 0.5]
    if (only := _only(numeric, "hold numbers", path)) is None:
        raise TargetError(f"{path.name!r} has no column of numbers among {listed(table)}; call it {known[0]!r}")
    return only


def _one_named(table: pd.DataFrame, known: Sequence[str], path: Path) -> str | None:
    """Find the only column with a name in use; equal columns count as one."""
    found = [str(column) for column in table if _folded(column) in known]
    distinct = [c for number, c in enumerate(found) if not any(table[c].equals(table[d]) for d in found[:number])]
    return _only(distinct, "both qualify", path)


def _only(found: Sequence[str], what: str, path: Path) -> str | None:
    if len(found) > 1:
        raise TargetError(
            f"columns {listed(found)} of {path.name!r} {what}; rename all but one, or say which is meant in a"
            ' .toml target: kind = "profile", table = ..., readout = ..., value = ...'
        )
    return str(found[0]) if found else None


def _numbers(table: pd.DataFrame, column: str, names: Sequence[str], path: Path) -> tuple[float, ...]:
    numbers = pd.to_numeric(table[column].str.strip(), errors="coerce").to_numpy(np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        row = int(bad[0])
        raise TargetError(
            f"column {shown(column)} of {path.name!r} holds {shown(table[column].iloc[row])} in row {row + 1}"
            f" ({shown(names[row])}), which is not a finite number; correct or remove the row"
        )
    return tuple(float(each) for each in numbers)


def _refuse_unnamed(names: Sequence[str], column: str, path: Path) -> None:
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        if not name:
            raise TargetError(
                f"column {shown(column)} of {path.name!r} is empty in row {row + 1}; name it or remove it"
            )
        if name in rows:
            raise TargetError(
                f"{path.name!r} names {shown(name)} more than once (rows {rows[name] + 1} and {row + 1}); remove"
                " one"
            )
        rows[name] = row


def _share_of_numbers(column: pd.Series) -> float:
    return float(pd.to_numeric(column, errors="coerce").notna().mean())


def _folded(name: object) -> str:
    return re.sub(r"[ ._-]", "", str(name).casefold())
