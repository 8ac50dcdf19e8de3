"""Tables for the bench: CSV files and workbooks in which no label can act as a formula."""

import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from surrogates.whole_file import write_whole

EXPORT_ENDINGS = (".xlsx", ".csv")
# What makes spreadsheet programs compute a cell instead of showing it.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_TEXT_MARK = "'"
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")  # control characters, which a workbook cannot hold
_NARROWEST, _WIDEST = 8, 60


def write_export(path: Path, sheets: Mapping[str, pd.DataFrame]) -> tuple[Path, ...]:
    """Write some tables for the bench, each file whole or not at all."""
    places = export_places(path, sheets)
    if path.suffix == ".xlsx":
        write_whole(path, lambda temporary: _write_workbook(sheets, temporary))
        return places
    for place, table in zip(places, sheets.values(), strict=True):
        safe = harmless(table)
        write_whole(place, partial(safe.to_csv, index=False, lineterminator="\n", float_format="%.10g"))
    return places


def export_places(path: Path, sheets: Mapping[str, pd.DataFrame]) -> tuple[Path, ...]:
    """Name the files of an export before they are written."""
    if path.suffix == ".xlsx":
        return (path,)
    others = [name.replace(" ", "-") for name in list(sheets)[1:]]
    return (path, *(path.with_name(f"{path.stem}-{name}{path.suffix}") for name in others))


def harmless(table: pd.DataFrame) -> pd.DataFrame:
    """Mark texts that a spreadsheet program would compute as text, by an apostrophe in front."""
    return table.map(_marked).rename(columns=_marked)


def as_meant(text: str) -> str:
    """Take off the mark that :func:`harmless` sets."""
    marked = text.startswith(_TEXT_MARK) and text[1:].startswith(_FORMULA_STARTS)
    return text[1:] if marked else text


def _marked(value: object) -> object:
    if isinstance(value, str) and value.startswith(_FORMULA_STARTS):
        return _TEXT_MARK + value
    return value


def _write_workbook(sheets: Mapping[str, pd.DataFrame], path: Path) -> None:
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
    book.save(path)


def _fill(cell: Any, value: object) -> None:  # noqa: ANN401 - a cell of openpyxl, not imported here
    if isinstance(value, str):
        cell.value = _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", value)
        cell.data_type = "s"  # openpyxl takes a leading "=" for a formula
        cell.quotePrefix = value.startswith(_FORMULA_STARTS)  # and so would whoever edits the cell
    elif not (isinstance(value, float) and not math.isfinite(value)):
        cell.value = value
