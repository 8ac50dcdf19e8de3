"""What may be a name: printable, of bounded length, and spelled in one way."""

import re
import unicodedata

from surrogates.errors import DataError

LONGEST_NAME = 200  # characters
_SHOWN = 80
# Letters, marks and signs that nobody sees (fillers, joiners, selectors of variants, the blank of Braille), which
# str.isprintable takes for printable.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def name_of(text: str, what: str, *, longest: int = LONGEST_NAME) -> str:
    """Take a text as a name, without blanks around it, in Unicode's normal form C.

    Every name that a user gives passes here: of genes and compounds, replicates and wells, plates, people,
    campaigns and reasons. Printable is what :meth:`str.isprintable` says: no control or format character (line
    breaks, marks that turn the direction of writing, blanks of no width), no half of a surrogate pair, and no
    separator but the plain blank; nor is there a letter or mark that nobody sees. A name then fills one line, and
    two names that differ look different, but for letters of several scripts.
    """
    name = text.strip()
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if name and len(name) <= longest and _odd(name) is None:
        return name
    shown = repr(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    raise DataError(f"give a printable {what}, not {shown}: {_fault(name, longest)}")


def _fault(name: str, longest: int) -> str:
    if not name:
        return "it is empty"
    if (odd := _odd(name)) is not None:
        return f"it holds U+{ord(odd):04X} ({unicodedata.name(odd, 'a control character')}); remove that"
    return f"it has {len(name)} characters, and {longest} are the most"


def _odd(name: str) -> str | None:
    """Find the first character that is not seen as one sign on one line."""
    if name.isprintable() and (name.isascii() or not _UNSEEN.search(name)):
        return None
    return next(sign for sign in name if not sign.isprintable() or _UNSEEN.match(sign))
