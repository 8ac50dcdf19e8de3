"""Names that a user gives on the command line or in a file with one name per line."""

from collections.abc import Collection, Sequence
from pathlib import Path

from surrogates.errors import DataError

_LIST_ENDINGS = (".txt", ".csv", ".tsv", ".lst", ".list")


def read_names(stated: Sequence[str], *, known: Collection[str] = ()) -> tuple[str, ...]:
    """Collect names.

    Args:
        stated: Each a known name, else a file with one name per line (``#`` begins a comment), else names that
            commas divide.
        known: Names that are taken as they are, also if a file is called so.

    Returns:
        The names, each once, in the order given.

    Raises:
        DataError: If a file cannot be read, or something names nothing.
    """
    return tuple(dict.fromkeys(name for text in stated for name in _names(text, known)))


def names_a_file(text: str) -> bool:
    """Tell whether a word on the command line is the path of a file.

    Args:
        text: Any text, also one that no file could be called.

    Returns:
        Whether there is such a file.
    """
    try:
        return Path(text).is_file()
    except OSError:  # longer than any path
        return False


def _names(text: str, known: Collection[str]) -> tuple[str, ...]:
    if text in known:
        return (text,)
    if names_a_file(text):
        found = _lines(Path(text))
    elif text.endswith(_LIST_ENDINGS) or "/" in text:
        raise DataError(f"there is no file {text!r}; give names as A,B or a file with one name per line")
    else:
        found = tuple(each.strip() for each in text.split(",") if each.strip())
    if not found:
        raise DataError(f"{text!r} names nothing; give names as A,B or a file with one name per line")
    return found


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(path)!r} cannot be read as a list of names: {error}") from error
    return tuple(name for line in lines if (name := line.partition("#")[0].strip()))
