"""MuData: several modalities of the same cells, such as their RNA and their guides; one of them is read."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

from surrogates.data.io.annotated import Stored
from surrogates.data.io.dialects import Dialect, as_text
from surrogates.data.io.h5ad_file import frame
from surrogates.data.io.read_h5ad import screen_of_group
from surrogates.data.io.untrusted.hdf5 import located, names_in, opened
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError


def screen_of_h5mu(path: Path, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read one modality of an ``.h5mu`` file."""
    with opened(path) as file:
        if not names_in(file, "mod"):
            raise DataError(f"{path.name!r} has no modalities: it is not MuData; name it .h5ad if it is AnnData")
        return screen_of_modality(file, stated, provenance)


def screen_of_modality(file: Stored, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read the modality that is stated, or the only one, with all that the file knows of its cells."""
    name = _modality(file, stated)
    modality = located(file, f"mod/{name}")
    if not isinstance(modality, Stored):
        raise DataError(f"modality {name!r} is no group of tables and matrices; write the file again with mudata")
    known = {**provenance, "modality": f"{name!r} of {', '.join(map(repr, names_in(file, 'mod')))}"}
    return screen_of_group(modality, _joined(file, name), stated, known)


def _modality(file: Stored, stated: Dialect) -> str:
    """Name the modality to read."""
    names = names_in(file, "mod")
    if stated.modality is not None:
        if stated.modality not in names:
            raise UnknownNameError.from_known("modality", stated.modality, names)
        return stated.modality
    measured = [name for name in names if _has_values(file, f"mod/{name}")]
    if len(measured) != 1:
        shown = ", ".join(map(repr, (measured or names)[:8]))
        raise DataError(
            f"{len(measured)} of the {len(names)} modalities of the file have readouts; say which one is read with"
            f" modality= (--modality): {shown}"
        )
    return measured[0]


def _has_values(file: Stored, modality: str) -> bool:
    return "X" in names_in(file, modality) or bool(names_in(file, f"{modality}/layers"))


def _joined(file: Stored, name: str) -> pd.DataFrame:
    """What is known of the cells of a modality: there, in the whole file, and in the other modalities.

    As in ``MuData``, cells are matched by name, and columns of another modality are called ``modality:column``.
    """
    known = frame(file, f"mod/{name}/obs")
    for prefix, table in _tables_beside(file, name):
        if not table.index.is_unique:
            twice = str(table.index[table.index.duplicated()][0])
            raise DataError(f"the cell {twice[:80]!r} occurs more than once; make the names of cells unique")
        here = table.reindex(known.index)
        for column in map(str, here.columns):
            called = f"{prefix}{column}".removeprefix(f"{name}:")
            if called not in known:
                known = known.assign(**{called: here[column]})
            elif as_text(known[called]) != as_text(here[column]):
                raise DataError(
                    f"{called!r} is stored twice, of modality {name!r} and for all modalities, with different"
                    " values; remove one of them from the file"
                )
    return known


def _tables_beside(file: Stored, name: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table of all cells and those of other modalities, with what stands before the names of their columns."""
    if "obs" in names_in(file, ""):
        yield "", frame(file, "obs")
    for other in names_in(file, "mod"):
        if other != name and "obs" in names_in(file, f"mod/{other}"):
            yield f"{other}:", frame(file, f"mod/{other}/obs")
