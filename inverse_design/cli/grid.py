"""Aligned columns of text, the same on a terminal and in a file, with numbers as people read them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from inverse_design.numbers import decimals_for, fixed, in_column, probability
from surrogates.errors import printable

_GAP, _NARROW_GAP = 2, 1


@dataclass(frozen=True)
class Column:
    """One column."""

    header: str  # its name
    cells: tuple[str, ...]  # its text, one for each row
    justify: Literal["left", "right"] = "left"  # numbers stand right
    below: bool = False  # whether it moves under its row where a terminal is too narrow for all columns
    most: int = 30  # how wide it may be on such a terminal


@dataclass(frozen=True)
class Grid:
    """A table of text."""

    columns: tuple[Column, ...]  # at least one, all of one length

    def show(self, console: Console) -> None:
        """Print the table: whole lines into a file, within its width on a terminal.

        Where a terminal is too narrow, columns marked ``below`` stand under their row; if that is not enough,
        the other columns are printed in blocks, each with the first column, and the first with what is below.
        """
        if not console.is_terminal or sum(map(_whole, self.columns)) + _GAP * len(self.columns) <= console.width:
            for number, line in enumerate(_lines(self.columns, [_whole(column) for column in self.columns], _GAP)):
                _print(console, line, number)
            return
        under = [column for column in self.columns if column.below]
        blocks = _blocks([column for column in self.columns if not column.below], console.width)
        for place, block in enumerate(blocks):
            for number, line in enumerate(_lines(block, [_cropped(column) for column in block], _NARROW_GAP)):
                _print(console, line, number)
                for column in under if number and not place else ():
                    remark = Text("     " + printable(column.cells[number - 1]), style="dim", overflow="ellipsis")
                    console.print(remark, no_wrap=True, soft_wrap=False)


def _print(console: Console, line: str, number: int) -> None:
    console.print(Text(line, style="" if number else "bold"), soft_wrap=True)


def _lines(columns: Sequence[Column], widths: Sequence[int], gap: int) -> Iterator[str]:
    for row in zip(*([column.header, *column.cells] for column in columns), strict=True):
        cells = [_fit(text, width, column) for text, width, column in zip(row, widths, columns, strict=True)]
        yield (" " * gap).join(cells).rstrip()


def _blocks(columns: Sequence[Column], width: int) -> list[tuple[Column, ...]]:
    first, *rest = columns
    blocks: list[tuple[Column, ...]] = []
    block: tuple[Column, ...] = (first,)
    for column in rest:
        wider = (*block, column)
        if len(block) > 1 and sum(map(_cropped, wider)) + _NARROW_GAP * (len(wider) - 1) > width:
            blocks.append(block)
            wider = (first, column)
        block = wider
    return [*blocks, block]


def _whole(column: Column) -> int:
    return max(cell_len(printable(text)) for text in (column.header, *column.cells))


def _cropped(column: Column) -> int:
    return min(_whole(column), max(column.most, cell_len(column.header)))


def _fit(text: str, width: int, column: Column) -> str:
    shown = printable(text)
    if cell_len(shown) > width:
        return set_cell_size(shown, width - 1) + "…"
    padding = " " * (width - cell_len(shown))
    return padding + shown if column.justify == "right" else shown + padding


def grid_of(table: pd.DataFrame, *together: Sequence[str]) -> Grid:
    """Lay a table out; numbers in columns that are named together get as many decimals as each other."""
    numbers: dict[str, tuple[str, ...]] = {}
    for names in together:
        there = [name for name in names if name in table]
        decimals = decimals_for([float(value) for name in there for value in table[name]])
        numbers |= {name: tuple(fixed(float(value), decimals) for value in table[name]) for name in there}
    return Grid(tuple(_column_of(str(name), table[name], numbers.get(str(name))) for name in table))


def _column_of(name: str, values: pd.Series, numbers: tuple[str, ...] | None) -> Column:
    if numbers is not None:
        return Column(name, numbers, "right")
    if name == "probability":
        return Column(name, tuple(probability(float(each)) for each in values), "right")
    if pd.api.types.is_bool_dtype(values):
        known = zip(values.tolist(), values.isna().tolist(), strict=True)
        return Column(name, tuple("-" if missing else "yes" if each else "no" for each, missing in known))
    if pd.api.types.is_float_dtype(values):
        return Column(name, in_column(values.tolist()), "right")
    right = pd.api.types.is_numeric_dtype(values)
    texts = tuple(map(str, values.tolist()))
    return Column(name, texts, "right" if right else "left", below=name == "reason", most=20)
