"""Exports: what is written is read back as it was, and no label can act as a formula."""

from pathlib import Path

import openpyxl
import pandas as pd

from inverse_design.campaign.export import export_places, write_export

SHEETS = {
    "plate map": pd.DataFrame({"well": ["A01", "B07"], "perturbation": ["=1+1", "KLF1"], "replicate": [1, 2]}),
    "reagents": pd.DataFrame({"gene": ["KLF1"], "sequence": ["ACGT"]}),
    "batch": pd.DataFrame({"perturbation": ["=1+1", "KLF1"], "predicted": [-0.25, float("nan")]}),
}


def test_a_workbook_has_a_sheet_per_table_and_only_text_and_numbers(tmp_path: Path) -> None:
    places = write_export(tmp_path / "plate.xlsx", SHEETS)
    assert places == (tmp_path / "plate.xlsx",)
    book = openpyxl.load_workbook(places[0])
    assert book.sheetnames == list(SHEETS)
    for name, table in SHEETS.items():
        header, *rows = book[name].iter_rows(values_only=True)
        assert list(header) == list(table)
        assert rows == [tuple(None if pd.isna(v) else v for v in row) for row in table.itertuples(index=False)]
    cell = book["plate map"]["B2"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == ("=1+1", "s", True)
    assert book["batch"]["B2"].data_type == "n"


def test_csv_files_stand_beside_each_other(tmp_path: Path) -> None:
    places = write_export(tmp_path / "plate.csv", SHEETS)
    assert [place.name for place in places] == ["plate.csv", "plate-reagents.csv", "plate-batch.csv"]
    assert places == export_places(tmp_path / "plate.csv", SHEETS)
    assert places[0].read_text() == "well,perturbation,replicate\nA01,'=1+1,1\nB07,KLF1,2\n"
    assert places[2].read_text() == "perturbation,predicted\n'=1+1,-0.25\nKLF1,\n"
    assert sorted(tmp_path.iterdir()) == sorted(places)


def test_signs_that_a_workbook_cannot_hold_are_replaced(tmp_path: Path) -> None:
    (place,) = write_export(tmp_path / "a.xlsx", {"batch": pd.DataFrame({"reason": ["a\x00b"]})})
    assert openpyxl.load_workbook(place)["batch"]["A2"].value == "a\N{REPLACEMENT CHARACTER}b"
