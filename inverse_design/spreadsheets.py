"""The only writer of CSV files and workbooks: no cell acts as a formula, and every text is read back as it was.

A text that a spreadsheet program would compute gets an apostrophe in front in a CSV file; a number, also one in a
text such as ``-1.5``, does not. A workbook says of each cell that it is text. Tables of results, experiments,
targets, prior weights and reagents are read without the apostrophe again.
"""

import math
import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd

# What makes spreadsheet programs compute a cell instead of showing it; some widths of a sign count as the sign.
_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MARK = "'"
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # control characters, which a workbook cannot hold
_LONGEST = 32_767  # characters of a cell of a workbook
_NARROWEST, _WIDEST = 8, 60
_DIGITS = "%.10g"  # what differs behind the tenth digit depends on the number of threads


def save_csv(table: pd.DataFrame, path: Path) -> None:
    """Write comma-separated values of ten digits into a file."""
    path.write_text(csv_text(table), encoding="utf-8", errors="replace", newline="")


def csv_text(table: pd.DataFrame) -> str:
    """Write comma-separated values of ten digits as a text."""
    text: str = harmless(table).to_csv(index=False, float_format=_DIGITS, lineterminator="\n")
    return text


def harmless(table: pd.DataFrame) -> pd.DataFrame:
    """Mark texts that a spreadsheet program would compute, in cells and names of columns."""
    return table.map(_marked).rename(columns=_marked)


def as_written(table: pd.DataFrame) -> pd.DataFrame:
    """Take off the marks that :func:`harmless` sets."""
    return table.map(_unmarked).rename(columns=_unmarked)


def _computes(text: str) -> bool:
    return text.startswith(_STARTS) and not _NUMBER.fullmatch(text)


def _marked(value: object) -> object:
    """Marked texts are marked once more, so that what was marked can be told from what was not."""
    return _MARK + value if isinstance(value, str) and _computes(value.lstrip(_MARK)) else value


def _unmarked(value: object) -> object:
    if isinstance(value, str) and value.startswith(_MARK) and _computes(value.lstrip(_MARK)):
        return value[1:]
    return value


def save_workbook(sheets: Mapping[str, pd.DataFrame], path: Path) -> None:
    """Write tables as the sheets of a workbook."""
    path.write_bytes(workbook_bytes(sheets))


def workbook_bytes(sheets: Mapping[str, pd.DataFrame]) -> bytes:
    """Write tables as the sheets of a workbook that is nowhere yet."""
    from openpyxl import Workbook  # noqa: PLC0415 - for those who write one
    from openpyxl.styles import Font  # noqa: PLC0415
    from openpyxl.utils import get_column_letter  # noqa: PLC0415

    book = Workbook()
    book.remove(book.worksheets[0])
    for name, table in sheets.items():
        sheet = book.create_sheet(name)
        sheet.freeze_panes = "A2"
        for number, column in enumerate(table, start=1):
            cells = [str(column), *table[column].tolist()]
            for row, value in enumerate(cells, start=1):
                _fill(sheet.cell(row, number), value)
            sheet.cell(1, number).font = Font(bold=True)
            width = min(_WIDEST, max(_NARROWEST, *(len(str(value)) + 2 for value in cells)))
            sheet.column_dimensions[get_column_letter(number)].width = width
    whole = BytesIO()  # an archive on a full disk cannot be closed
    book.save(whole)
    return whole.getvalue()


def _fill(cell: Any, value: object) -> None:  # noqa: ANN401 - a cell of openpyxl, not imported here
    if isinstance(value, str):
        cell.value = _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", value)[:_LONGEST]
        cell.data_type = "s"  # openpyxl takes a leading "=" for a formula
        cell.quotePrefix = _computes(value)  # and so would whoever edits the cell
    elif value is not pd.NA and not (isinstance(value, float) and not math.isfinite(value)):
        cell.value = value
