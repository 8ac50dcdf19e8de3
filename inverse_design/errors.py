"""What can go wrong between a problem and its answer; passwords in URLs of databases are never shown."""

import re

from surrogates.errors import DataError


class InverseDesignError(Exception):
    """Root of the errors of this package that are not errors of the data."""


class TargetError(DataError):
    """The target cannot be read or has nothing in common with the screen."""


class SpaceError(DataError):
    """A constraint or an order does not fit the library."""


class OutputError(DataError):
    """The place for the result cannot be written."""


class CostError(DataError):
    """The work takes long, or more memory than there is, and nobody agreed to it."""


class LedgerError(DataError):
    """The ledger of a search cannot be used, or belongs to another search."""


class SettingsError(DataError):
    """The settings of a campaign have an unknown key, or a value out of range."""


class PlanError(DataError):
    """A recommender has named something that the campaign cannot use."""


class ResultsError(DataError):
    """Told results cannot be used as they are; nothing of them was taken."""


class IllegalMoveError(DataError):
    """An experiment cannot go from its state to the wanted one."""


class PlateError(DataError):
    """A batch cannot be laid out on plates as wanted."""


class LibraryError(DataError):
    """The library of reagents cannot be used, or lacks what a batch needs."""


class StoreError(DataError):
    """The store of campaigns cannot be opened, read or written; what it holds is as before."""


class ExecutorError(InverseDesignError):
    """The workers of a search died."""


class NothingToProposeError(InverseDesignError):
    """The constraints leave no candidate."""


# Up to the last "@" of a word: a password that holds one by mistake is masked whole.
_IN_URL = re.compile(r"(\w[\w+.-]*://[^:/@\s]*:)\S*(?=@)")
_IN_QUERY = re.compile(r"(password=)[^&\s'\"]*", re.IGNORECASE)


def masked(text: str) -> str:
    """Mask what may be a password."""
    return _IN_QUERY.sub(r"\1***", _IN_URL.sub(r"\1***", text))
