"""The expected improvement of all pairs under an ensemble, searched exactly by the products of its members.

Values are taken in double precision; before that a *screen*, an upper bound in single precision and in place,
leaves out almost all pairs. Members are as likely as each other; the incumbent is the utility to improve upon.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from jaxtyping import Float32, Float64, Int
from torch import Tensor

from inverse_design.problem.score import ProductScore
from inverse_design.search.device.tiles import device_tiles
from inverse_design.search.pruning import Buffer, Products, ScoredPairs, Tile, reaching
from surrogates.errors import DataError

_UNIT = 2.0**-24
_LEAST = 2.0**-149  # the smallest number above 0 in single precision: a screen of 0 means that no member improves
_SINGLE_ROUNDING = 2.0**-23  # of a value to single precision, twice over
_ROWS, _CELLS, _NARROWEST = 256, 1 << 21, 256  # a tile of all members takes 8 MB and stays in cache


@dataclass(frozen=True)
class EnsembleImprovement:
    """Expected improvement of every pair over the members of an ensemble: ``mean_s max(u_s - incumbent, 0)``."""

    members: tuple[ProductScore, ...]  # utility of all pairs under each member
    incumbent: float  # the utility to improve upon
    floor = 0.0  # the value of pairs of which no member expects anything

    def __post_init__(self) -> None:
        """Refuse members of other entries, and an incumbent that single precision cannot hold."""
        sizes = sorted({each.size for each in self.members})
        if len(sizes) != 1:
            raise DataError(
                f"members of {sizes} entries are not an ensemble; give one or more, of the same entries"
            )
        if not math.isfinite(self.incumbent):
            raise DataError(f"nothing improves on {self.incumbent}; give a finite incumbent")
        _ = self.margin

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.members[0].size

    @property
    def error(self) -> float:
        """A bound on the rounding of values, which are computed in double precision."""
        reach = max(each.magnitude for each in self._improvements)
        return reach * _SINGLE_ROUNDING + torch.finfo(torch.float32).tiny

    @cached_property
    def margin(self) -> float:
        """More than the errors of utilities in single precision, and of sums of theirs over members, together.

        The error of a product is at least eight roundings of its magnitude; a sum of ``s`` terms makes ``s``.
        """
        return max(each.error for each in self._improvements) * (2 + len(self.members) / 4)

    @cached_property
    def _improvements(self) -> tuple[ProductScore, ...]:
        """Utilities minus the incumbent."""
        return tuple(replace(each, side=each.side - self.incumbent / 2) for each in self.members)

    def value(self, utilities: Float64[Tensor, "s *b"]) -> Float64[Tensor, "*b"]:
        """Average the improvements, one by one: always in the same order."""
        total: Tensor = reduce(torch.add, (utilities - self.incumbent).clamp_(min=0))
        return total / len(utilities)

    def screen(self, above: Float32[Tensor, "s *b"]) -> Float32[Tensor, "*b"]:
        """Average bounds; a sum of numbers of one sign is wrong by a share of itself, and 0 stays 0."""
        return above.clamp_(min=0).sum(0).mul_((1 + 4 * len(above) * _UNIT) / len(above))

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Value the pairs of rows ``start`` to ``stop`` with some columns."""
        one, other = slice(start, stop), slice(*(columns or (start, None)))
        return self.value(torch.stack([each.double_block(one, other) for each in self.members])).float()

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Value chosen pairs in double precision."""
        return self.value(torch.stack([each.exact(first, second) for each in self.members]))

    def pruner(self) -> "ImprovementPruner":
        """Start a search."""
        return ImprovementPruner(self)

    def tiles(self, device: str) -> "ImprovementTiles":
        """Start a search on a device."""
        return ImprovementTiles(self, device)


class ImprovementPruner:
    """Makes the products of all members for one tile after another, and values what passes the screen."""

    bound, error = "", 0.0

    def __init__(self, score: EnsembleImprovement) -> None:
        """Fold incumbent and margin into the members' products."""
        count = len(score.members)
        self.rows, self.columns = _ROWS, max(_NARROWEST, _CELLS // (_ROWS * count))
        self._score = score
        shift = score.margin - score.incumbent
        self._products = [Products(each, shift=shift) for each in score.members]
        self._buffer = Buffer(count, self.rows * self.columns)

    def sift(self, tile: Tile, cut: float) -> ScoredPairs:
        """Value the pairs that pass the screen; see :meth:`~inverse_design.search.pruning.TilePruner.sift`."""
        rows, columns = tile.shape
        buffer = self._buffer.numbers
        for products, row in zip(self._products, buffer, strict=True):
            products.into(row, tile)
        above = buffer[:, : rows * columns].unflatten(1, (rows, columns))
        screened = self._score.screen(above)
        positions = reaching(screened, tile, max(cut, _LEAST)).positions
        values = self._score.exact(*positions.unbind(1))
        kept = ~(values <= self._score.floor)
        return ScoredPairs(positions[kept], values[kept])

    def after(self, tile: Tile, cells: ScoredPairs) -> "ImprovementPruner":  # noqa: ARG002 - nothing is learnt
        """Go on; see :meth:`~inverse_design.search.pruning.TilePruner.after`."""
        return self


class ImprovementTiles:
    """Adds up the improvements of all members on a device, one member after another."""

    cell_bytes, dtype = 12, torch.float32

    def __init__(self, score: EnsembleImprovement, device: str) -> None:
        """Put the members there; the incumbent is taken off their sides."""
        self.size, self.device = score.size, device
        members = [replace(each, side=each.side - score.incumbent / 2) for each in score.members]
        self._members = [device_tiles(each, device) for each in members]
        largest = max(each.magnitude for each in members)
        rounding = (len(members) + 8) * _UNIT * largest  # of a sum of numbers of one sign, and of its division
        self.error = max(each.error for each in self._members) + rounding + score.error

    def into(self, out: Float32[Tensor, "rows columns"], tile: Tile) -> None:
        """Write the values of a tile."""
        first, *others = self._members
        first.into(out, tile)
        out.clamp_(min=0)
        utilities = torch.empty(tile.shape, device=self.device)
        for each in others:
            each.into(utilities, tile)
            out += utilities.clamp_(min=0)
        out /= len(self._members)
