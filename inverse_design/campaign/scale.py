"""Values that are out of scale are flagged: a wrong unit is commoner than a true value so far out.

What is usual of a readout is learnt from all conditions, of which few act on the readout's own gene. Activation
raises that one far above all others, and a knock-down lowers it: a perturbation's own readout, in the direction of
its mode, is compared with other own readouts.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.own_readouts import NO_READOUT, own_columns
from surrogates.data.perturbation import Mode
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary

_FARTHEST = 8.0  # robust standard deviations
_OWN_FARTHEST = 3.0  # times the largest known effect on an own readout; a wrong unit is off by more
_SHOWN = 20
_NORMAL = 1.4826  # standard deviation of a normal law of which the median absolute deviation is one
_DIRECTION: Mapping[Mode, int] = {"activation": 1, "knockdown": -1, "knockout": -1}  # a compound has none


@dataclass(frozen=True)
class Scale:
    """What is usual for each readout.

    Attributes:
        readouts: Their names.
        vocabulary: What can be acted upon.
        own_column: The own readout of each entry, ``-1`` where there is none.
        middle: Median of the known effects.
        spread: Their median absolute deviation times 1.4826, or their standard deviation where that is zero.
        farthest: Largest known distance from the median.
        own: Largest effect on an own readout, in the direction of the mode, that is in scale; infinite if none is
            known.
    """

    readouts: tuple[str, ...]
    vocabulary: Vocabulary
    own_column: Int[Tensor, "v"]
    middle: Float[Tensor, "g"]
    spread: Float[Tensor, "g"]
    farthest: Float[Tensor, "g"]
    own: float

    @classmethod
    def of(cls, screen: Screen) -> "Scale":
        """Learn what is usual.

        Args:
            screen: All that is known.

        Returns:
            The scale.
        """
        middle = screen.effects.median(0).values
        away = (screen.effects - middle).abs()
        spread = _NORMAL * away.median(0).values
        spread = torch.where(spread > 0, spread, screen.effects.std(0))
        columns = own_columns(screen.vocabulary, screen.readouts)
        known = [
            direction * float(screen.effects[row, column])
            for row, label in enumerate(screen.labels)
            for column, direction in _own(label, screen.vocabulary, columns)
        ]
        own = _OWN_FARTHEST * max(known, default=math.inf)
        return cls(screen.readouts, screen.vocabulary, columns, middle, spread, away.amax(0), own)

    def odd(
        self, values: Float[np.ndarray, "m g"], failed: Bool[np.ndarray, "m"], labels: Sequence[str]
    ) -> tuple[str, ...]:
        """Find values farther out than everything known, and than eight robust standard deviations.

        Args:
            values: Of wells.
            failed: Which have no values.
            labels: Their perturbations.

        Returns:
            A sentence on each of the first twenty, and how many more there are; own readouts in the direction of
            the mode are left out unless they are out of scale among own readouts.
        """
        away = (torch.from_numpy(values) - self.middle).abs()
        beyond = (away > self.farthest) & (away > _FARTHEST * self.spread)
        for row in torch.nonzero(beyond.any(1)).flatten().tolist():
            for column, direction in _own(labels[row], self.vocabulary, self.own_column):
                expected = 0 < direction * values[row, column] <= self.own
                beyond[row, column] &= not expected
        at = torch.nonzero(beyond & ~torch.from_numpy(failed)[:, None]).tolist()
        said = [self._sentence(labels[row], column, values[row, column]) for row, column in at[:_SHOWN]]
        return (*said, f"and {len(at) - _SHOWN} more") if len(at) > _SHOWN else tuple(said)

    def _sentence(self, label: str, column: int, value: float) -> str:
        deviations = abs(value - float(self.middle[column])) / max(float(self.spread[column]), 1e-300)
        return f"{label!r}, {self.readouts[column]!r}: {value:.6g} is {deviations:.1f} robust deviations out"


def _own(label: str, vocabulary: Vocabulary, columns: Int[Tensor, "v"]) -> Iterator[tuple[int, int]]:
    """Column of each own readout of a perturbation, and in which direction its mode moves it."""
    for part in label.split("+"):
        if part in vocabulary.ids:
            entry = vocabulary.ids[part]
            column, direction = int(columns[entry]), _DIRECTION.get(vocabulary.entries[entry].mode)
            if column != NO_READOUT and direction is not None:
                yield column, direction
