"""A screen from rows of effects, one for each condition or several: replicates, orders of a pair, controls."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int

from surrogates.data.io.design import LEFT_OUT, Design
from surrogates.data.io.notes import OF_REPLICATES
from surrogates.data.io.tabular import NO_READOUTS
from surrogates.data.screen import Screen
from surrogates.errors import DataError


def screen_of_effects(
    effects: Float[np.ndarray, "rows g"],
    design: Design,
    readouts: Sequence[str],
    *,
    standard_errors: Float[np.ndarray, "rows g"] | None,
    annotations: pd.DataFrame,
    provenance: Mapping[str, str],
) -> Screen:
    """Take the rows of a table of effects; replicates are averaged, and the mean of control rows is subtracted.

    Raises:
        DataError: If replicates differ in a column that is no replicate, or on anything that
            :meth:`Screen.from_labels` refuses.
    """
    design.refuse_without_label()
    refuse_pooled(annotations, design)
    rows = averaged(effects, standard_errors, design)
    changing = (
        np.flatnonzero(np.ptp(rows.effects, axis=0) != 0) if len(rows.codes) > 1 else np.arange(len(readouts))
    )
    constant = len(readouts) - len(changing)
    if not len(changing):
        raise DataError("no readout ever changes: all effects are the same; check which columns are read")
    errors = None if rows.errors is None else rows.errors[:, changing]
    return Screen.from_labels(
        torch.from_numpy(rows.effects[:, changing]),
        [design.perturbations[code] for code in rows.codes],
        [readouts[int(column)] for column in changing],
        contexts=[design.contexts[code] for code in rows.codes],
        standard_errors=None if errors is None else torch.from_numpy(errors),
        annotations=annotations.iloc[rows.first],
        provenance={
            **provenance,
            "unit": provenance.get("unit", "as in the source"),
            "rows": rows.said,
            **({"dropped readouts": f"{constant} that never change"} if constant else {}),
            **({} if rows.spread is None else {"standard errors": rows.spread}),
        },
    )


@dataclass(frozen=True)
class Averaged:
    """Effects of conditions, from one row or several each."""

    codes: Int[np.ndarray, "n"]  # number of each condition in the design
    first: Int[np.ndarray, "n"]  # its first row
    effects: Float[np.ndarray, "n g"]  # mean over its rows, less the mean of the control rows of its context
    errors: Float[np.ndarray, "n g"] | None  # standard errors, if stated or to be had from replicates
    said: str  # how many rows and of what
    spread: str | None  # where the errors come from, if from replicates


def averaged(
    values: Float[np.ndarray, "rows g"], stated: Float[np.ndarray, "rows g"] | None, design: Design
) -> Averaged:
    """Average the rows of each condition; the variance between replicates is pooled over conditions."""
    kept = np.flatnonzero(design.codes != LEFT_OUT)
    codes, first, of_row = np.unique(design.codes[kept], return_index=True, return_inverse=True)
    appeared = np.argsort(first)
    place = np.empty_like(appeared)
    place[appeared] = np.arange(len(appeared))
    codes, first, of_row = codes[appeared], kept[first[appeared]], place[of_row]
    count = np.bincount(of_row)
    mean = np.zeros((len(codes), values.shape[1]))
    np.add.at(mean, of_row, values[kept])
    mean /= count[:, None]
    squares = None
    if stated is not None:
        squares = np.zeros_like(mean)
        np.add.at(squares, of_row, stated[kept] ** 2)
        squares /= count[:, None] ** 2
    elif len(kept) > len(codes):
        free = len(kept) - len(codes)
        squares = ((values[kept] - mean[of_row]) ** 2).sum(0) / free / count[:, None]
    orders = np.array([design.perturbations[code].order for code in codes])
    contexts = np.array([design.contexts[code] for code in codes])
    controls = np.flatnonzero(orders == 0)
    for control in controls:
        treated = (contexts == contexts[control]) & (orders > 0)
        mean[treated] -= mean[control]
        if squares is not None:
            squares[treated] += squares[control]
    treated = np.flatnonzero(orders > 0)
    replicates = f" in {len(kept):,} rows" if len(kept) > len(codes) else ""
    said = f"{len(treated)} conditions{replicates}"
    if len(controls):
        said += f"; the mean of {int(count[controls].sum())} control row(s) is subtracted"
    return Averaged(
        codes=codes[treated],
        first=first[treated],
        effects=mean[treated],
        errors=None if squares is None else np.sqrt(squares[treated]),
        said=said,
        spread="between replicate rows, pooled over conditions"
        if stated is None and squares is not None
        else None,
    )


def refuse_pooled(annotations: pd.DataFrame, design: Design) -> None:
    """Refuse to average rows of a condition that differ in what looks like a dose, a time, a partner or a state.

    Raises:
        DataError: If there is such a column; it is named, with the options that keep its values apart.
    """
    kept = design.codes != LEFT_OUT
    for name in map(str, annotations.columns):
        if name in design.detection.columns or OF_REPLICATES.fullmatch(name) or NO_READOUTS.fullmatch(name):
            continue
        numbers, distinct = pd.factorize(annotations[name][kept])
        if len(distinct) < 2 or len(distinct) == kept.sum():  # names each row
            continue
        pairs = np.unique(np.stack([design.codes[kept], numbers]), axis=1)[0]
        mixed = np.flatnonzero(np.bincount(pairs) > 1)
        if len(mixed):
            raise DataError(
                f"{design.perturbations[mixed[0]].label or 'the control'!r} is measured more than once, with"
                f" several values of"
                f" {name!r} ({', '.join(map(str, distinct[:4]))}); they would be averaged: keep them apart with"
                f" --group-col {name}, --dose-col {name} or a second --target-col {name}, or remove the"
                f" column if its rows"
                " are replicates"
            )
