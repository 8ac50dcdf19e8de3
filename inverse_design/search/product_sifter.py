"""Pairs scored by one product of factors, sifted in buffers that are used again and again."""

import math

import torch
from jaxtyping import Float32
from torch import Tensor

from inverse_design.problem.score import ProductScore
from inverse_design.search.sifting import Buffer, Cells, Tile, reaching

_LARGEST = 512, 2048  # a tile of 4 MB stays in the cache between the product and the pass over it
_DEEP = 256  # of factors with more columns the product takes all the time; it is faster in wide tiles
_WIDE = 256, 4096


class Products:
    """Tiles of the scores of one :class:`ProductScore`, in single precision.

    Attributes:
        left: Left factors, with the sides and ones as two more columns.
        right: Right factors, with ones and the sides.
    """

    def __init__(self, score: ProductScore, *, device: str = "cpu", shift: float = 0.0) -> None:
        """Fold the sides into the factors.

        Args:
            score: Of all pairs.
            device: Where the products are made.
            shift: Added to all scores.
        """
        side = score.side + shift / 2
        ones = torch.ones_like(side)
        self.left = _beside(score.left, side, ones).to(device)
        self.right = _beside(score.right, ones, side).to(device)

    def into(self, buffer: Float32[Tensor, "n"], tile: Tile) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of a tile.

        Args:
            buffer: At least as many numbers as the tile has cells.
            tile: Which pairs.

        Returns:
            Their scores, in the buffer.
        """
        rows, columns = tile.shape
        out = buffer[: rows * columns].view(rows, columns)
        return torch.mm(self.left[tile.start : tile.stop], self.right[slice(*tile.columns)].T, out=out)


class ProductSifter:
    """Sifts the tiles of a whole product."""

    bound = ""

    def __init__(self, score: ProductScore, *, device: str = "cpu") -> None:
        self.rows, self.columns = _WIDE if score.left.shape[1] > _DEEP else _LARGEST
        self.error = score.error
        self._products = Products(score, device=device)
        # Large enough for the tiles of either kind: another sifter may choose them.
        cells = min(score.size**2, max(map(math.prod, (_LARGEST, _WIDE))))
        self._buffer = Buffer(cells, device=device)

    def sift(self, tile: Tile, cut: float) -> Cells:
        """Score a whole tile; see :meth:`~inverse_design.search.sifting.Sifter.sift`."""
        return reaching(self._products.into(self._buffer.numbers, tile), tile, cut)

    def after(self, tile: Tile, cells: Cells) -> "ProductSifter":  # noqa: ARG002 - nothing is learnt
        """Go on; see :meth:`~inverse_design.search.sifting.Sifter.after`."""
        return self


def _beside(factor: Tensor, *columns: Tensor) -> Float32[Tensor, "v n"]:
    """Convert to single precision in place of the result: no second copy of a large factor is made."""
    width = factor.shape[1]
    out = torch.empty(len(factor), width + len(columns))
    out[:, :width] = factor
    for number, column in enumerate(columns):
        out[:, width + number] = column
    return out
