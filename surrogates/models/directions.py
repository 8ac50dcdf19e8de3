"""The leading directions of measured effects, of a whole screen and of the parts of it that folds leave."""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor


def effect_components(effects: Float[Tensor, "n g"], count: int) -> Float[Tensor, "c g"]:
    """Find the leading directions of all measured effects, uncentred."""
    return EffectProducts.of(effects).leading(count)[0]


_FEW = 400  # rows of a square of which all eigenvectors take no longer than some


@dataclass(frozen=True)
class EffectProducts:
    """The inner products of measured effects, from which the leading directions of any of their rows follow.

    To multiply the effects takes longest by far: done once, it serves every part of a screen that a fold leaves.
    """

    effects: Float[Tensor, "n g"]  # of all conditions
    kept: Int[Tensor, "m"]  # which of them count
    products: Float[Tensor, "s s"]  # of the kept rows, or of the readouts where these are fewer than all rows
    powers: Float[Tensor, "g"]  # sum of squares of each readout over the kept rows

    @classmethod
    def of(cls, effects: Float[Tensor, "n g"]) -> "EffectProducts":
        """Multiply effects."""
        sides = (effects, effects.T) if len(effects) <= effects.shape[1] else (effects.T, effects)
        powers = torch.linalg.vector_norm(effects, dim=0).square()
        return cls(effects, torch.arange(len(effects)), sides[0] @ sides[1], powers)

    @property
    def by_rows(self) -> bool:
        """Whether rows are multiplied, and not readouts."""
        return len(self.effects) <= self.effects.shape[1]

    def rows(self, index: Int[Tensor, "k"]) -> "EffectProducts":
        """Keep some of the kept rows."""
        if len(index) == len(self.kept):
            return self
        left = torch.ones(len(self.kept), dtype=torch.bool).index_fill(0, index, value=False)
        gone = self.effects[self.kept[left]]
        products = self.products[index[:, None], index] if self.by_rows else self.products - gone.T @ gone
        return EffectProducts(self.effects, self.kept[index], products, self.powers - gone.square().sum(0))

    def leading(self, count: int) -> tuple[Float[Tensor, "c g"], Float[Tensor, "c"]]:
        """Find the leading directions of the kept rows, and the squared length that all rows have along each.

        Directions lose accuracy with the square of their size: where one is a thousandth of the first, the rows
        themselves are decomposed.
        """
        wanted = min(count, len(self.kept), self.effects.shape[1])
        if wanted < 1:
            return self.effects[:0], self.effects.new_zeros(0)
        squares, vectors = _largest(self.products, wanted)
        if not bool(squares[-1] > 1e-6 * squares[0]):
            _, values, chosen = torch.linalg.svd(self.effects[self.kept], full_matrices=False)
            squares = values[: min(count, int((values > values[0] * 1e-9).sum()))].square()
            chosen = chosen[: len(squares)]
        elif self.by_rows:
            # Zeros for rows that do not count: a copy of those that do takes far longer.
            left = self.effects.new_zeros(len(self.effects), wanted).index_copy_(0, self.kept, vectors)
            chosen = (left.T @ self.effects) / squares.sqrt()[:, None]
        else:
            chosen = vectors.T
        # The sign of a singular vector is arbitrary: fix it, so that equal data give equal models everywhere.
        largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
        return chosen * torch.where(largest < 0, -1.0, 1.0), squares


def _largest(square: Float[Tensor, "s s"], count: int) -> tuple[Float[Tensor, "c"], Float[Tensor, "s c"]]:
    """Find the largest eigenvalues of a symmetric matrix, descending, and their vectors."""
    if len(square) > max(_FEW, 4 * count):
        try:
            start = np.ones(len(square))
            values, vectors = scipy.sparse.linalg.eigsh(square.numpy(), k=count, v0=start)
            order = np.argsort(-values)
            return torch.from_numpy(values[order]), torch.from_numpy(np.ascontiguousarray(vectors[:, order]))
        except scipy.sparse.linalg.ArpackError:  # such as of many equal eigenvalues
            pass
    squares, left = torch.linalg.eigh(square)
    return squares.flip(0)[:count], left.flip(1)[:, :count]
