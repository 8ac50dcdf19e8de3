"""Plates: experiments and controls in wells, at random by seed; control wells of results, checked for drift."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
import pandas as pd
import scipy
from jaxtyping import Bool, Float

from inverse_design.errors import PlateError
from surrogates.data.io.dialects import as_text
from surrogates.data.io.labels import control_family
from surrogates.data.perturbation import split_label
from surrogates.data.vocabulary import Vocabulary

Role = Literal["sample", "control"]
Edges = Literal["used", "empty"]
CONTROL_LABEL = "control"
MAP_COLUMNS = ("plate", "well", "row", "column", "perturbation", "role", "replicate")

_SHAPES: Mapping[int, tuple[int, int]] = {24: (4, 6), 96: (8, 12), 384: (16, 24)}
# A base-2 net of 2^12 points in the unit square meets every well of every shape, also without the edges.
_LOG_POINTS = 12


@dataclass(frozen=True)
class PlateLayout:
    """How experiments are put on plates."""

    size: int = 96  # wells of a plate: 24, 96 or 384
    controls: int = 8  # control wells of each plate
    replicates: int = 2  # wells of each experiment
    edges: Edges = "used"  # whether the outer wells, which dry out first, are used
    seed: int = 0  # fixes what is drawn at random

    def __post_init__(self) -> None:
        """Refuse an unknown size, numbers out of range, and controls that leave no well."""
        if self.size not in _SHAPES:
            raise PlateError(f"plates of {self.size} wells are not known; give {', '.join(map(str, _SHAPES))}")
        for what, number, least in (
            ("replicates", self.replicates, 1),
            ("controls", self.controls, 0),
            ("seed", self.seed, 0),
        ):
            if number < least:
                raise PlateError(f"{what} = {number}: give at least {least}")
        if self.room < 1:
            raise PlateError(f"{self.controls} controls leave none of {len(self.places)} wells for an experiment")

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Row and column, counted from zero, of each well that may be used."""
        rows, columns = _SHAPES[self.size]
        rim = 0 if self.edges == "used" else 1
        return tuple((row, column) for row in range(rim, rows - rim) for column in range(rim, columns - rim))

    @property
    def room(self) -> int:
        """Wells of a plate that are left for experiments."""
        return len(self.places) - self.controls


@dataclass(frozen=True)
class Well:
    """One well and what it gets."""

    plate: int  # number of the plate, from one
    well: str  # its name, such as ``B07``
    row: str  # its letter
    column: int  # its number, from one
    perturbation: str  # what it gets; ``"control"`` for a control
    role: Role  # whether it is a sample or a control
    replicate: int  # number of the replicate of that perturbation, from one, over all plates


@dataclass(frozen=True)
class PlateMap:
    """All wells of a batch that get something, plate by plate and row by row."""

    layout: PlateLayout  # how they were laid out
    wells: tuple[Well, ...]  # each well once; wells that stay empty are not among them

    @property
    def plates(self) -> int:
        """Number of plates."""
        return max(each.plate for each in self.wells)

    @property
    def table(self) -> pd.DataFrame:
        """The wells as rows, with the columns ``MAP_COLUMNS``."""
        return pd.DataFrame([asdict(each) for each in self.wells], columns=list(MAP_COLUMNS))


def lay_out(perturbations: Sequence[str], layout: PlateLayout) -> PlateMap:
    """Put the replicates of some experiments on plates.

    As few plates are used as hold them, each as full as the others to one well. The replicates of an experiment
    are dealt to different plates as far as there are plates; within a plate every place is drawn at random.
    Controls stand where a scrambled Sobol net puts them, so that no rows or columns go without for long.
    """
    _refuse_labels(perturbations)
    dealt = _dealt(perturbations, layout)
    wells: list[Well] = []
    for number, samples in enumerate(dealt):
        free, controls = _places(layout, number)
        first = number * layout.controls
        filled = {place: (CONTROL_LABEL, first + count) for count, place in enumerate(controls, start=1)}
        filled |= dict(zip(free, samples, strict=False))  # wells that are left over stay empty
        wells.extend(_wells(number + 1, filled, set(controls)))
    return PlateMap(layout, tuple(wells))


def _dealt(perturbations: Sequence[str], layout: PlateLayout) -> Iterator[list[tuple[str, int]]]:
    """Cut rounds of all experiments in one order into plates: no two copies meet before each plate has one."""
    order = np.random.default_rng(layout.seed).permutation(len(perturbations))
    rounds = [(perturbations[at], copy) for copy in range(1, layout.replicates + 1) for at in order]
    plates = math.ceil(len(rounds) / layout.room)
    cuts = [len(rounds) * plate // plates for plate in range(plates + 1)]
    return (rounds[start:stop] for start, stop in pairwise(cuts))


def _places(layout: PlateLayout, plate: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Draw the places of samples, in random order, and of controls."""
    draw = np.random.default_rng([layout.seed, plate])
    columns = len({column for _, column in layout.places})
    rows = len(layout.places) // columns
    points = scipy.stats.qmc.Sobol(2, seed=draw).random_base2(_LOG_POINTS)
    met = (points[:, 0] * rows).astype(int) * columns + (points[:, 1] * columns).astype(int)
    spread = met[np.sort(np.unique(met, return_index=True)[1])]  # each well where the net meets it first
    controls, others = spread[: layout.controls], draw.permutation(spread[layout.controls :])
    return [layout.places[at] for at in others], [layout.places[at] for at in controls]


def _wells(
    plate: int, filled: Mapping[tuple[int, int], tuple[str, int]], controls: set[tuple[int, int]]
) -> Iterator[Well]:
    for (row, column), (perturbation, replicate) in sorted(filled.items()):
        letter = chr(ord("A") + row)
        role: Role = "control" if (row, column) in controls else "sample"
        yield Well(plate, f"{letter}{column + 1:02d}", letter, column + 1, perturbation, role, replicate)


def _refuse_labels(perturbations: Sequence[str]) -> None:
    if not perturbations:
        raise PlateError("there is no experiment to lay out; ask for some first")
    if any(not label.strip() for label in perturbations):
        raise PlateError("an experiment has an empty label; controls are placed by the layout")
    if len(set(perturbations)) < len(perturbations):
        twice = next(label for label in perturbations if perturbations.count(label) > 1)
        raise PlateError(f"{twice!r} is laid out twice; state replicates instead")


ROLE, PLATE = "role", "plate"
_FEWEST = 3  # wells of which a scatter can be estimated
_LEVEL = 0.001  # probability that a table without drift is flagged
_SHOWN = 3


@dataclass(frozen=True)
class ControlWells:
    """What the control wells of a table say."""

    wells: int = 0  # how many there are
    # Where their mean is off zero, in words: they are effects against the control, as all are.
    drift: tuple[str, ...] = ()


def is_control(table: pd.DataFrame, labels: Sequence[str], vocabulary: Vocabulary) -> Bool[np.ndarray, "m"]:
    """Find the control wells, as a plate map marks them, or by any word for a control that is no target."""
    targets = {target.casefold() for target in vocabulary.targets}

    def untreated(label: str) -> bool:
        parts = [part for part in split_label(label, "+") if part]
        return bool(parts) and all(part.casefold() not in targets and control_family(part) for part in parts)

    by_name = np.array([untreated(label) for label in labels], dtype=bool)
    if ROLE not in table:
        return by_name
    by_role = np.array([role.casefold() == CONTROL_LABEL for role in as_text(table[ROLE])], dtype=bool)
    either: np.ndarray = by_name | by_role
    return either


def controls_of(wells: pd.DataFrame, readouts: Sequence[str]) -> ControlWells:
    """Look at control wells.

    On each plate, and for each readout, the mean of the wells is compared with zero (Student's t; over all plates
    and readouts together, one table in a thousand is flagged by chance).
    """
    if not len(wells):
        return ControlWells()
    numbers = wells[list(readouts)].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    plates = np.array(as_text(wells[PLATE]) if PLATE in wells else ("",) * len(wells), dtype=object)
    whole = np.isfinite(numbers).all(1)
    names = sorted(set(plates[whole]))
    level = _LEVEL / max(1, len(names) * len(readouts))
    said = [each for name in names for each in _drifts(name, numbers[whole & (plates == name)], readouts, level)]
    more = (f"and {len(said) - _SHOWN} more drifts of controls",) if len(said) > _SHOWN else ()
    return ControlWells(len(wells), (*said[:_SHOWN], *more))


def _drifts(plate: str, values: Float[np.ndarray, "c g"], readouts: Sequence[str], level: float) -> Iterator[str]:
    count = len(values)
    if count < _FEWEST:
        return
    mean, error = values.mean(0), values.std(0, ddof=1) / math.sqrt(count)
    least = float(scipy.stats.t.isf(level / 2, count - 1))
    where = f"controls of plate {plate}" if plate else "controls"
    for column in np.flatnonzero((np.abs(mean) > least * error) & (error > 0)).tolist():
        yield (
            f"{where}, {readouts[column]!r}: the mean {mean[column]:.4g} of {count} wells is"
            f" {abs(mean[column]) / error[column]:.1f} standard errors from zero; are the effects against these"
            " controls?"
        )
