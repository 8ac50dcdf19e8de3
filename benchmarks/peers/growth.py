"""How time and memory of a search grow with the number of pairs, and what is read off beyond what was run."""

import math
import statistics
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from benchmarks.peers.process import Measured

Quantity: TypeAlias = Literal["seconds", "cpu_seconds", "peak_mb"]
MARK = "~"  # before what was not measured


@dataclass(frozen=True)
class Growth:
    """What a search took at some sizes.

    Attributes:
        points: Numbers of pairs, ascending, and what was measured.
        failed: Whether a larger size failed, so that no further one is tried.
    """

    points: tuple[tuple[int, Measured], ...] = ()
    failed: bool = False

    def extended(self, pairs: int, measured: Measured) -> "Growth":
        """Add a size.

        Args:
            pairs: More than before.
            measured: What it took.

        Returns:
            All sizes.
        """
        return replace(self, points=(*self.points, (pairs, measured)))

    def affordable(self, pairs: int, budget: float) -> bool:
        """Tell whether to run a size: the first one always, others if they should not take longer than a budget.

        Args:
            pairs: The size.
            budget: In seconds of wall time.

        Returns:
            Whether to run it.
        """
        return not self.failed and (not self.points or self.at("seconds", pairs) <= budget)

    def measured(self, pairs: int) -> Measured | None:
        """Look up what was measured at a size.

        Args:
            pairs: The size.

        Returns:
            It, or ``None``.
        """
        return dict(self.points).get(pairs)

    def at(self, quantity: Quantity, pairs: int) -> float:
        """Tell a quantity at a size: as measured, else on the line through the two largest sizes.

        What does not grow with the size is so left out of what does, in favour of the method. With one size the
        line goes through the origin; a line never descends.

        Args:
            quantity: Which.
            pairs: The size.

        Returns:
            Its median or its place on the line; ``nan`` where nothing was measured.
        """
        values = [(size, _median(measured, quantity)) for size, measured in self.points]
        if pairs in dict(values):
            return dict(values)[pairs]
        if not values:
            return math.nan
        (first, low), (last, high) = [(0, 0.0), *values][-2:]
        return high + max(0.0, high - low) / (last - first) * (pairs - last)

    @property
    def source(self) -> str:
        """Which sizes a line goes through."""
        return "linear from " + " and ".join(f"{size:,}" for size, _ in self.points[-2:])


def _median(measured: Measured, quantity: Quantity) -> float:
    if quantity == "peak_mb":
        return math.nan if measured.peak_mb is None else measured.peak_mb
    return statistics.median(measured.seconds if quantity == "seconds" else measured.cpu_seconds)
