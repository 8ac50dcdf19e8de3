"""Tile pruners: which cells of a tile of pairs may reach the best so far.

Scores of one product are pruned in buffers that are used again; wide ones first by their leading columns and a
bound on the rest, which leaves few to be scored as a whole.
"""

import math
import threading
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int64
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.problem.score import LikelihoodScore, PairScore, PooledScore, ProductScore, leading_directions

_CHUNK = 128  # cells that share one maximum


class Tile(NamedTuple):
    """Some rows and columns of the square of all pairs."""

    start: int  # first row
    stop: int  # one past the last row
    columns: tuple[int, int]  # first column, not left of the first row, and one past the last

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of rows and columns."""
        return self.stop - self.start, self.columns[1] - self.columns[0]

    @property
    def pairs(self) -> int:
        """Number of cells above the diagonal."""
        first, last = self.columns
        whole = max(0, min(self.stop, first) - self.start)  # rows that lie above the diagonal as a whole
        top, bottom = self.start + whole, max(self.start + whole, min(self.stop, last))
        return whole * (last - first) + (bottom - top) * (2 * last - 1 - top - bottom) // 2


class ScoredPairs(NamedTuple):
    """Pairs of a tile and their quick scores."""

    positions: Int64[Tensor, "m 2"]  # of both entries, the first smaller
    quick: Float[Tensor, "m"]  # their scores, in single or double precision
    pruned: int = 0  # how many pairs of the tile were not scored, as a bound keeps them from the answer
    tried: bool = False  # whether a bound was tried at all


@runtime_checkable
class TilePruner(Protocol):
    """Sifts the tiles of one search; several threads call it at the same time."""

    @property
    def rows(self) -> int:
        """How many rows a tile should have."""
        ...

    @property
    def columns(self) -> int:
        """How many columns a tile should have."""
        ...

    @property
    def error(self) -> float:
        """A bound on how far quick scores are from the exact ones."""
        ...

    @property
    def bound(self) -> str:
        """The name of what prunes pairs; empty if nothing does."""
        ...

    def sift(self, tile: Tile, cut: float) -> ScoredPairs:
        """Find the pairs of a tile that may be in the answer.

        Args:
            tile: Which pairs.
            cut: Pairs of the answer have a quick score of at least this.

        Returns:
            At least every pair with a quick score that reaches the cut or is not a number, and that is above the
            score's ``floor`` if it has one.
        """
        ...

    def after(self, tile: Tile, cells: ScoredPairs) -> "TilePruner":
        """Say who sifts on, by how a tile went.

        Args:
            tile: Sifted by this one, or by one before it: some tiles are on their way when it takes over.
            cells: What was found.

        Returns:
            This one, or another for the same scores with the same error.
        """
        ...


@runtime_checkable
class PrunedScore(PairScore, Protocol):
    """A score of pairs that brings its own pruner.

    Attributes:
        floor: A score that none falls below and that very many pairs may have; minus infinity if there is none.
    """

    @property
    def floor(self) -> float:
        """The lowest score."""
        ...

    def pruner(self) -> TilePruner:
        """Start a search.

        Returns:
            A pruner with buffers of its own, one for each thread.
        """
        ...


class BlockPruner:
    """Sifts the blocks of any score."""

    rows, columns = 512, 2048
    bound = ""

    def __init__(self, score: PairScore) -> None:
        self._score, self.error = score, score.error

    def sift(self, tile: Tile, cut: float) -> ScoredPairs:
        """Score a whole tile; see :meth:`TilePruner.sift`."""
        return reaching(self._score.block(*tile), tile, cut)

    def after(self, tile: Tile, cells: ScoredPairs) -> "BlockPruner":  # noqa: ARG002 - nothing is learnt
        """Go on; see :meth:`TilePruner.after`."""
        return self


class Buffer(threading.local):
    """Numbers that are written again and again: each thread has its own.

    Attributes:
        numbers: Uninitialised, in single precision.
    """

    def __init__(self, *shape: int) -> None:
        """Make the buffer of a thread, when it first asks for it."""
        self.numbers = torch.empty(shape)


def reaching(scores: Float32[Tensor, "rows columns"], tile: Tile, cut: float) -> ScoredPairs:
    """Take the cells above the diagonal that are not below a cut.

    Chunks of cells are first reduced to their maximum: one pass in cache over what a product just wrote. The
    little that remains is pruned by NumPy, in one thread: on a busy machine threads cost more than they bring.
    """
    cells = scores.flatten()
    whole = len(cells) // _CHUNK * _CHUNK
    chunks = cells[:whole].view(-1, _CHUNK)
    # not below: NaN passes, so that whoever asked can name the pair
    hot = np.flatnonzero(~(chunks.amax(1).numpy() < cut))
    at, quick = _not_below(chunks.numpy()[hot], cut)
    at = hot[at // _CHUNK] * _CHUNK + at % _CHUNK
    if whole < len(cells):
        late, more = _not_below(cells[whole:].numpy(), cut)
        at, quick = np.concatenate([at, late + whole]), np.concatenate([quick, more])
    row, column = np.divmod(at, tile.shape[1])
    row, column = row + tile.start, column + tile.columns[0]
    upper = row < column
    return ScoredPairs(torch.from_numpy(np.stack([row, column], axis=1)[upper]), torch.from_numpy(quick[upper]))


def _not_below(scores: NDArray[np.float32], cut: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    at = np.flatnonzero(~(scores < cut))
    return at, scores.reshape(-1)[at]


_LARGEST = 512, 2048  # a tile of 4 MB stays in the cache between the product and the pass over it
_DEEP = 256  # of factors with more columns the product takes all the time; it is faster in wide tiles
_WIDE = 256, 4096


class Products:
    """Tiles of the scores of one :class:`ProductScore`, in single precision.

    Attributes:
        right: Right factors, with ones and the sides as two more columns.
    """

    def __init__(self, score: ProductScore, *, device: str = "cpu", shift: float = 0.0) -> None:
        """Fold the sides into the factors."""
        side = score.side + shift / 2
        ones = torch.ones_like(side)
        self.right = _beside(score.right, ones, side).to(device)
        self._left, self._times = None, score.times
        if score.left is not score.right:
            self._left = _beside(score.left, side, ones).to(device)
            self._left[:, :-2] *= score.times

    def left(self, start: int, stop: int) -> Float32[Tensor, "rows n"]:
        """Left factors of some rows, with the sides and ones as two more columns."""
        if self._left is not None:
            return self._left[start:stop]
        rows = self.right[start:stop]  # one table serves as both
        return torch.cat([self._times * rows[:, :-2], rows[:, -1:], rows[:, -2:-1]], dim=1)

    def into(self, buffer: Float32[Tensor, "n"], tile: Tile) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of a tile."""
        rows, columns = tile.shape
        out = buffer[: rows * columns].view(rows, columns)
        return torch.mm(self.left(tile.start, tile.stop), self.right[slice(*tile.columns)].T, out=out)


class ProductPruner:
    """Sifts the tiles of a whole product."""

    bound = ""

    def __init__(self, score: ProductScore) -> None:
        self.rows, self.columns = _WIDE if score.left.shape[1] > _DEEP else _LARGEST
        self.error = score.error
        self._products = Products(score)
        # Large enough for the tiles of either kind: another pruner may choose them.
        cells = min(score.size**2, max(map(math.prod, (_LARGEST, _WIDE))))
        self._buffer = Buffer(cells)

    def sift(self, tile: Tile, cut: float) -> ScoredPairs:
        """Score a whole tile; see :meth:`~inverse_design.search.pruning.TilePruner.sift`."""
        return reaching(self._products.into(self._buffer.numbers, tile), tile, cut)

    def after(self, tile: Tile, cells: ScoredPairs) -> "ProductPruner":  # noqa: ARG002 - nothing is learnt
        """Go on; see :meth:`~inverse_design.search.pruning.TilePruner.after`."""
        return self


def _beside(factor: Tensor, *columns: Tensor) -> Float32[Tensor, "v n"]:
    """Convert to single precision in place of the result: no second copy of a large factor is made."""
    width = factor.shape[1]
    out = torch.empty(len(factor), width + len(columns))
    out[:, :width] = factor
    for number, column in enumerate(columns):
        out[:, width + number] = column
    return out


_MOST = 0.5  # of the squared length of rows; a flat spectrum has less in any few directions
_ROWS = 1024  # rows that are projected at a time
_SETTLED = 1 << 22  # cells after which the cut is high enough for a bound to show what it can
_WORTH = 400  # a bound that one cell in so many passes costs more than it saves
_FEWER, COSTLY = 1 << 18, 64  # the same of likelihoods, whose whole tiles cost more
_PATIENCE = 3  # tiles in a row that it may fail on


@dataclass(frozen=True)
class LeadingPruner:
    """Sifts by ``l_i · r_j <= l'_i · r'_j + |l_i - Q l'_i| |r_j - Q r'_j|`` with ``l' = Q^T l`` of few columns.

    ``Q`` is orthonormal: this is the inequality of Cauchy and Schwarz for the parts of both factors outside its
    span. The norms are one more column, and one product gives the bound of all pairs of a tile; it is rounded less
    than the whole product. Factors whose spectrum decays, as that of effects on many readouts, leave few pairs,
    which are scored in double precision. Where too many pass, whole products take over, for good after some tiles.
    Likelihoods of many readouts are bounded by what they are along few directions.
    """

    score: PairScore  # of all pairs, of many columns
    whole: TilePruner  # sifts by whole products
    bounding: TilePruner  # sifts by the bounds
    seen: int = 0  # cells so far
    settled: int = _SETTLED  # cells after which the bound is tried
    worth: int = _WORTH  # cells of a whole tile that cost as much as one that is scored by itself
    failed: int = 0  # tiles in a row that the bound was of no use for
    bound: ClassVar[str] = "leading columns"

    @classmethod
    def of(cls, score: ProductScore, directions: Float64[Tensor, "d q"]) -> "LeadingPruner":
        """Project the factors."""
        right = _projected(score.right, directions)
        left = right if score.left is score.right else _projected(score.left, directions)
        signs = left.new_full((left.shape[1],), score.times)
        signs[-1] = abs(score.times)  # what is left may point anywhere
        bounds = ProductScore(score.side, left * signs, right)
        return cls(score, ProductPruner(score), ProductPruner(bounds), settled=_SETTLED, worth=_WORTH)

    @classmethod
    def of_likelihood(cls, score: LikelihoodScore | PooledScore) -> "LeadingPruner | BlockPruner":
        """Sift by the bound that a likelihood brings, if it does."""
        whole = BlockPruner(score)
        if score.upper is None:
            return whole
        return cls(score, whole, BlockPruner(score.upper), settled=_FEWER, worth=COSTLY)

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

    def sift(self, tile: Tile, cut: float) -> ScoredPairs:
        """Bound all pairs of a tile and score those that pass; see :meth:`~.pruning.TilePruner.sift`."""
        if self.seen < self.settled:
            return self.whole.sift(tile, cut)
        passed = self.bounding.sift(tile, cut).positions
        if len(passed) * self.worth > math.prod(tile.shape):
            return self.whole.sift(tile, cut)._replace(tried=True)
        quick = self.score.exact(*passed.unbind(1))
        return ScoredPairs(passed, quick, pruned=tile.pairs - len(passed), tried=True)

    def after(self, tile: Tile, cells: ScoredPairs) -> "LeadingPruner | TilePruner":
        """Give up when the bound has failed too often; see :meth:`~.pruning.TilePruner.after`."""
        rows, columns = tile.shape
        seen, failed = self.seen + rows * columns, self.failed
        if cells.tried:
            failed = 0 if cells.pruned else failed + 1
        return self.whole if failed >= _PATIENCE else replace(self, seen=seen, failed=failed)


def deep_sifter(score: ProductScore) -> LeadingPruner | ProductPruner:
    """Start the search of a score of many columns."""
    directions, share = leading_directions((score.left, score.right))
    if share < _MOST:
        return ProductPruner(score)
    return LeadingPruner.of(score, directions)


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
