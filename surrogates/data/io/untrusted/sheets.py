"""Sheets of Excel files, read row by row: an archive may unpack to more than it says, a row be mostly empty."""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import ParseError

from surrogates.data.io.untrusted.sizes import in_units, most_unpacked, refuse_too_large
from surrogates.errors import DataError, listed, shown

Row = list[object]

# What openpyxl, zipfile and the parser of XML raise on damaged archives.
_BROKEN = (
    OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, EOFError, RuntimeError,
    AssertionError, MemoryError, struct.error, zlib.error, zipfile.BadZipFile, ParseError,
)  # fmt: skip
_PROLOGUE = 65_536  # bytes of a member, before which its first element begins
_OF_CELL = 64  # bytes that a cell takes in memory
_MOST_CELLS = 4_000_000
_MOST_EMPTY = 100_000  # rows, each of which takes its time
_CELLS_PER_BYTE = 2


def sheet_rows(path: Path) -> tuple[str, list[Row]]:
    """Read the only filled sheet of an Excel file, and its name; rows are filled up with empty texts."""
    from openpyxl import load_workbook  # noqa: PLC0415 - needed for these files only

    _refuse_bomb(path)
    try:
        book = load_workbook(path, read_only=True, data_only=True, keep_links=False)
        try:
            for sheet in book.worksheets:
                sheet.reset_dimensions()
            filled = [each for each in book.worksheets if next(_rows(each.iter_rows(), path), None)]
            if len(filled) > 1 or not book.worksheets:
                raise DataError(
                    f"{path.name!r} has {len(filled)} sheets ({listed(each.title for each in filled)}); save the"
                    " one that is meant as a file of its own"
                )
            sheet = (filled or book.worksheets)[0]
            rows = list(_rows(sheet.iter_rows(), path))
        finally:
            book.close()
    except _BROKEN as error:
        why = shown(str(error) or type(error).__name__, bare=True)
        raise DataError(f"{path.name!r} is no readable Excel file ({why}); save it again") from error
    width = max(map(len, rows), default=0)
    shape = f"{path.name!r} ({len(rows):,} rows of {width:,} columns)"
    refuse_too_large(shape, _OF_CELL * len(rows) * width, of_file=path.stat().st_size)
    return str(sheet.title), [row + [""] * (width - len(row)) for row in rows]


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that claims to unpack to more than its size allows, or whose XML defines entities."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(each.file_size for each in archive.infolist())
            begins = [
                archive.open(each).read(_PROLOGUE) for each in archive.infolist() if each.filename.endswith("l")
            ]
    except _BROKEN as error:
        raise DataError(f"{path.name!r} is no Excel file ({shown(error, bare=True)}); save it again") from error
    of_file = path.stat().st_size
    if unpacked > most_unpacked(of_file):
        raise DataError(
            f"{path.name!r} has {in_units(of_file)} and claims to unpack to {in_units(unpacked)}; it is damaged"
            " or made up: save it again, or as .csv"
        )
    if any(b"<!DOCTYPE" in each or b"\0" in each for each in begins):
        raise DataError(
            f"{path.name!r} declares what its XML means, as no spreadsheet does; save it again, or as .csv"
        )


def _rows(rows: Iterator[tuple[object, ...]], path: Path) -> Iterator[Row]:
    """Rows down to the last one with a value, each up to its last value."""
    seen, empty, most = 0, 0, max(_MOST_CELLS, _CELLS_PER_BYTE * path.stat().st_size)
    for cells in rows:
        seen += 1 + len(cells)
        if seen > most:
            raise DataError(
                f"{path.name!r} has more than {most:,} cells, many of them empty: more than its size allows; save"
                " the table alone, or as .csv"
            )
        row = [_value(cell) for cell in cells]
        while row and row[-1] == "":
            row.pop()
        if not row:
            empty += 1
            if empty > _MOST_EMPTY:
                raise DataError(f"{path.name!r} has more than {_MOST_EMPTY:,} empty rows in a row; delete them")
            continue
        yield from ([] for _ in range(empty))
        empty = 0
        yield row


def _value(cell: object) -> object:
    """What stands in a cell: errors are missing values, and 2.0 is the number 2."""
    value: object = getattr(cell, "value", None)
    if value is None:
        return ""
    if getattr(cell, "data_type", "") == "e":
        return "#N/A"
    return int(value) if isinstance(value, float) and value.is_integer() else value
