"""What values are usual: those out of scale are flagged, and those that no assay gives are refused.

Values out of scale are flagged: a wrong unit is commoner than a true value so far out. The usual scale of a
readout is learnt from all conditions, of which few act on the readout's own gene; a perturbation's own readout, in
the direction of its mode, is compared with other own readouts.

Values beyond 10,000 times the range of the starting screen are refused. Detectors tell about four decades apart,
from their noise to their saturation: even where a screen saw nothing but noise, no true effect is farther out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import NO_READOUT, own_columns
from surrogates.data.perturbation import DIRECTION, split_label
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary

_FARTHEST = 8.0  # robust standard deviations
_OWN_FARTHEST = 3.0  # times the largest known effect on an own readout; a wrong unit is off by more
_SHOWN = 20
_NORMAL = 1.4826  # standard deviation of a normal distribution of which the median absolute deviation is one
DECADES = 10_000.0  # how many times the range of a screen a value may be away from its middle
_HEAVY = 1000.0  # robust standard deviations; what is farther out does not widen the range
LARGEST = 1e15  # sums of squares of larger numbers come near the end of single precision, 3e38


@dataclass(frozen=True)
class Remark:
    """A value that is out of scale, or a control that drifts."""

    row: int  # of the table of values; -1 if it is about no single row
    words: str


def _spread(screen: Screen) -> tuple[Float[Tensor, "g"], Float[Tensor, "g"], Float[Tensor, "g"]]:
    """Median, robust standard deviation, and largest distance from the median, of each readout."""
    middle = screen.effects.median(0).values
    away = (screen.effects - middle).abs()
    spread = _NORMAL * away.median(0).values
    return middle, torch.where(spread > 0, spread, screen.effects.std(0)), away.amax(0)


@dataclass(frozen=True)
class AssayRange:
    """What an assay can give at all, learnt from a starting screen, which results never change."""

    middle: Float[np.ndarray, "g"]  # median effect on each readout
    # Largest distance from the middle: 10,000 times the range of the readout, or of the median readout where that
    # is larger, as the gene of a silent readout may be what is activated.
    limit: Float[np.ndarray, "g"]

    @classmethod
    def of(cls, start: Screen) -> "AssayRange":
        """Learn it."""
        middle, spread, farthest = _spread(start)
        widest = torch.minimum(farthest, _HEAVY * spread)
        limit = DECADES * torch.maximum(widest, widest.median())
        return cls(middle.numpy(), torch.where(limit > 0, limit, math.inf).numpy())

    def beyond(self, values: Float[np.ndarray, "m g"]) -> Bool[np.ndarray, "m g"]:
        """Find what no assay gives; what was not measured is not among it."""
        far: np.ndarray = (np.abs(values - self.middle) > self.limit) | self.too_large(values)
        return far

    @staticmethod
    def too_large(values: Float[np.ndarray, "m g"]) -> Bool[np.ndarray, "m g"]:
        """Find numbers with which nothing can be computed."""
        large: np.ndarray = np.abs(values) > LARGEST
        return large


@dataclass(frozen=True)
class Scale:
    """What is usual for each readout."""

    readouts: tuple[str, ...]  # their names
    vocabulary: Vocabulary  # what can be acted upon
    own_column: Int[Tensor, "v"]  # the own readout of each entry, ``-1`` where there is none
    middle: Float[Tensor, "g"]  # median of the known effects
    # Their median absolute deviation times 1.4826, or their standard deviation where that is zero.
    spread: Float[Tensor, "g"]
    farthest: Float[Tensor, "g"]  # largest known distance from the median
    # Largest effect on an own readout, in the direction of the mode, that is in scale; infinite if none is known.
    own: float

    @classmethod
    def of(cls, screen: Screen) -> "Scale":
        """Learn what is usual."""
        middle, spread, farthest = _spread(screen)
        columns = own_columns(screen.vocabulary, screen.readouts)
        known = [
            direction * float(screen.effects[row, column])
            for row, label in enumerate(screen.labels)
            for column, direction in _own(label, screen.vocabulary, columns)
        ]
        own = _OWN_FARTHEST * max(known, default=math.inf)
        return cls(screen.readouts, screen.vocabulary, columns, middle, spread, farthest, own)

    def odd(
        self, values: Float[np.ndarray, "m g"], failed: Bool[np.ndarray, "m"], labels: Sequence[str]
    ) -> tuple[Remark, ...]:
        """Find values farther out than everything known, and than eight robust standard deviations."""
        away = (torch.from_numpy(values) - self.middle).abs()
        beyond = (away > self.farthest) & (away > _FARTHEST * self.spread)
        for row in torch.nonzero(beyond.any(1)).flatten().tolist():
            for column, direction in _own(labels[row], self.vocabulary, self.own_column):
                expected = 0 < direction * values[row, column] <= self.own
                beyond[row, column] &= not expected
        at = torch.nonzero(beyond & ~torch.from_numpy(failed)[:, None]).tolist()
        said = [
            Remark(row, self._sentence(labels[row], column, values[row, column])) for row, column in at[:_SHOWN]
        ]
        return (*said, *([Remark(-1, f"and {len(at) - _SHOWN} more")] if len(at) > _SHOWN else []))

    def _sentence(self, label: str, column: int, value: float) -> str:
        away = min(abs(value - float(self.middle[column])), LARGEST * LARGEST)
        deviations = away / max(float(self.spread[column]), 1e-200)
        return f"{label!r}, {self.readouts[column]!r}: {value:.6g} is {deviations:.1f} robust deviations out"


def _own(label: str, vocabulary: Vocabulary, columns: Int[Tensor, "v"]) -> Iterator[tuple[int, float]]:
    """Column of each own readout of a perturbation, and in which direction its mode moves it."""
    for part in split_label(label, "+"):
        if part in vocabulary.ids:
            entry = vocabulary.ids[part]
            column, direction = int(columns[entry]), DIRECTION.get(vocabulary.entries[entry].mode)
            if column != NO_READOUT and direction is not None:
                yield column, direction
