"""TOML that somebody else may have written: bounded in size and depth."""

import tomllib
from pathlib import Path

from surrogates.errors import DataError, shown

_LARGEST = 2**22  # bytes; values of many readouts belong into a table
_MOST_DOTS = 100  # of a line; the parser takes the square of the length of a dotted key


def read_toml(path: Path) -> dict[str, object]:
    """Read a file of settings, options or a target."""
    if not path.is_file():
        raise DataError(f"{str(path)!r} cannot be read as TOML: it is a folder or no file")
    if path.stat().st_size > _LARGEST:
        raise DataError(
            f"{str(path)!r} has more than {_LARGEST:,} bytes; write values of many readouts into a table"
        )
    try:
        return _parsed(path.read_text(encoding="utf-8-sig"))
    except RecursionError as error:
        raise DataError(f"{str(path)!r} cannot be read as TOML: its brackets nest too deep") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{str(path)!r} cannot be read as TOML: {shown(error, bare=True)}") from error


def _parsed(text: str) -> dict[str, object]:
    if any(line.partition("=")[0].count(".") > _MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"a key has more than {_MOST_DOTS} dots")
    return tomllib.loads(text)
