"""Whatever a text is, a spreadsheet shows it, and our own readers give it back."""

import csv
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree as ET

import openpyxl
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inverse_design.plot.style import name_lines, new_axes, write_figure
from inverse_design.spreadsheets import as_written, harmless, save_csv, save_workbook
from inverse_design.value_tables import text_table
from surrogates.summary import as_html

DANGEROUS = (
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\tx",
    "\r=1",
    "'=1",
    "''+x",
    "-",
    "\uff1d1",
    "-1.5e",
    "KLF1",
)
NUMBERS = ("-1.5", "+3", "-.5", "-2e-7", "1", "-0")
texts = st.sampled_from(DANGEROUS + NUMBERS) | st.text("=+-@'\t\r\n aK1.e\uff0b,\"", max_size=6)
_COMPUTED = re.compile(r"[=+\-@\t\r\n\uff0b\uff0d\uff1d\uff20]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)


@settings(max_examples=50)
@given(cells=st.lists(texts, min_size=1, max_size=6))
def test_no_cell_computes_and_every_text_is_read_back(cells: list[str]) -> None:
    table = pd.DataFrame({text: [text] for text in dict.fromkeys(cells)})
    safe = harmless(table)
    for text in (*safe.columns, *safe.iloc[0]):
        assert not _COMPUTED.match(text) or _NUMBER.fullmatch(text)
    pd.testing.assert_frame_equal(as_written(safe), table)


def test_numbers_stay_numbers(tmp_path: Path) -> None:
    table = pd.DataFrame({"-1.5": [-1.5, 2.0], "text": list(NUMBERS[:2]), "whole": [-3, 4]})
    save_csv(table, tmp_path / "a.csv")
    assert (tmp_path / "a.csv").read_text() == "-1.5,text,whole\n-1.5,-1.5,-3\n2,+3,4\n"


@pytest.mark.parametrize("text", [each for each in DANGEROUS if each.strip() == each])
def test_a_file_is_safe_to_open_and_our_readers_see_what_was_meant(text: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"perturbation": [text, "KLF1"], f"{text} of": [0.5, -1.25]})
    save_csv(table, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        for cell in (each for row in csv.reader(file) for each in row):
            assert not _COMPUTED.match(cell) or _NUMBER.fullmatch(cell)
    save_workbook({"a": table}, tmp_path / "a.xlsx")
    for name in ("a.csv", "a.xlsx"):
        read = text_table(tmp_path / name)
        assert list(read) == list(table)
        assert list(read["perturbation"]) == [text, "KLF1"]
    cell = openpyxl.load_workbook(tmp_path / "a.xlsx")["a"]["A2"]
    assert (cell.value, cell.data_type, cell.quotePrefix) == (text, "s", bool(_COMPUTED.match(text)))


@settings(max_examples=12)
@given(text=st.text(max_size=20) | st.text("\ud800\x00\x1f\ufffe", min_size=1, max_size=3))
def test_any_text_can_be_written(text: str) -> None:
    table = pd.DataFrame({"a": [text]})
    pd.testing.assert_frame_equal(as_written(harmless(table)), table)
    with TemporaryDirectory() as folder:
        save_csv(table, Path(folder) / "a.csv")
        save_workbook({"a": table}, Path(folder) / "a.xlsx")


NAMES = ["<script>alert(1)</script>", 'A & "B"']


def test_names_are_escaped_in_html_and_svg(tmp_path: Path) -> None:
    table = pd.DataFrame({
        "perturbation": NAMES, "utility": [1.0, 0.5], "distance": [0.5, 0.75], "lower": [0.25, 0.5],
        "upper": [0.75, 1.0], "probability": [0.5, 0.25], "rank": [1, 2],
    })  # fmt: skip
    shown = as_html([NAMES[0]], table)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") == 2
    axes = new_axes(3.0, 2.0)
    name_lines(axes, dict.fromkeys(NAMES, (0.5, "#000000")))
    write_figure(axes.figure, tmp_path / "a.svg")
    assert "<script" not in (tmp_path / "a.svg").read_text()
    drawn = "".join(ET.parse(tmp_path / "a.svg").getroot().itertext())  # noqa: S314 - our own file
    assert all(name in drawn for name in NAMES)
