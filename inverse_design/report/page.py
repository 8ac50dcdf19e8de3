"""What a page says, and how it becomes one file: no script, nothing fetched, all names shown as they are."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from inverse_design.spreadsheets import csv_text
from surrogates.errors import printable
from surrogates.whole_file import write_whole

_MOST_ROWS = 200  # of a table that is shown; the download has more
_MOST_BYTES = 600_000  # of a download
GLOSSARY = {
    "aligned readouts": "the measured variables that both the target and the screen have; only these are compared",
    "candidate": "a perturbation that may be proposed: allowed, and not measured yet",
    "certificate": "what the search looked at, and how it is known that nothing better was missed",
    "distance": "root mean square difference to the target over the aligned readouts, in the unit of the screen",
    "doing nothing": "leaving the cells as the control; a candidate has to come nearer than that",
    "effect": "change of a readout against the control of the same context",
    "error model": "how far predictions were from measurements that they had not seen",
    "interval": "lower to upper: holds what a new measurement will show with the stated probability",
    "novelty": "how many of the parts of a perturbation were measured alone",
    "probability": "that this candidate made the target, if one of the candidates did",
    "set": "the smallest list that holds the perturbation behind the target with the stated probability",
    "target": "the state that is wanted",
}


@dataclass(frozen=True)
class Drawing:
    """A figure as an element of the page."""

    svg: str  # by :func:`inverse_design.plot.svg_of`, which escapes what it writes
    caption: str

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
    more: int = 0  # rows that are not shown
    marked: frozenset[int] = frozenset()  # rows that stand out less

    @classmethod
    def of(cls, table: pd.DataFrame, *, marked: Sequence[int] = ()) -> "PageTable":
        """Write a table."""
        shown = table.head(_MOST_ROWS)
        rows = tuple(tuple(map(in_text, row)) for row in shown.itertuples(index=False, name=None))
        columns = tuple(str(name).replace("_", " ") for name in table.columns)
        return cls(columns, rows, len(table) - len(shown), frozenset(marked))


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


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    verdict: str  # one plain sentence
    warnings: tuple[str, ...]
    sections: tuple[Section, ...]

    def html(self) -> str:
        """Write the page."""
        templates = Environment(
            loader=PackageLoader("inverse_design.report", "templates"), autoescape=True, undefined=StrictUndefined
        )
        templates.filters["shown"] = printable
        return templates.get_template("page.html").render(page=self, glossary=GLOSSARY)


def write_page(page: Page, path: str | Path) -> Path:
    """Write a page as one file, whole or not at all."""
    place, text = Path(path), page.html()
    write_whole(place, lambda part: part.write_text(text, encoding="utf-8"))
    return place


def in_text(value: object) -> str:
    """Write a cell."""
    if value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def share(value: float) -> str:
    """Write a probability."""
    if math.isnan(value):
        return "-"
    return ">99.9 %" if value > 0.999 else "<0.1 %" if value < 0.001 else f"{100 * value:.3g} %"
