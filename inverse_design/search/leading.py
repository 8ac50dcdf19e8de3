"""Pairs scored by their leading columns and a bound on the rest, which leaves few to be scored as a whole."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float64
from torch import Tensor

from inverse_design.problem.score import ProductScore
from inverse_design.search.product_sifter import ProductSifter
from inverse_design.search.sifting import Cells, Tile

_LEADING = 64  # columns that are multiplied in any case
_SAMPLED = 512  # rows of each factor that the leading directions are found from
_MOST = 0.5  # of the squared length of rows; a flat spectrum has less in any few directions
_ROWS = 1024  # rows that are projected at a time
_SETTLED = 1 << 22  # cells after which the cut is high enough for a bound to show what it can
_WORTH = 400  # a bound that one cell in so many passes costs more than it saves
_PATIENCE = 3  # tiles in a row that it may fail on


@dataclass(frozen=True)
class LeadingSifter:
    """Sifts by ``l_i · r_j <= l'_i · r'_j + |l_i - Q l'_i| |r_j - Q r'_j|`` with ``l' = Q^T l`` of few columns.

    ``Q`` is orthonormal: this is the inequality of Cauchy and Schwarz for the parts of both factors outside its
    span. The norms are one more column, and one product gives the bound of all pairs of a tile; it is rounded less
    than the whole product. Factors whose spectrum decays, as that of effects on many readouts, leave few pairs,
    which are scored in double precision. Where too many pass, whole products take over, for good after some tiles.

    Attributes:
        score: Of all pairs, of many columns.
        whole: Sifts by whole products.
        bounding: Sifts by the bounds.
        seen: Cells so far.
        failed: Tiles in a row that the bound was of no use for.
    """

    score: ProductScore
    whole: ProductSifter
    bounding: ProductSifter
    seen: int = 0
    failed: int = 0
    bound: ClassVar[str] = "leading columns"

    @classmethod
    def of(
        cls, score: ProductScore, directions: Float64[Tensor, "d q"], *, device: str = "cpu"
    ) -> "LeadingSifter":
        """Project the factors.

        Args:
            score: Of all pairs, of many columns.
            directions: Orthonormal columns ``Q``.
            device: Where the products are made.

        Returns:
            The sifter.
        """
        bounds = ProductScore(score.side, *(_projected(each, directions) for each in (score.left, score.right)))
        return cls(score, ProductSifter(score, device=device), ProductSifter(bounds, device=device))

    @property
    def rows(self) -> int:
        """How many rows a tile should have."""
        return self.bounding.rows

    @property
    def columns(self) -> int:
        """How many columns."""
        return self.bounding.columns

    @property
    def error(self) -> float:
        """A bound on how far quick scores are from the exact ones."""
        return self.score.error

    def sift(self, tile: Tile, cut: float) -> Cells:
        """Bound all pairs of a tile and score those that pass; see :meth:`~.sifting.Sifter.sift`."""
        if self.seen < _SETTLED:
            return self.whole.sift(tile, cut)
        passed = self.bounding.sift(tile, cut).positions
        if not _is_few(len(passed), tile):
            return self.whole.sift(tile, cut)._replace(tried=True)
        quick = self.score.exact(*passed.unbind(1))
        return Cells(passed, quick, pruned=tile.pairs - len(passed), tried=True)

    def after(self, tile: Tile, cells: Cells) -> "LeadingSifter | ProductSifter":
        """Give up when the bound has failed too often; see :meth:`~.sifting.Sifter.after`."""
        rows, columns = tile.shape
        seen, failed = self.seen + rows * columns, self.failed
        if cells.tried:
            failed = 0 if cells.pruned else failed + 1
        return self.whole if failed >= _PATIENCE else replace(self, seen=seen, failed=failed)


def deep_sifter(score: ProductScore, *, device: str = "cpu") -> LeadingSifter | ProductSifter:
    """Start the search of a score of many columns.

    Args:
        score: Of all pairs.
        device: Where the products are made.

    Returns:
        A sifter by leading columns if these hold most of a sample of rows, and by whole products otherwise.
    """
    directions, share = leading_directions(score)
    if share < _MOST:
        return ProductSifter(score, device=device)
    return LeadingSifter.of(score, directions, device=device)


def leading_directions(score: ProductScore) -> tuple[Float64[Tensor, "d q"], float]:
    """Find directions that hold most of both factors, by one step of subspace iteration on a sample of rows.

    Args:
        score: Of many columns.

    Returns:
        Orthonormal columns, and their mean share of the squared length of a sampled row.
    """
    step = max(1, score.size // _SAMPLED)
    sampled = torch.cat([each[::step].double() for each in (score.left, score.right)])
    rows = torch.nn.functional.normalize(sampled, dim=1)
    start = rows[:: max(1, len(rows) // _LEADING)][:_LEADING]
    directions: Tensor = torch.linalg.qr(rows.T @ (rows @ start.T)).Q
    return directions, float((rows @ directions).square().sum(1).mean())


def _is_few(passed: int, tile: Tile) -> bool:
    rows, columns = tile.shape
    return passed * _WORTH <= rows * columns


def _projected(factor: Tensor, directions: Float64[Tensor, "d q"]) -> Float64[Tensor, "v n"]:
    """Coordinates along the directions, and the norm of what they leave, rounded up."""
    width = directions.shape[1]
    out = torch.empty(len(factor), width + 1, dtype=torch.float64)
    slack = 4 * (len(directions) + 8) * torch.finfo(torch.float64).eps
    for at in range(0, len(factor), _ROWS):
        rows = factor[at : at + _ROWS].double()
        leading = rows @ directions
        square = rows.square().sum(1)
        rest = (square - leading.square().sum(1)).clamp_(min=0).add_(slack * square)
        out[at : at + _ROWS, :width], out[at : at + _ROWS, width] = leading, rest.sqrt_()
    return out
