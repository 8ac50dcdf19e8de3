"""One invocation of the command line: results go to standard output, messages and errors to standard error."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from textwrap import wrap
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from inverse_design.errors import masked
from surrogates.summary import printable

PROGRAM = "inverse-design"
_LABEL = 10


def examples(*lines: str) -> str:
    """Write the examples of a verb's help."""
    return "Examples:\n\n" + "\n".join(f"- `{PROGRAM} {line}`" for line in lines)


@dataclass(frozen=True)
class Run:
    """What was typed, and when.

    Attributes:
        force: Overwrite files that this program did not write.
    """

    arguments: Annotated[tuple[str, ...], Parameter(parse=False)] = ()  # the words behind the name of the program
    started: Annotated[datetime, Parameter(parse=False)] = field(default_factory=lambda: datetime.now(UTC))
    force: bool = False

    @property
    def command(self) -> str:
        """The command line, quoted so that a shell reads it back; passwords are masked."""
        return shlex.join((PROGRAM, *map(masked, self.arguments)))


class ReaderLeftError(BrokenPipeError):
    """Whoever read the output has seen enough."""


class PipedConsole(Console):
    """A console whose reader may leave early, which rich answers by exiting with code 1."""

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - as rich has it
        """Print, and name the stream if it cannot be written."""
        try:
            super().print(*objects, **options)
        except ReaderLeftError:
            raise
        except OSError as error:
            stream = "standard error" if self.stderr else "standard output"
            raise OSError(error.errno, error.strerror, stream) from error

    def on_broken_pipe(self) -> None:
        """Leave the answer to the caller."""
        raise ReaderLeftError


def output() -> Console:
    """Open standard output; names from data are printed as they are, never as markup."""
    return PipedConsole(highlight=False, markup=False, emoji=False, soft_wrap=True)


def complaints() -> Console:
    """Open standard error."""
    return PipedConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(console: Console, text: str = "", style: str = "") -> None:
    """Print one line."""
    console.print(Text(printable(text), style=style), soft_wrap=not console.is_terminal)


def show_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Print facts with their names in front, one in each line, or folded to the width of a terminal."""
    width = max(_LABEL, *(len(name) + 2 for name in facts)) if facts else _LABEL
    for name, text in facts.items():
        lines = wrap(text, console.width - width, break_on_hyphens=False) if console.is_terminal else [text]
        for number, line in enumerate(lines or [""]):
            say(console, f"{'' if number else name:<{width}}{line}")


def show_warnings(console: Console, notes: Sequence[str]) -> None:
    """Print the warnings among some notes, which come before everything else."""
    for note in notes:
        if note.startswith("warning"):
            say(console, note, "bold yellow")


class Ticker:
    """Shows how far some work is; silent unless standard error is a terminal."""

    def __init__(self, progress: Progress, what: str) -> None:
        """Begin with work of unknown length."""
        self._progress = progress
        self._task = progress.add_task(what, total=None)

    def __call__(self, done: int, total: int, now: str | None = None) -> None:
        """Say how far the work is."""
        self._progress.update(self._task, completed=done, total=total, description=now)


@contextmanager
def working(what: str) -> Iterator[Ticker]:
    """Show progress while something runs, and nothing afterwards."""
    console = complaints()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Ticker(progress, what)
