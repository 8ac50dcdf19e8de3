"""Screens from AnnData files: effects of conditions, or single cells read block by block."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
from anndata.io import read_elem

from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.effects import screen_of_effects
from surrogates.data.io.h5ad_file import design_table, frame, in_memory, matrix, opened, positions
from surrogates.data.io.pseudobulk import screen_of_cells
from surrogates.data.screen import Screen


def screen_of_h5ad(
    path: Path,
    stated: Dialect,
    *,
    layer_key: str | None,
    readouts: Sequence[str] | None,
    provenance: Mapping[str, str],
) -> Screen:
    """Read an ``.h5ad`` file; conditions that have two rows or more on average are taken for cells.

    Raises:
        DataError: If the file is damaged, is not AnnData, or its content is refused.
    """
    with opened(path) as file:
        table = design_table(frame(file, "obs"), stated)
        names = tuple(frame(file, "var").index.map(str))
        stored = matrix(file, layer_key, rows=len(table))
        design = design_of(table, stated)
        known = {**provenance, **_unit(file), **design.provenance}
        if design.is_replicated:
            screen = screen_of_cells(stored, design, names, known)
            return screen if readouts is None else screen.with_readouts(positions(readouts, screen.readouts))
        keep = positions(names if readouts is None else readouts, names)
        return screen_of_effects(
            in_memory(stored)[:, keep],
            design,
            [names[column] for column in keep],
            standard_errors=None,
            annotations=table,
            provenance=known,
        )


def _unit(file: h5py.File) -> dict[str, str]:
    return {"unit": str(read_elem(file["uns/value"]))} if "uns/value" in file else {}
