"""Acquisitions of all pairs under an ensemble, searched exactly by the products of its members."""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float32, Float64, Int
from torch import Tensor

from inverse_design.acquisition.pair_acquisitions import PairAcquisition
from inverse_design.problem.composite import double_block
from inverse_design.problem.score import ProductScore
from inverse_design.search.product_sifter import Products
from inverse_design.search.sifting import Buffer, Cells, Tile, reaching
from surrogates.errors import DataError

_SINGLE_ROUNDING = 2.0**-23  # of a value to single precision, twice over
_ROWS, _CELLS, _NARROWEST = 256, 1 << 21, 256  # a tile of all members takes 8 MB and stays in cache


@dataclass(frozen=True)
class PairGain:
    """An acquisition of every pair, from the utilities that the members of an ensemble give it.

    Attributes:
        members: Utility of all pairs under each member.
        acquisition: What a pair is worth by them.
    """

    members: tuple[ProductScore, ...]
    acquisition: PairAcquisition

    def __post_init__(self) -> None:
        """Refuse members of other entries, and an incumbent that single precision cannot hold."""
        sizes = sorted({each.size for each in self.members})
        if len(sizes) != 1:
            raise DataError(
                f"members of {sizes} entries are not an ensemble; give one or more, of the same entries"
            )
        if not math.isfinite(self.acquisition.incumbent):
            raise DataError(f"nothing improves on {self.acquisition.incumbent}; give a finite incumbent")
        _ = self.margin

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.members[0].size

    @property
    def floor(self) -> float:
        """The value of pairs of which no member expects anything."""
        return self.acquisition.floor

    @property
    def error(self) -> float:
        """A bound on the rounding of values, which are computed in double precision."""
        reach = max(each.magnitude for each in self._improvements)
        return self.acquisition.magnitude(reach) * _SINGLE_ROUNDING + torch.finfo(torch.float32).tiny

    @cached_property
    def margin(self) -> float:
        """More than the errors of utilities in single precision, and of sums of theirs over members, together.

        The error of a product is at least eight roundings of its magnitude; a sum of ``s`` terms makes ``s``.
        """
        return max(each.error for each in self._improvements) * (2 + len(self.members) / 4)

    @cached_property
    def _improvements(self) -> tuple[ProductScore, ...]:
        """Utilities minus the incumbent."""
        shift = self.acquisition.incumbent / 2
        return tuple(replace(each, side=each.side - shift) for each in self.members)

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Value the pairs of rows ``start`` to ``stop`` with some columns.

        Args:
            start: First row.
            stop: One past the last row.
            columns: First column and one past the last; by default all from ``start`` on.

        Returns:
            Values, computed in double precision; cells with ``j <= i`` mean nothing.
        """
        one, other = slice(start, stop), slice(*(columns or (start, None)))
        utilities = torch.stack([double_block(each, one, other) for each in self.members])
        return self.acquisition.value(utilities).float()

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Value chosen pairs in double precision.

        Args:
            first: Positions of the first entries.
            second: Positions of the second entries.

        Returns:
            Their values.
        """
        return self.acquisition.value(torch.stack([each.exact(first, second) for each in self.members]))

    def sifter(self, *, device: str = "cpu") -> "GainSifter":
        """Start a search.

        Args:
            device: Where the products are made.

        Returns:
            A sifter by the acquisition's screen.
        """
        return GainSifter(self, device=device)


class GainSifter:
    """Makes the products of all members for one tile after another, and values what passes the screen."""

    bound, error = "", 0.0

    def __init__(self, score: PairGain, *, device: str = "cpu") -> None:
        """Fold incumbent and margin into the members' products.

        Args:
            score: What is searched for.
            device: Where the products are made.
        """
        count = len(score.members)
        self.rows, self.columns = _ROWS, max(_NARROWEST, _CELLS // (_ROWS * count))
        self._score, self._threshold = score, score.acquisition.threshold(score.margin)
        shift = score.margin - score.acquisition.incumbent
        self._products = [Products(each, device=device, shift=shift) for each in score.members]
        self._buffer = Buffer(count, self.rows * self.columns, device=device)

    def sift(self, tile: Tile, cut: float) -> Cells:
        """Value the pairs that pass the screen; see :meth:`~inverse_design.search.sifting.Sifter.sift`."""
        acquisition = self._score.acquisition
        rows, columns = tile.shape
        buffer = self._buffer.numbers
        for products, row in zip(self._products, buffer, strict=True):
            products.into(row, tile)
        above = buffer[:, : rows * columns].unflatten(1, (rows, columns))
        screened = acquisition.screen(above, self._score.margin)
        positions = reaching(screened, tile, max(cut, self._threshold)).positions
        values = self._score.exact(*positions.unbind(1))
        kept = ~(values <= acquisition.floor)
        return Cells(positions[kept], values[kept])

    def after(self, tile: Tile, cells: Cells) -> "GainSifter":  # noqa: ARG002 - nothing is learnt
        """Go on; see :meth:`~inverse_design.search.sifting.Sifter.after`."""
        return self
