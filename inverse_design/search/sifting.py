"""What a search asks of the scores of a tile of pairs: those cells only that may reach the best so far."""

import threading
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.problem.score import PairScore

_CHUNK = 128  # cells that share one maximum


class Tile(NamedTuple):
    """Some rows and columns of the square of all pairs.

    Attributes:
        start: First row.
        stop: One past the last row.
        columns: First column, not left of the first row, and one past the last.
    """

    start: int
    stop: int
    columns: tuple[int, int]

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


class Cells(NamedTuple):
    """Pairs of a tile and their quick scores.

    Attributes:
        positions: Of both entries, the first smaller.
        quick: Their scores, in single or double precision.
        pruned: How many pairs of the tile were not scored, as a bound keeps them from the answer.
        tried: Whether a bound was tried at all.
    """

    positions: Int64[Tensor, "m 2"]
    quick: Float[Tensor, "m"]
    pruned: int = 0
    tried: bool = False


@runtime_checkable
class Sifter(Protocol):
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

    def sift(self, tile: Tile, cut: float) -> Cells:
        """Find the pairs of a tile that may be in the answer.

        Args:
            tile: Which pairs.
            cut: Pairs of the answer have a quick score of at least this.

        Returns:
            At least every pair with a quick score that reaches the cut or is not a number, and that is above the
            score's ``floor`` if it has one.
        """
        ...

    def after(self, tile: Tile, cells: Cells) -> "Sifter":
        """Say who sifts on, by how a tile went.

        Args:
            tile: Sifted by this one, or by one before it: some tiles are on their way when it takes over.
            cells: What was found.

        Returns:
            This one, or another for the same scores with the same error.
        """
        ...


@runtime_checkable
class SiftedScore(PairScore, Protocol):
    """A score of pairs that brings its own sifter.

    Attributes:
        floor: A score that none falls below and that very many pairs may have; minus infinity if there is none.
    """

    @property
    def floor(self) -> float:
        """The lowest score."""
        ...

    def sifter(self, *, device: str = "cpu") -> Sifter:
        """Start a search.

        Args:
            device: Where the products are made.

        Returns:
            A sifter with buffers of its own, one for each thread.
        """
        ...


class BlockSifter:
    """Sifts the blocks of any score."""

    rows, columns = 512, 2048
    bound = ""

    def __init__(self, score: PairScore) -> None:
        self._score, self.error = score, score.error

    def sift(self, tile: Tile, cut: float) -> Cells:
        """Score a whole tile; see :meth:`Sifter.sift`."""
        return reaching(self._score.block(*tile), tile, cut)

    def after(self, tile: Tile, cells: Cells) -> "BlockSifter":  # noqa: ARG002 - nothing is learnt
        """Go on; see :meth:`Sifter.after`."""
        return self


class Buffer(threading.local):
    """Numbers that are written again and again: each thread has its own.

    Attributes:
        numbers: Uninitialised, in single precision.
    """

    def __init__(self, *shape: int, device: str = "cpu") -> None:
        """Make the buffer of a thread, when it first asks for it.

        Args:
            shape: Of the numbers.
            device: Where they are.
        """
        self.numbers = torch.empty(shape, device=device)


def reaching(scores: Float32[Tensor, "rows columns"], tile: Tile, cut: float) -> Cells:
    """Take the cells above the diagonal that are not below a cut.

    Chunks of cells are first reduced to their maximum: one pass in cache over what a product just wrote. The
    little that remains is sifted by NumPy, in one thread: on a busy machine threads cost more than they bring.

    Args:
        scores: Of all cells of the tile, on any device, contiguous.
        tile: Where they are.
        cut: The score to reach.

    Returns:
        The pairs, NaN among them.
    """
    cells = scores.flatten()
    whole = len(cells) // _CHUNK * _CHUNK
    chunks = cells[:whole].view(-1, _CHUNK)
    # not below: NaN passes, so that whoever asked can name the pair
    hot = np.flatnonzero(~(chunks.amax(1).cpu().numpy() < cut))
    at, quick = _not_below(_rows(chunks, hot), cut)
    at = hot[at // _CHUNK] * _CHUNK + at % _CHUNK
    if whole < len(cells):
        late, more = _not_below(cells[whole:].cpu().numpy(), cut)
        at, quick = np.concatenate([at, late + whole]), np.concatenate([quick, more])
    row, column = np.divmod(at, tile.shape[1])
    row, column = row + tile.start, column + tile.columns[0]
    upper = row < column
    return Cells(torch.from_numpy(np.stack([row, column], axis=1)[upper]), torch.from_numpy(quick[upper]))


def _not_below(scores: NDArray[np.float32], cut: float) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    at = np.flatnonzero(~(scores < cut))
    return at, scores.reshape(-1)[at]


def _rows(table: Float32[Tensor, "n c"], at: NDArray[np.int64]) -> NDArray[np.float32]:
    rows = table.numpy()[at] if table.device.type == "cpu" else table[torch.from_numpy(at)].cpu().numpy()
    return np.asarray(rows, dtype=np.float32)
