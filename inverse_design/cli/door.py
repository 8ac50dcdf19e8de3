"""The last door: whatever happens behind it, the user gets one line and a documented exit code.

Of a fault of this program a report is written: versions, the command line and where it happened, without data.
"""

import io
import os
import platform
import re
import secrets
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import FrameType

from cyclopts import CycloptsError

from inverse_design.cli.console import PROGRAM, ReaderLeftError, Run, complaints, say
from inverse_design.errors import InverseDesignError, NothingToProposeError, masked
from surrogates.errors import SurrogatesError, UnknownChoiceError, printable
from surrogates.registry import installed_version
from surrogates.whole_file import write_whole

DONE, USAGE, REFUSED, NOTHING, FAULT, INTERRUPTED, TERMINATED = 0, 2, 3, 4, 70, 130, 143
EXIT_CODES: Mapping[int, str] = {
    DONE: "done",
    USAGE: "usage",
    REFUSED: "refused: data, a value, the place for a result, a full disk or memory",
    NOTHING: "nothing to propose",
    FAULT: "a fault of this program, with a report",
    INTERRUPTED: "interrupted (Ctrl-C)",
    TERMINATED: "terminated (SIGTERM)",
}
_WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
_LONGEST = 300  # characters of the message of a fault
_LATEST = 3.0  # seconds after a signal: what has not ended by then is left where it is


class TerminatedError(BaseException):
    """The process is to end (SIGTERM)."""


def behind_the_door(words: Sequence[str], work: Callable[[Sequence[str]], None]) -> int:
    """Do what a command line says; what goes wrong becomes a line on standard error and an exit code."""
    _open_streams()
    with _signals_as_errors() as stop, _threads_in_a_line(words, stop):
        try:
            try:
                work(words)
                _flush()
            except Exception as error:  # noqa: BLE001 - nothing behind it can be foreseen
                return _answer(error, words)
        except KeyboardInterrupt:
            return stop.say(INTERRUPTED)
        except SystemExit as left:  # of cyclopts, which has said why
            return USAGE if left.code else DONE
        except TerminatedError:
            return stop.say(TERMINATED)
        finally:
            _give_up()
    return DONE


def _answer(error: Exception, words: Sequence[str]) -> int:
    """Say what went wrong."""
    if isinstance(error, ReaderLeftError):  # the reader of a pipe has seen enough
        return DONE
    message, code = _foreseen(error, words) or (_fault(error, words), FAULT)
    return _complain(message, code)


def _foreseen(error: Exception, words: Sequence[str]) -> tuple[str, int] | None:
    """Message and exit code of what a user can mend."""
    if isinstance(error, CycloptsError):
        return f"{error} (see {PROGRAM} --help)", USAGE
    if isinstance(error, UnknownChoiceError):
        return str(error), USAGE
    if isinstance(error, NothingToProposeError):
        remedy = ", or propose measured ones again with --measured keep" if words[:1] == ("propose",) else ""
        return f"{error}{remedy}", NOTHING
    if isinstance(error, SurrogatesError | InverseDesignError | OSError):
        return str(error), REFUSED
    if _is_out_of_memory(error):
        return "the memory is full: read fewer readouts (--readouts), or take a larger machine", REFUSED
    return None


def _fault(error: Exception, words: Sequence[str]) -> str:
    said = " ".join(f"{type(error).__name__}: {error}".split())[:_LONGEST].removesuffix(":")
    place = write_fault_report(error, words)
    report = "no report of it could be written" if place is None else f"please send us the report {str(place)!r}"
    return f"a fault of {PROGRAM} itself ({said}); {report}"


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory was refused: torch has no class for that on processors."""
    signs = ("can't allocate memory", "not enough memory", "out of memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in signs)
    )


def _complain(message: str, code: int) -> int:
    with suppress(OSError):  # nobody reads it
        say(complaints(), f"error: {masked(' '.join(message.split()))}", "red")
    return code


def _open_streams() -> None:
    """Make both streams writable: a caller may have closed them, and a locale without "×" is no reason to fail."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8"))
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise ReaderLeftError from error


def _give_up() -> None:
    """Leave nothing in an output that cannot be written: it would fail again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass
class _Stop:
    """What ended a command line from outside; it is said once."""

    asked: bool = False  # whether a signal came
    said: bool = False  # whether it was answered

    def say(self, code: int) -> int:
        if not self.said:
            self.said = True
            _complain(f"{_WORDS[code]}; nothing was left half-written", code)
        return code

    def leave(self, code: int) -> None:
        """End what cannot be ended in order: a long sum, or a queue that waits for a worker that is gone."""
        self.say(code)
        os._exit(code)


@contextmanager
def _signals_as_errors() -> Iterator[_Stop]:
    """Raise what ends a process as an error, after ending its workers; ignored signals stay ignored."""
    stop = _Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def answer(number: int, _frame: FrameType | None) -> None:
        if stop.asked:  # some senders reach the process, and then its group
            return
        stop.asked = True
        end = threading.Timer(_LATEST, stop.leave, (128 + number,))
        end.daemon = True
        end.start()
        _end_workers()
        raise KeyboardInterrupt if number == signal.SIGINT else TerminatedError

    numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]
    before = {number: signal.signal(number, answer) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if stop.asked else handler)


@contextmanager
def _threads_in_a_line(words: Sequence[str], stop: _Stop) -> Iterator[None]:
    """Say in a line what goes wrong beside the main thread, unless workers were ended; Python would trace it."""

    def answer(what: threading.ExceptHookArgs) -> None:
        if isinstance(what.exc_value, Exception) and not stop.asked:
            _complain(_fault(what.exc_value, words), FAULT)

    before, threading.excepthook = threading.excepthook, answer
    unraisable, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
    finally:
        if not stop.asked:
            threading.excepthook, sys.unraisablehook = before, unraisable


def _end_workers() -> None:
    from multiprocessing import active_children  # noqa: PLC0415 - where a process is stopped

    for child in active_children():
        child.kill()


def write_fault_report(error: Exception, words: Sequence[str]) -> Path | None:
    """Write a report that only its owner can read to the folder of temporary files, if it can be written."""
    try:
        place = Path(tempfile.gettempdir()) / f"{PROGRAM}-{secrets.token_hex(6)}.txt"
        text = "\n".join(_report(error, words)) + "\n"
        write_whole(place, lambda temporary: temporary.write_text(text, encoding="utf-8"), mode=0o600)
    except OSError:
        return None
    return place


def _report(error: Exception, words: Sequence[str]) -> list[str]:
    lines = [
        f"A fault of {PROGRAM} {installed_version(PROGRAM)}, {datetime.now(UTC).isoformat(timespec='seconds')}",
        f"command: {Run(tuple(words)).command}",
        f"python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}",
        f"packages: {', '.join(f'{name} {installed_version(name)}' for name in _requirements())}",
        *_places(error),
    ]
    return [printable(masked(line)) for line in lines]


def _places(error: BaseException) -> Iterator[str]:
    """Say where an error was raised, and what had been raised before: never its message, which may quote data."""
    if before := error.__cause__ or error.__context__:
        yield from (*_places(before), "then:")
    yield from "".join(traceback.format_tb(error.__traceback__)).splitlines()
    yield type(error).__qualname__


def _requirements() -> list[str]:
    """Name the packages that this one needs."""
    try:
        stated = requires(PROGRAM) or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in stated if "extra ==" not in line]
