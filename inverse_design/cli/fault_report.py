"""The report of a fault of this program: versions, the command line and where it happened, without data."""

import platform
import re
import secrets
import tempfile
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from inverse_design.cli.console import PROGRAM, Run, printable
from inverse_design.errors import masked
from surrogates.whole_file import write_whole

_WIDEST = 500  # characters of a line: a message may hold a value of any length


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
        f"A fault of {PROGRAM} {_version(PROGRAM)}, {datetime.now(UTC).isoformat(timespec='seconds')}",
        f"command: {Run(tuple(words)).command}",
        f"python {platform.python_version()}, {platform.system()} {platform.release()} {platform.machine()}",
        f"packages: {', '.join(f'{name} {_version(name)}' for name in _requirements())}",
        *"".join(traceback.format_exception(error)).splitlines(),
    ]
    return [printable(masked(line))[:_WIDEST] for line in lines]


def _requirements() -> list[str]:
    """Name the packages that this one needs."""
    try:
        stated = requires(PROGRAM) or []
    except PackageNotFoundError:
        return []
    return [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in stated if "extra ==" not in line]


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"
