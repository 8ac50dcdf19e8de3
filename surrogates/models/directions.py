"""The leading directions of measured effects, of a whole screen and of the parts of it that folds leave."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.canonical import content_order


def effect_components(effects: Float[Tensor, "n g"], count: int) -> Float[Tensor, "c g"]:
    """Find the leading directions of all measured effects, uncentred."""
    return EffectProducts.of(effects, most=count).leading(count)[0]


_FEW = 400  # rows of a square of which all eigenvectors take no longer than some
_WIDE = 1500  # conditions and readouts from which all their products take longer than those with a few directions
_ROWS = 1024  # that are made single at a time
_TOGETHER = 64  # rows that are shrunk at a time
_SWEEPS = 3  # passes over the effects that turn random directions to the leading ones


@dataclass(frozen=True)
class EffectProducts:
    """The inner products of measured effects, from which the leading directions of any of their rows follow.

    To multiply the effects takes longest by far: done once, it serves every part of a screen that a fold leaves.
    Of a large screen only what lies along a frame is multiplied: as many directions as are asked for and as many
    again, that leave the least of all effects beside them. Directions of a part are looked for inside of it; those
    whose squares stand out of the noise lie there but for what the left out rows turn them towards noise.
    """

    effects: Float[Tensor, "n g"]  # of all conditions
    seen: Float[Tensor, "n s"]  # the effects, or their scores along the frame
    frame: Float[Tensor, "s g"] | None  # orthonormal directions; ``None`` where all readouts are multiplied
    kept: Int[Tensor, "m"]  # which of them count
    products: Float[Tensor, "q q"]  # of the kept rows, or of the readouts where these are fewer than all rows
    powers: Float[Tensor, "g"]  # sum of squares of each readout over the kept rows

    @classmethod
    def of(cls, effects: Float[Tensor, "n g"], *, most: int | None = None) -> "EffectProducts":
        """Multiply effects, of which no more than ``most`` directions will be asked for."""
        width = min(effects.shape) if most is None else 2 * most + 20
        frame = _frame(effects, width) if min(effects.shape) > max(_WIDE, 8 * width) else None
        seen = effects if frame is None else effects @ frame.T
        sides = (seen, seen.T) if len(seen) <= seen.shape[1] else (seen.T, seen)
        powers = torch.linalg.vector_norm(effects, dim=0).square()
        return cls(effects, seen, frame, torch.arange(len(effects)), sides[0] @ sides[1], powers)

    @property
    def by_rows(self) -> bool:
        """Whether rows are multiplied, and not readouts."""
        return len(self.seen) <= self.seen.shape[1]

    def rows(self, index: Int[Tensor, "k"]) -> "EffectProducts":
        """Keep some of the kept rows."""
        if len(index) == len(self.kept):
            return self
        left = torch.ones(len(self.kept), dtype=torch.bool).index_fill(0, index, value=False)
        out = self.kept[left]
        gone = self.seen[out]
        products = self.products[index[:, None], index] if self.by_rows else self.products - gone.T @ gone
        powers = self.powers - self.effects[out].square().sum(0)
        return EffectProducts(self.effects, self.seen, self.frame, self.kept[index], products, powers)

    def leading(self, count: int) -> tuple[Float[Tensor, "c g"], Float[Tensor, "c"]]:
        """Find the leading directions of the kept rows, and the squared length that all rows have along each.

        Directions lose accuracy with the square of their size: where one is a thousandth of the first, the rows
        themselves are decomposed.
        """
        wanted = min(count, len(self.kept), self.seen.shape[1])
        if wanted < 1:
            return self.effects[:0], self.effects.new_zeros(0)
        squares, vectors = _largest(self.products, wanted)
        if not bool(squares[-1] > 1e-6 * squares[0]):
            _, values, chosen = torch.linalg.svd(self.seen[self.kept], full_matrices=False)
            squares = values[: min(count, int((values > values[0] * 1e-9).sum()))].square()
            chosen = chosen[: len(squares)]
        elif self.by_rows:
            # Zeros for rows that do not count: a copy of those that do takes far longer.
            left = self.effects.new_zeros(len(self.effects), wanted).index_copy_(0, self.kept, vectors)
            chosen = (left.T @ self.seen) / squares.sqrt()[:, None]
        else:
            chosen = vectors.T
        if self.frame is not None:
            chosen = chosen @ self.frame
        # The sign of a singular vector is arbitrary: fix it, so that equal data give equal models everywhere.
        largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
        return chosen * torch.where(largest < 0, -1.0, 1.0), squares


def _frame(effects: Float[Tensor, "n g"], width: int) -> Float[Tensor, "s g"]:
    """Turn random directions to the leading ones by passes over the effects [Halko 2011], in single precision.

    Each pass multiplies what a leading direction leaves beside the frame by the ratio of two squared lengths: that
    of all effects along the first direction which the frame has no room for, and that along itself.
    """
    largest = torch.linalg.vector_norm(effects, ord=torch.inf).clamp(min=torch.finfo(effects.dtype).tiny)
    quick = torch.empty(effects.shape, dtype=torch.float32)
    for place, rows in zip(quick.split(_ROWS), effects.split(_ROWS), strict=True):
        place.copy_(rows / largest)
    generator = torch.Generator().manual_seed(0)
    frame = torch.randn(effects.shape[1], width, generator=generator)[content_order(effects.T).argsort()]
    for _ in range(_SWEEPS):
        frame = torch.linalg.qr(quick.T @ (quick @ frame)).Q
    q: Tensor = torch.linalg.qr(frame.double()).Q
    return q.T.contiguous()


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


@dataclass(frozen=True)
class CommonEffects:
    """What conditions have in common, and how much of each readout they do not."""

    directions: Float[Tensor, "c g"]  # orthonormal
    uncommon: Float[Tensor, "g"]  # mean square of the remainder of each readout, relative to that of all

    @classmethod
    def of(cls, products: EffectProducts, count: int) -> "CommonEffects":
        """Take the leading directions of some conditions."""
        return cls._of(products, *products.leading(count))

    @classmethod
    def of_several(cls, products: EffectProducts, counts: Sequence[int]) -> tuple["CommonEffects", ...]:
        """Take as many directions as each of some numbers says."""
        directions, squares = products.leading(max(counts, default=0))
        return tuple(cls._of(products, directions[:count], squares[:count]) for count in counts)

    @classmethod
    def _of(
        cls, products: EffectProducts, directions: Float[Tensor, "c g"], squares: Float[Tensor, "c"]
    ) -> "CommonEffects":
        left = (products.powers - squares @ directions.square()).clamp(min=0)
        return cls(directions, left / left.mean().clamp(min=torch.finfo(left.dtype).tiny))

    def shrunk(self, rows: Float[Tensor, "b g"], *, noise: float) -> Float[Tensor, "b g"]:
        """Shrink what single effects do not have in common with other conditions."""
        common = rows @ self.directions.T @ self.directions
        rest = rows - common
        return torch.addcdiv(common, rest, 1 + noise * excess_squares(rest, rest.square().mean(1), self.uncommon))


def excess_squares(
    rest: Float[Tensor, "b g"], lengths: Float[Tensor, "b"], uncommon: Float[Tensor, "g"]
) -> Float[Tensor, "b g"]:
    """Divide the square that row and column let expect by the square of each remainder."""
    return lengths[:, None] * uncommon / rest.square().clamp_(min=torch.finfo(rest.dtype).tiny)


@dataclass(frozen=True)
class ShrunkEffects:
    """Single effects that are shrunk when they are asked for: folds share what was measured."""

    measured: Float[Tensor, "v g"]
    common: CommonEffects
    noise: float

    def __len__(self) -> int:
        return len(self.measured)

    def rows(self, index: Int[Tensor, "m"] | None = None) -> Float[Tensor, "m g"]:
        """Shrink some rows, or all."""
        made = self.measured.new_empty(len(self) if index is None else len(index), self.measured.shape[1])
        some = torch.arange(len(self)) if index is None else index
        for place, entries in zip(made.split(_TOGETHER), some.split(_TOGETHER), strict=True):
            place.copy_(self.common.shrunk(self.measured[entries], noise=self.noise))
        return made
