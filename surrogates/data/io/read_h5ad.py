"""Screens from AnnData, in a file or in memory: effects of conditions, or single cells read block by block.

Effects can also be read as the rows of a few new measurements, which are no screen to learn from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float

from surrogates.data.io.annotated import LEFT_OUT, AnnotatedMatrix, CellMatrix, Stored
from surrogates.data.io.counts import holds_counts, largest_of_no_logarithms, log_layers, size_notes
from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.effects import numbered, screen_of_effects
from surrogates.data.io.h5ad_file import (
    design_table,
    element,
    frame,
    in_memory,
    matrix,
    matrix_in_memory,
    readout_names,
)
from surrogates.data.io.notes import COUNTS, NOTE
from surrogates.data.io.pseudobulk.effects import effects_of_cells, screen_of_cells
from surrogates.data.io.pseudobulk.folders import opened_folder
from surrogates.data.io.pseudobulk.normalised import LogNormalised
from surrogates.data.io.replicates import errors_of_layers, replicate_layers
from surrogates.data.io.tabular import positions
from surrogates.data.io.untrusted.hdf5 import names_in, opened, part
from surrogates.data.screen import Screen
from surrogates.errors import DataError, shown


def screen_of_h5ad(path: Path, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read an ``.h5ad`` file or a folder of them; conditions of two rows or more on average are of cells."""
    if path.is_dir():
        with opened_folder(path, stated) as folder:
            stored, unit = values(folder.cells, folder.layers, stated)
            known = {**provenance, **unit, **folder.said}
            return screen_of_parts(folder.table, stored, folder.readouts, stated, known=known, replicates={})
    with opened(path) as file:
        return screen_of_group(file, frame(file, "obs"), stated, provenance)


def screen_of_group(group: Stored, obs: pd.DataFrame, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read a group that holds the parts of an AnnData, with what is known of its rows."""
    table = design_table(obs, stated)
    names, said = readout_names(frame(group, "var"))
    layers = names_in(group, "layers")
    find = partial(matrix, group, rows=len(table), columns=len(names))
    stored, unit = values(find(stated.layer_key), layers, stated)
    halves = {name: find(name) for name in _replicates(layers, stated)}
    known = {**provenance, **_unit(group), **unit, **said}
    return screen_of_parts(table, stored, names, stated, known=known, replicates=halves)


def screen_of_annotated(source: AnnotatedMatrix, stated: Dialect) -> Screen:
    """Read an ``AnnData``, as a file with the same content is read."""
    table = design_table(source.obs, stated)
    names, said = readout_names(source.var)
    layers = list(source.layers)
    stored, unit = values(matrix_in_memory(source, stated.layer_key, rows=len(table)), layers, stated)
    of_file = {"unit": str(source.uns["value"])} if "value" in source.uns else {}
    known = {"source": "AnnData", **of_file, **unit, **said}
    halves = {name: source.layers[name] for name in _replicates(layers, stated)}
    return screen_of_parts(table, stored, names, stated, known=known, replicates=halves)


def screen_of_parts(
    table: pd.DataFrame,
    stored: CellMatrix,
    names: Sequence[str],
    stated: Dialect,
    *,
    known: Mapping[str, str],
    replicates: Mapping[str, CellMatrix],
) -> Screen:
    """Make a screen of what was done in each row, of values beside it, and of replicates whose means these are."""
    design, readouts = design_of(table, stated), stated.readouts
    sizes = size_notes(table, stored, design, counts=COUNTS in known, spread=stated.spread)
    known = {**known, **design.provenance, **sizes}
    if design.is_replicated:
        columns = None if readouts is None else positions(readouts, names)
        return screen_of_cells(stored, design, names, known, columns=columns, spread=stated.spread)
    keep = positions(names if readouts is None else readouts, names)
    errors = None
    if replicates:
        errors, known["standard errors"] = errors_of_layers(replicates, tuple(replicates))
    return screen_of_effects(
        numbered(in_memory(stored), keep, axis=1),
        design,
        [names[column] for column in keep],
        standard_errors=None if errors is None else numbered(errors, keep, axis=1),
        annotations=table,
        provenance=known,
    )


def _replicates(layers: Sequence[str], stated: Dialect) -> tuple[str, ...]:
    """The layers that hold replicates, unless one of them is what is read."""
    names = replicate_layers(layers)
    return () if stated.layer_key in names else names


def values(stored: CellMatrix, layers: Sequence[str], stated: Dialect) -> tuple[CellMatrix, dict[str, str]]:
    """Make logarithms of counts, or say so if values look like counts and nobody said what to do with them."""
    if stated.normalise:
        return LogNormalised.of(stored, stated.spread), {
            "unit": "log(1 + counts scaled to the median total of a cell)"
        }
    if stated.normalise is False:
        return stored, {}
    logs = log_layers(layers)
    better = f"--layer-key {logs[0]} (layer_key=), or " if logs else ""
    what = "X" if stated.layer_key is None else repr(stated.layer_key)
    if not holds_counts(stored):
        largest = largest_of_no_logarithms(stored)
        said = (
            f"{what} holds values up to {largest or 0:,.0f} and none below zero: they are no logarithms, and a few"
            f" large readouts outweigh all others; read it with {better}--normalise (normalise=True) if they come"
            " from counts"
        )
        return stored, {} if largest is None else {f"{NOTE}of values": said}
    said = (
        f"{what} holds whole numbers (counts of molecules): differences of their means follow the size of cells;"
        f" read it with {better}--normalise (normalise=True)"
    )
    return stored, {COUNTS: said}


def _unit(file: Stored) -> dict[str, str]:
    found = part(file, "uns/value", whole=True)
    return {} if found is None else {"unit": shown(str(element(found, "uns/value")), bare=True)}


@dataclass(frozen=True)
class EffectRows:
    """Effects as they were measured."""

    labels: tuple[str, ...]  # canonical label of each condition; empty for a control
    contexts: tuple[str, ...]  # its context, empty if there is none
    readouts: tuple[str, ...]  # what was measured
    effects: Float[np.ndarray, "n g"]  # one row per condition; nothing is left out because it never changes


def read_effect_rows(path: Path, stated: Dialect) -> EffectRows:
    """Read an ``.h5ad`` file; conditions that have two rows or more on average are taken for cells."""
    with opened(path) as file:
        table = design_table(frame(file, "obs"), stated)
        readouts, _ = readout_names(frame(file, "var"))
        found = matrix(file, stated.layer_key, rows=len(table), columns=len(readouts))
        stored, said = values(found, names_in(file, "layers"), stated)
        if COUNTS in said:
            raise DataError(f"{said[COUNTS]}; --no-normalise takes them as they are")
        design = design_of(table, stated)
        if design.is_replicated:
            summed = effects_of_cells(stored, design, spread=stated.spread)
            conditions, effects = summed.conditions, summed.effects
        else:
            kept = np.flatnonzero(design.codes != LEFT_OUT)
            conditions, effects = design.codes[kept], in_memory(stored)[kept]
    return EffectRows(
        labels=tuple(design.perturbations[code].label for code in conditions),
        contexts=tuple(design.contexts[code] for code in conditions),
        readouts=readouts,
        effects=effects,
    )
