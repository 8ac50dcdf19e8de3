"""Values in a few lines: what a console and a notebook show of them."""

import html
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from surrogates.errors import some_of

MOST_LINES = 5
_WIDTH = 110
_SHOWN = 3  # items of a tuple, or characters of a text in units of 20


def summary(value: object) -> str:
    """Name the class of a dataclass and what its fields hold, tensors and tables by their size only.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Point:
        ...     names: tuple[str, ...]
        ...     __repr__ = summary
        >>> Point(("A", "B", "C", "D", "E"))
        Point(names=('A', 'B', 'C' and 2 more))
    """
    if not is_dataclass(value):
        return _in_short(value)
    shown = ", ".join(f"{each.name}={_in_short(getattr(value, each.name))}" for each in fields(value) if each.repr)
    lines = textwrap.wrap(f"{type(value).__name__}({shown})", _WIDTH)
    return "\n".join(lines if len(lines) <= MOST_LINES else [*lines[: MOST_LINES - 1], "...)"])


def lines_of(*lines: str) -> str:
    """Put lines below each other, each cut to the width of a console."""
    cut = [line if len(line) <= _WIDTH else f"{line[: _WIDTH - 4]} ..." for line in lines if line]
    return "\n".join(cut[:MOST_LINES])


def wrapped(text: str) -> list[str]:
    """Fold a text to the width of a console."""
    return textwrap.wrap(text, _WIDTH, break_on_hyphens=False)


def as_html(lines: Sequence[str], table: pd.DataFrame, *, rows: int = 10) -> str:
    """Show lines of text above the first rows of a table, for a notebook."""
    said = "".join(f"<div>{html.escape(line)}</div>" for line in lines)
    named = not isinstance(table.index, pd.RangeIndex)
    shown: str = table.head(rows).to_html(border=0, float_format="{:.4g}".format, na_rep="", index=named)
    return said + shown + _rest(len(table) - rows)


def _rest(count: int) -> str:
    return f"<div>and {count:,} more rows</div>" if count > 0 else ""


def counted(items: Sequence[str], *, shown: int = _SHOWN) -> str:
    """List the first of some names, and how many more there are."""
    return some_of(map(repr, items), shown)


def _in_short(value: object) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"<{' by '.join(map(str, value.shape)) or 'one'} numbers>"
    if isinstance(value, pd.DataFrame):
        return f"<table of {len(value):,} rows>"
    if isinstance(value, Mapping):
        return f"<{len(value):,} by name>"
    if isinstance(value, tuple | list | frozenset):
        return f"({some_of(map(_in_short, value), _SHOWN)})"
    if is_dataclass(value) and not isinstance(value, type):
        return f"{type(value).__name__}(...)"
    text = " ".join(repr(value).split())
    return text if len(text) <= 20 * _SHOWN else f"{text[: 20 * _SHOWN]}..."
