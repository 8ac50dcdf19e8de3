"""Tables for the bench: some CSV files beside each other, or the sheets of one workbook."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from inverse_design.spreadsheets import save_csv, save_workbook
from surrogates.whole_file import staged, write_whole

EXPORT_ENDINGS = (".xlsx", ".csv")


def write_export(path: Path, sheets: Mapping[str, pd.DataFrame]) -> tuple[Path, ...]:
    """Write some tables for the bench, each file whole or not at all."""
    places = export_places(path, sheets)
    if path.suffix == ".xlsx":
        write_whole(path, lambda part: save_workbook(sheets, part))
        return places
    with staged(places) as parts:
        for place, table in zip(places, sheets.values(), strict=True):
            save_csv(table, parts[place])
    return places


def export_places(path: Path, sheets: Mapping[str, pd.DataFrame]) -> tuple[Path, ...]:
    """Name the files of an export before they are written."""
    if path.suffix == ".xlsx":
        return (path,)
    others = [name.replace(" ", "-") for name in list(sheets)[1:]]
    return (path, *(path.with_name(f"{path.stem}-{name}{path.suffix}") for name in others))
