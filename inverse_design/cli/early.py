"""What is refused of a command line before anything is imported: missing files and stores, misspelt models."""

from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path

from inverse_design.cli.options import AUTOMATIC
from inverse_design.errors import StoreError
from surrogates.data.io.formats.registry import endings
from surrogates.errors import DataError, UnknownChoiceError
from surrogates.models.registry import CELL_SURROGATES, SURROGATES

_FILES = ("target", "results", "settings", "library", "experiments", "drug_targets", "embedding")  # maybe files
ALL_MODELS = "all"
_BEGINS = frozenset({"create", "restore"})  # the verbs that make a store


def refuse_early(verb: str, arguments: Mapping[str, object]) -> None:
    """Look at the words of a command line."""
    stated = dict(arguments)
    for group in arguments.values():
        stated |= vars(group) if is_dataclass(group) else {}
    for name in ("data", *_FILES):
        path = stated.get(name)
        if isinstance(path, str) and is_missing(path) and (name == "data" or _ends_as_a_file(path)):
            raise DataError(f"there is no file {path!r}")
    for name in ("model", "surrogate"):
        if isinstance(model := stated.get(name), str):
            require_model(model, kind=name)
    words = stated.get("models")
    for word in words if isinstance(words, tuple) else ():
        for model in [] if Path(word).is_file() else map(str.strip, word.split(",")):
            if model not in {"", ALL_MODELS}:
                require_model(model, of_cells=verb == "cells")
    if verb not in _BEGINS and not stated.get("store_file") and isinstance(store := stated.get("store"), str):
        require_store(store)


def is_missing(path: str) -> bool:
    """Tell whether a word can only be a file, and there is none."""
    if not ("/" in path or _ends_as_a_file(path)):
        return False
    try:
        return not Path(path).exists()
    except OSError:  # longer than any path
        return True


def _ends_as_a_file(word: str) -> bool:
    return word.endswith((*endings(), ".toml"))


def require_model(name: str, *, kind: str = "model", of_cells: bool = False) -> None:
    """Refuse a misspelt forward model, or model of cells."""
    known = CELL_SURROGATES.names() if of_cells else (AUTOMATIC, *SURROGATES.names())
    if name not in known:
        raise UnknownChoiceError.from_known(kind, name, known)


def require_store(address: str) -> None:
    """Refuse a file of campaigns that is not there."""
    path = Path(address)
    if "://" not in address and path.parent.is_dir() and not path.exists():
        raise StoreError(f"there is no store {address!r}; create a campaign first, or name another file")
