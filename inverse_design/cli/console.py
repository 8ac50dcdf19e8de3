"""One invocation of the command line: results go to standard output, messages and errors to standard error."""

import json
import logging
import math
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any

from cyclopts import Parameter
from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from inverse_design.errors import masked
from inverse_design.planning.course import LOG, Pace, about
from surrogates.errors import printable

PROGRAM = "inverse-design"
_LABEL = 10


def examples(*lines: str) -> str:
    """Write the examples of a verb's help."""
    return "Examples:\n\n" + "\n".join(f"- `{PROGRAM} {line}`" for line in lines)


def _not_both(_type: object, manner: "Manner") -> None:
    """Refuse what says less and more at once."""
    if manner.quiet and manner.verbose:
        raise ValueError("--quiet says less and --verbose says more; leave one of them out")


@Parameter(name="*", validator=_not_both)
@dataclass(frozen=True)
class Manner:
    """How a verb answers.

    Attributes:
        json: Print everything as one JSON document on standard output, and nothing else there.
        quiet: Say nothing but results and errors.
        verbose: Say when each stage begins and ends.
        config: A .toml file of options; inverse-design.toml of the working directory by default.
    """

    json: bool = False
    quiet: Annotated[bool, Parameter(name=["--quiet", "-q"])] = False
    verbose: Annotated[bool, Parameter(name=["--verbose", "-v"])] = False
    config: str | None = None
    # Which file gave which options; see config.py.
    from_file: Annotated[Mapping[str, object], Parameter(parse=False)] = field(default_factory=dict)


MANNER = Manner()


@Parameter(name="*")
@dataclass(frozen=True)
class Run:
    """What was typed, and when.

    Attributes:
        force: Overwrite files that this program did not write.
    """

    arguments: Annotated[tuple[str, ...], Parameter(parse=False)] = ()  # the words behind the name of the program
    started: Annotated[datetime, Parameter(parse=False)] = field(default_factory=lambda: datetime.now(UTC))
    force: bool = False
    manner: Manner = MANNER

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


def reply(manner: Manner, facts: Mapping[str, object], show: Callable[[Console], None]) -> None:
    """Print what a verb found: for programs, or in words."""
    console = output()
    if manner.json:
        show_json(console, {**facts, **({"config": manner.from_file} if manner.from_file else {})})
    else:
        show(console)


def show_json(console: Console, facts: object) -> None:
    """Print JSON, and nothing beside it."""
    console.out(json.dumps(strict(facts), indent=1, allow_nan=False), highlight=False)


def strict(value: object) -> object:
    """Replace numbers that JSON cannot hold by null, in any depth, and paths by their names."""
    if isinstance(value, Mapping):
        return {str(key): strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say_written(console: Console, *places: Path | None) -> None:
    """Say which files were written, if any."""
    written = [str(place) for place in places if place is not None]
    if written:
        say(console)
        say(console, "wrote " + " and ".join(written))


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


def show_notes(console: Console, notes: Sequence[str]) -> None:
    """Print the notes that are no warnings, which come after everything else."""
    for note in notes:
        if not note.startswith("warning"):
            say(console, note, "dim")


@contextmanager
def logged(*, quiet: bool, verbose: bool) -> Iterator[None]:
    """Write the log to standard error: warnings; in a file or a pipe each long stage; if verbose all stages."""
    handler = logging.StreamHandler(sys.stderr)
    level = logging.WARNING if sys.stderr.isatty() else logging.INFO
    LOG.setLevel(logging.ERROR if quiet else logging.DEBUG if verbose else level)
    LOG.addHandler(handler)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(logging.NOTSET)


class StageView:
    """The present stage, the share of all work that is done, and the time that is left."""

    def __init__(self, what: str) -> None:
        """Begin with work of unknown length."""
        self._spinner = Spinner("dots")
        self._pace, self._at = Pace(what, 0.0, 0.0), time.monotonic()

    def __call__(self, pace: Pace) -> None:
        """Say how far the work is."""
        self._pace, self._at = pace, time.monotonic()

    def __rich__(self) -> Table:
        """Show it; between two words of the work, time goes on."""
        row: list[RenderableType] = [self._spinner, printable(self._pace.stage)]
        if self._pace.seconds > 0:
            left = max(0.0, self._pace.left - (time.monotonic() - self._at))
            done = self._pace.seconds - left
            row += [ProgressBar(self._pace.seconds, done, width=40), f"{about(left)} left"]
        grid = Table.grid(padding=(0, 1))
        grid.add_row(*row)
        return grid


@contextmanager
def working(what: str) -> Iterator[StageView]:
    """Show on a terminal how far something is, unless the log says it, and nothing afterwards."""
    console, view = complaints(), StageView(what)
    if not console.is_terminal or LOG.level != logging.WARNING:
        yield view
        return
    with Live(view, console=console, refresh_per_second=5, transient=True):
        yield view
