"""What a page says, and how it becomes one file: nothing fetched, no script but ours, names shown as they are."""

import base64
import gzip
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from inverse_design.errors import OutputError
from inverse_design.plot.style import Chart
from inverse_design.report.words import GLOSSARY
from inverse_design.spreadsheets import csv_text
from surrogates.errors import printable, shown
from surrogates.whole_file import write_whole

_MOST_ROWS = 200  # of a table that is shown; the download has more
_MOST_BYTES = 300_000  # of a download
_MOST_PAGE = 3_000_000  # bytes of a page with interactive figures; a larger one has still figures only
_LEAST = 1e-9  # of a positive number whose digits are shown
_SHORT, _SENTENCE = 24, 60  # characters of a cell: up to which it stays on a line, and up to which it is a name


@dataclass(frozen=True)
class Library:
    """Scripts of a page, and the checksums by which its policy admits them."""

    packed: str  # plotly.js: gzip, base64
    start: Markup  # unpacks it and draws the figures
    policy: Markup  # of the scripts


@cache
def library() -> Library:
    """Pack plotly.js of the installed package."""
    plotly = files("plotly").joinpath("package_data", "plotly.min.js").read_bytes()
    start = files("inverse_design.report").joinpath("templates", "live.js").read_text(encoding="utf-8")
    admitted = (base64.b64encode(hashlib.sha256(each).digest()).decode() for each in (plotly, start.encode()))
    return Library(
        packed=base64.b64encode(gzip.compress(plotly, 9, mtime=0)).decode(),
        start=Markup(start),  # noqa: S704 - a file of this package
        policy=Markup(" ".join(f"'sha256-{each}'" for each in admitted)),  # noqa: S704 - checksums
    )


@dataclass(frozen=True)
class Drawing:
    """A figure as an element of the page."""

    svg: str  # by :func:`inverse_design.plot.svg_of`, which escapes what it writes
    caption: str
    chart: Chart | None = None  # the same for plotly.js, where the page is shown by what runs scripts
    hero: bool = False  # as wide as the page

    @property
    def markup(self) -> Markup:
        """The figure, which is not escaped again."""
        return Markup(self.svg)  # noqa: S704 - escaped where it was drawn


@dataclass(frozen=True)
class Attachment:
    """A file that the page carries."""

    name: str  # proposed to whoever saves it
    kind: str  # media type
    content: str
    remark: str = ""  # what was left out

    @classmethod
    def of_table(cls, name: str, table: pd.DataFrame) -> "Attachment":
        """Carry a table, or as many of its first rows as there is room for."""
        rows, content = len(table), csv_text(table)
        while len(content.encode()) > _MOST_BYTES and rows > 1:
            rows //= 2
            content = csv_text(table.head(rows))
        remark = "" if rows == len(table) else f"the first {rows:,} of {len(table):,} rows"
        return cls(name, "text/csv", content, remark)

    @property
    def link(self) -> str:
        """The content as an address."""
        return f"data:{self.kind};base64,{base64.b64encode(self.content.encode()).decode()}"


@dataclass(frozen=True)
class PageTable:
    """Rows of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    kinds: tuple[str, ...]  # of the columns: ``n`` for numbers, ``short``, ``name`` or ``long`` for texts
    more: int = 0  # rows that are not shown
    marked: frozenset[int] = frozenset()  # rows that stand out less
    best: int | None = None  # the row that stands out

    @classmethod
    def of(cls, table: pd.DataFrame, *, marked: Sequence[int] = (), best: int | None = None) -> "PageTable":
        """Write a table."""
        shown = table.head(_MOST_ROWS)
        rows = tuple(tuple(map(in_text, row)) for row in shown.itertuples(index=False, name=None))
        columns = tuple(str(name).replace("_", " ") for name in table.columns)
        longest = [max((len(row[at]) for row in rows), default=0) for at in range(len(columns))]
        kinds = tuple(
            "n" if is_numeric_dtype(kind) and not is_bool_dtype(kind)
            else "short" if length <= _SHORT else "name" if length <= _SENTENCE else "long"
            for kind, length in zip(shown.dtypes, longest, strict=True)
        )  # fmt: skip
        return cls(columns, rows, kinds, len(table) - len(shown), frozenset(marked), best)


@dataclass(frozen=True)
class Number:
    """A number that the verdict rests on."""

    name: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    heading: str
    lines: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    table: PageTable | None = None
    drawings: tuple[Drawing, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    folded: str = ""  # a long text that is shown when it is asked for

    @property
    def for_screen(self) -> bool:
        """Whether nothing of it could be printed."""
        return not (self.lines or self.facts or self.table or self.drawings)


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    verdict: str  # one plain sentence
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]
    numbers: tuple[Number, ...] = ()

    def html(self) -> str:
        """Write the page, with interactive figures if there is room for them."""
        charts = any(drawing.chart for part in self.sections for drawing in part.drawings)
        text = self._written(library() if charts else None)
        return text if len(text.encode()) <= _MOST_PAGE or not charts else self._written(None)

    def _written(self, scripts: Library | None) -> str:
        templates = Environment(
            loader=PackageLoader("inverse_design.report", "templates"), autoescape=True, undefined=StrictUndefined
        )
        templates.filters |= {"shown": printable, "anchor": _anchor, "word": _word}
        templates.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
        return templates.get_template("page.html").render(page=self, glossary=GLOSSARY, library=scripts)


def _anchor(word: str) -> str:
    return word.replace(" ", "-")


def _word(column: str) -> str:
    """Find the word of the glossary that explains a column."""
    return next((_anchor(word) for word in GLOSSARY if word in column), "")


def write_page(page: Page, path: str | Path) -> Path:
    """Write a page as one file, whole or not at all."""
    place = Path(path)
    if not place.parent.is_dir():
        raise OutputError(
            f"report {shown(str(path))}: there is no folder {shown(str(place.parent))}; make it first"
        )
    text = page.html()
    write_whole(place, lambda part: part.write_text(text, encoding="utf-8"))
    return place


def in_text(value: object) -> str:
    """Write a cell."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if not isinstance(value, float):
        return str(value)
    return f"<{_LEAST:g}" if 0 < value < _LEAST else f"{value:.4g}"
