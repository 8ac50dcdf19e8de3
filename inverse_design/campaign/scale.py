"""Values that are out of scale: flagged, for a wrong unit is commoner than a wonder."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.screen import Screen

_FARTHEST = 8.0  # robust standard deviations
_SHOWN = 20
_NORMAL = 1.4826  # standard deviation of a normal law of which the median absolute deviation is one


@dataclass(frozen=True)
class Scale:
    """What is usual for each readout.

    Attributes:
        readouts: Their names.
        middle: Median of the known effects.
        spread: Their median absolute deviation times 1.4826, or their standard deviation where that is zero.
        farthest: Largest known distance from the median.
    """

    readouts: tuple[str, ...]
    middle: Float[Tensor, "g"]
    spread: Float[Tensor, "g"]
    farthest: Float[Tensor, "g"]

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
        return cls(screen.readouts, middle, spread, away.amax(0))

    def odd(
        self, values: Float[np.ndarray, "m g"], failed: Bool[np.ndarray, "m"], labels: Sequence[str]
    ) -> tuple[str, ...]:
        """Find values farther out than everything known, and than eight robust standard deviations.

        Args:
            values: Of wells.
            failed: Which have no values.
            labels: Their perturbations.

        Returns:
            A sentence on each of the first twenty, and how many more there are.
        """
        away = (torch.from_numpy(values) - self.middle).abs()
        beyond = (away > self.farthest) & (away > _FARTHEST * self.spread)
        at = torch.nonzero(beyond & ~torch.from_numpy(failed)[:, None]).tolist()
        said = [self._sentence(labels[row], column, values[row, column]) for row, column in at[:_SHOWN]]
        return (*said, f"and {len(at) - _SHOWN} more") if len(at) > _SHOWN else tuple(said)

    def _sentence(self, label: str, column: int, value: float) -> str:
        deviations = abs(value - float(self.middle[column])) / max(float(self.spread[column]), 1e-300)
        return f"{label!r}, {self.readouts[column]!r}: {value:.6g} is {deviations:.1f} robust deviations out"
