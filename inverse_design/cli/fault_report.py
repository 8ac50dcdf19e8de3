"""The report of a fault of this program: versions, the command line and where it happened, without data."""

import platform
import re
import secrets
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from inverse_design.cli.console import PROGRAM, Run
from inverse_design.errors import masked
from surrogates.registry import installed_version
from surrogates.summary import printable
from surrogates.whole_file import write_whole


def write_report(error: Exception, words: Sequence[str]) -> Path | None:
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
