"""Cells in many files, such as one per plate, as one matrix of which nothing is read yet."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from surrogates.data.io.dialects import Dialect
from surrogates.data.io.h5ad_file import design_table, frame, matrix, readout_names
from surrogates.data.io.pseudobulk.parts import StackedCells
from surrogates.data.io.untrusted.hdf5 import names_in, opened
from surrogates.errors import DataError, shown


@dataclass(frozen=True)
class FolderOfCells:
    """The cells of all files of a folder, in the order of the names of the files."""

    cells: StackedCells
    table: pd.DataFrame  # what was done in each row
    readouts: tuple[str, ...]
    layers: tuple[str, ...]  # of the first file
    said: Mapping[str, str]  # what is worth knowing


@contextmanager
def opened_folder(folder: Path, stated: Dialect) -> Iterator[FolderOfCells]:
    """Open all ``.h5ad`` files of a folder."""
    with ExitStack() as stack:
        names: list[str] = []
        tables: list[pd.DataFrame] = []
        cells = []
        for path in sorted(folder.glob("*.h5ad")):
            file = stack.enter_context(opened(path))
            table, readouts = design_table(frame(file, "obs"), stated), readout_names(frame(file, "var"))
            names.append(path.name)
            if not tables:
                first, layers = readouts, tuple(names_in(file, "layers"))
            _refuse_others("readouts", readouts[0], first[0], names)
            _refuse_others("columns of obs", table.columns, tables[0].columns if tables else table.columns, names)
            tables.append(table)
            cells.append(matrix(file, stated.layer_key, rows=len(table), columns=len(first[0])))
        said = {**first[1], "files": f"{len(names)}, from {names[0]!r} to {names[-1]!r}"}
        yield FolderOfCells(
            StackedCells(tuple(cells)), pd.concat(tables, ignore_index=True), first[0], layers, said
        )


def _refuse_others(what: str, found: Iterable[str], wanted: Iterable[str], names: list[str]) -> None:
    """Refuse a file whose readouts or columns are not those of the first, in the same order."""
    here, there = list(map(str, found)), list(map(str, wanted))
    if here != there:
        odd = sorted(set(here) ^ set(there)) or [
            one for one, other in zip(here, there, strict=True) if one != other
        ]
        raise DataError(
            f"{names[-1]!r} and {names[0]!r} of one folder differ in their {what}, first in {shown(odd[0])}:"
            f" files that are read as one have the same {what} in the same order"
        )
