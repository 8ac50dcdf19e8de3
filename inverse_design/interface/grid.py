"""Aligned columns of text, the same on a terminal and in a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from inverse_design.interface.console import printable

_GAP, _NARROW_GAP = 2, 1


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        header: Its name.
        cells: Its text, one for each row.
        justify: Numbers stand right.
        below: Whether it moves under its row where a terminal is too narrow for all columns.
        most: How wide it may be on such a terminal.
    """

    header: str
    cells: tuple[str, ...]
    justify: Literal["left", "right"] = "left"
    below: bool = False
    most: int = 30


@dataclass(frozen=True)
class Grid:
    """A table of text.

    Attributes:
        columns: At least one, all of one length.
    """

    columns: tuple[Column, ...]

    def show(self, console: Console) -> None:
        """Print the table: whole lines into a file, within its width on a terminal.

        Where a terminal is too narrow, columns marked ``below`` stand under their row; if that is not enough,
        the other columns are printed in blocks, each with the first column, and the first with what is below.

        Args:
            console: Where.
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
