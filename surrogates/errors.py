"""What can go wrong with a user's data or names, each kind with its own class."""

import difflib
from collections.abc import Iterable


class SurrogatesError(Exception):
    """Root of all errors that this package raises on purpose."""


class DataError(SurrogatesError):
    """The data cannot be used as they are; the message says what, the value seen, and what to do."""


class CalibrationError(DataError):
    """Nothing calibrated can be said: too few held-out perturbations, a wrong level, or scores of NaN."""


class UnknownNameError(DataError):
    """A name is not among those that are known."""

    @classmethod
    def from_known(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Build the message, with the nearest known names as a hint."""
        return cls(f"unknown {kind} {name!r}: {nearest_hint(name, known)}")


def nearest_hint(name: str, known: Iterable[str]) -> str:
    """Say which known names come nearest to a name."""
    candidates = sorted(set(known))
    by_folded = {candidate.casefold(): candidate for candidate in candidates}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=3, cutoff=0.5)
    if near:
        return "did you mean " + ", ".join(repr(by_folded[each]) for each in near) + "?"
    if not candidates:
        return "none are known"
    shown = ", ".join(repr(candidate) for candidate in candidates[:5])
    return f"known are {shown}" + (f" and {len(candidates) - 5} more" if len(candidates) > 5 else "")
