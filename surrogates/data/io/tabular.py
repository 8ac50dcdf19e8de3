"""Tables as people save them: delimiters, decimal marks, sheets, row numbers, and long shapes."""

import csv
import gzip
import io
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.extensions import ExtensionDtype

from surrogates.data.columns import GENE_NUMBERS, NO_READOUTS, OF_DESIGN, folded
from surrogates.data.io.untrusted.sheets import sheet_rows
from surrogates.data.io.untrusted.sizes import in_units, most_unpacked
from surrogates.errors import DataError, UnknownNameError, amount, shown

MISSING = ("", "NA", "NaN", "nan", "N/A", "n/a", "#N/A", "<NA>", "NULL", "null", "None", "-", ".")
DELIMITERS = (",", "\t", ";", "|")
_PROBED_LINES = 30
_FEWEST_ROWS = 5  # of which it can be said that a column numbers them
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+([eE][+-]?\d+)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def read_delimited(
    path: Path, *, is_text: Callable[[str], bool], row_names: str | None = None
) -> tuple[pd.DataFrame, str]:
    """Read a text table, whatever its delimiter and decimal mark, and say what they are.

    With ``row_names``, a first column without a name, as R writes it, is called so.
    """
    text, comments = without_comments(text_of(path))
    lines = [line for line in text.splitlines()[: 4 * _PROBED_LINES] if line.strip()][:_PROBED_LINES]
    if not lines:
        raise DataError(f"{path.name!r} cannot be read as a table: No columns to parse from file")
    delimiter = delimiter_of(lines)
    rows = fields_of(lines, delimiter)
    names = [name.strip() for name in rows[0]]
    named = row_names is not None and {len(row) for row in rows[1:]} == {len(names) + 1}
    names = [str(row_names), *names] if named else names
    if any(len(row) > len(names) for row in rows[1:]):
        raise DataError(
            f"{path.name!r} has more values in a row than names in its header; name every column (the"
            f" delimiter was taken to be {delimiter!r})"
        )
    refuse_repeats(names)
    fields = [field for row in rows[1:] for field in row]
    decimal = "," if delimiter != "," and any(DECIMAL_COMMA.fullmatch(field.strip()) for field in fields) else "."
    as_written: dict[Hashable, type[str]] = {name: str for name in names if is_text(name)}
    table = pd.read_csv(
        io.StringIO(text),
        sep=delimiter,
        decimal=decimal,
        header=0,
        names=names if named else None,
        dtype=as_written,
        keep_default_na=False,
        na_values=list(MISSING),
        low_memory=False,
        skipinitialspace=True,
    )
    table.columns = table.columns.map(lambda name: str(name).strip())
    shown = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}[delimiter]
    said = f"; left out above the header, beginning with #: {amount(comments, 'line')}" if comments else ""
    return table, f"{shown}, decimal {'comma' if decimal == ',' else 'point'}{said}"


def read_sheet(path: Path, *, is_text: Callable[[str], bool]) -> tuple[pd.DataFrame, str]:
    """Read the only sheet of an Excel file that is not empty."""
    sheet, rows = sheet_rows(path)
    if not rows:
        raise DataError(f"{path.name!r} holds no table")
    names = ["" if name is None else str(name).strip() for name in rows[0]]
    refuse_repeats(names)
    raw = pd.DataFrame(rows[1:], columns=names, dtype=object)
    table = raw.mask(raw.isin(MISSING))
    for name in names:
        if is_text(name):
            table[name] = table[name].map(lambda value: str(value).removesuffix(".0"), na_action="ignore")
        else:
            numbers = pd.to_numeric(table[name], errors="coerce")
            if bool((numbers.notna() == table[name].notna()).all()):
                table[name] = numbers
    return table, f"sheet {shown(sheet)}"


def holds_numbers(kind: np.dtype | ExtensionDtype) -> bool:
    """Tell types of measured numbers: truth values, times and complex numbers are none."""
    if isinstance(kind, np.dtype):  # a table may have many columns
        return kind.kind in "iuf"
    return pd.api.types.is_numeric_dtype(kind) and kind.kind in "iuf"


def refuse_repeats(names: Sequence[str]) -> None:
    """Refuse a header in which a name occurs twice."""
    counts = Counter(names)
    if len(counts) < len(names):
        twice = min(name for name, count in counts.items() if count > 1)
        raise DataError(
            f"column {shown(twice)} occurs {counts[twice]} times; names must be unique: rename or remove one"
        )


def no_readouts(table: pd.DataFrame, candidates: Sequence[str]) -> Iterator[str]:
    """Name the columns of numbers that are row numbers, sizes of cells, tests or ranks, not readouts."""
    whole = set(table.select_dtypes(include="integer"))
    for name in candidates:
        known = any(each.fullmatch(folded(name)) for each in (NO_READOUTS, OF_DESIGN, GENE_NUMBERS))
        if known or (name in whole and _numbers_rows(table[name])):
            yield name


def widened(
    table: pd.DataFrame, labels: Sequence[str], others: Sequence[str]
) -> tuple[pd.DataFrame, str, str] | None:
    """Turn one row per condition and readout into one row per condition, and name the column of values."""
    kinds = dict(zip(table.columns, table.dtypes, strict=True))
    texts = [name for name in others if not pd.api.types.is_numeric_dtype(kinds[name])]
    apart = set(texts)
    numbers = [name for name in others if name not in apart and not NO_READOUTS.fullmatch(folded(name))]
    if len(numbers) != 1 or len(texts) != 1:
        return None
    readout, value = texts[0], numbers[0]
    key = table[[*labels, readout]].astype(str)
    conditions, readouts = key[list(labels)].drop_duplicates().shape[0], key[readout].nunique()
    if readouts < 2 or conditions < 2 or key.duplicated().any() or len(table) != conditions * readouts:
        return None
    order = list(dict.fromkeys(key[readout]))
    values = np.empty((conditions, readouts))
    values[key.groupby(list(labels), sort=False).ngroup(), pd.factorize(key[readout])[0]] = table[value]
    wide = table.loc[~key.duplicated(list(labels)), list(labels)].reset_index(drop=True)
    wide = pd.concat([wide, pd.DataFrame(values, columns=order)], axis=1)
    said = f"one row per condition and {readout!r}: {conditions} rows of {readouts} readouts ({value!r})"
    return wide, value, said


def positions(wanted: Sequence[str], names: Sequence[str]) -> list[int]:
    """Find the numbers of some readouts."""
    where = {name: column for column, name in enumerate(names)}
    if unknown := next((name for name in wanted if name not in where), None):
        raise UnknownNameError.from_known("readout", unknown, names)
    return [where[name] for name in wanted]


def text_of(path: Path) -> str:
    """Read a text file, maybe compressed, in the encodings in which spreadsheets save."""
    if not path.is_file():
        raise DataError(f"{str(path)!r} is a folder or no file; name a table")
    opened = gzip.open if path.suffix == ".gz" else open
    most = most_unpacked(path.stat().st_size)
    with opened(path, "rb") as file:
        raw: bytes = file.read(most + 1)
    if len(raw) > most:
        raise DataError(
            f"{path.name!r} unpacks to more than {in_units(most)}; it is damaged or made up: unpack it and look,"
            " and give it unpacked"
        )
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = raw.decode("utf-16")
    else:
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="strict")
    if (place := text.find("\0")) >= 0:
        line = text.count("\n", 0, place) + 1
        raise DataError(
            f"{path.name!r} holds a NUL character in line {line}, which no text has; save it again as text (UTF-8)"
        )
    return text


def without_comments(text: str) -> tuple[str, int]:
    """Leave out lines above the header that begin with ``#``, and count them; the last of them may be the header.

    It is, where it has as many fields as the next line, which holds numbers, or lacks some.
    """
    lines = text.splitlines(keepends=True)
    count = 0
    while count < len(lines) and (
        lines[count].lstrip(' "').startswith("#") or (count and not lines[count].strip())
    ):
        count += 1
    while count and not lines[count - 1].strip():
        count -= 1
    below = [line for line in lines[count : count + _PROBED_LINES] if line.strip()]
    if not count or not below:
        return text, 0
    last = lines[count - 1].lstrip(' "').removeprefix("#").lstrip()
    header, first = fields_of([last, below[0]], delimiter_of(below))
    cells = [cell.strip() for cell in first]
    values = any(map(_NUMBER.fullmatch, cells)) or any(cell in MISSING for cell in cells[1:])
    if len(header) == len(first) > 1 and header[0].strip() and values:
        return "".join([last, *lines[count:]]), count - 1
    return "".join(lines[count:]), count


def fields_of(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Divide lines into fields."""
    try:
        return list(csv.reader(lines, delimiter=delimiter))
    except csv.Error as error:
        raise DataError(
            f"the first {len(lines)} lines cannot be divided into fields ({shown(error, bare=True)}): is a"
            " quotation mark never closed?"
        ) from error


def delimiter_of(lines: Sequence[str]) -> str:
    """The delimiter that divides header and lines into the same number of fields, the more the better."""

    def fit(delimiter: str) -> tuple[bool, int]:
        try:
            counts = [len(row) for row in fields_of(lines, delimiter)]
        except DataError:  # wide tables have lines that are too long for one field
            return False, 0
        return counts[0] > 1 and all(count == counts[0] for count in counts), counts[0]

    best = max(DELIMITERS, key=fit)
    fields_of(lines, best)  # refused, where none divides them
    return best


def name_wells(table: pd.DataFrame, columns: Sequence[str]) -> bool:
    """Tell whether two columns give the row and the column of a well on its plate, such as B and 7."""
    names = [name.casefold() for name in columns]
    return names == ["row", "col"] and bool(
        table[columns[1]].dropna().astype(str).str.fullmatch(r"\d+(\.0)?").all()
    )


def _numbers_rows(column: pd.Series) -> bool:
    """Tell whether a column holds each of some whole numbers in a row once, in any order."""
    if len(column) < _FEWEST_ROWS or column.isna().any():
        return False
    values = np.sort(column.to_numpy())
    return values[0] in (0, 1) and bool(np.array_equal(values, np.arange(len(values)) + values[0]))
