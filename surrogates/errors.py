"""What can go wrong with a user's data or names, each kind with its own class."""

import difflib
from collections.abc import Iterable

SHOWN = 80  # characters of a value that a message shows
_COMPARED = 200  # characters of a name that are compared with others


class SurrogatesError(Exception):
    """Root of all errors that this package raises on purpose."""


class DataError(SurrogatesError):
    """The data cannot be used as they are; the message says what, the value seen, and what to do."""


class CalibrationError(DataError):
    """Nothing calibrated can be said: too few held-out perturbations, a wrong level, or scores of NaN."""


class WorkerError(SurrogatesError):
    """Processes that read data died again and again, or a cluster cannot be used."""


class UnknownNameError(DataError):
    """A name is not among those that are known."""

    @classmethod
    def from_known(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Build the message, with the nearest known names as a hint."""
        return cls(f"unknown {kind} {shown(name)}: {nearest_hint(name, known)}")


class UnknownChoiceError(UnknownNameError):
    """There is no model, objective or other part of the program of a name: it was typed wrong."""


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Say which known names come nearest to a name."""
    candidates = sorted(set(known))
    # The comparison takes the square of the lengths.
    by_folded = {each.casefold(): each for each in candidates if len(each) <= _COMPARED}
    near = difflib.get_close_matches(name[:_COMPARED].casefold(), by_folded, n=3, cutoff=0.5)
    if near:
        return "did you mean " + ", ".join(shown(by_folded[each]) for each in near) + "?"
    return f"known are {listed(candidates)}" if candidates else "none are known"


def shown(value: object, *, bare: bool = False) -> str:
    """Write a value from outside into a message: at most 80 characters of it, none that a terminal obeys."""
    text = value if isinstance(value, str) else str(value) if bare else repr(value)
    longer = len(text) > SHOWN
    text = text[:SHOWN]
    if isinstance(value, str) and not bare:
        text = repr(text)
    elif not text.isprintable():
        text = repr(text)[1:-1]
    return f"{text}..." if longer else text


def some_of(texts: Iterable[str], most: int = 8, *, sep: str = ", ") -> str:
    """Write the first of some texts, and how many more there are."""
    every = list(texts)
    more = f"{sep.strip(' ,')} and {len(every) - most:,} more" if len(every) > most else ""
    return sep.join(every[:most]) + more


def amount(number: int, what: str) -> str:
    """Write how many there are of something, such as ``1 readout`` or ``5,045 readouts``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def listed(names: Iterable[object], *, most: int = 5) -> str:
    """Write the first of some names, each as :func:`shown` does, and how many more there are."""
    return some_of([shown(str(name)) for name in names], most)


def printable(text: object) -> str:
    """Replace what could steer a terminal."""
    shown = str(text)
    if shown.isprintable():
        return shown
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in shown)
