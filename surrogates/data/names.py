"""What may be a name: printable, of bounded length, and spelled in one way."""

import unicodedata

from surrogates.errors import DataError

LONGEST_NAME = 200  # characters
_SHOWN = 80


def name_of(text: str, what: str, *, longest: int = LONGEST_NAME) -> str:
    """Take a text as a name, without blanks around it, in Unicode's normal form C.

    Every name that a user gives passes here: of genes and compounds, replicates and wells, plates, people,
    campaigns and reasons. Printable is what :meth:`str.isprintable` says: no control or format character (line
    breaks, marks that turn the direction of writing, blanks of no width), no half of a surrogate pair, and no
    separator but the plain blank. Two names that look alike are then one, and a name fills one line.

    Raises:
        DataError: If nothing is left, a character is not printable, or the name is too long.
    """
    name = text.strip()
    if not name.isascii():
        name = unicodedata.normalize("NFC", name)
    if name and name.isprintable() and len(name) <= longest:
        return name
    shown = repr(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
    raise DataError(f"give a printable {what}, not {shown}: {_fault(name, longest)}")


def _fault(name: str, longest: int) -> str:
    if not name:
        return "it is empty"
    odd = next((sign for sign in name if not sign.isprintable()), None)
    if odd is not None:
        return f"it holds U+{ord(odd):04X} ({unicodedata.name(odd, 'a control character')}); remove that"
    return f"it has {len(name)} characters, and {longest} are the most"
