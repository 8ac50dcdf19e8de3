"""Symmetric features of combinations, made of the single effects of their parts."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch


@dataclass(frozen=True)
class Features:
    """The coordinates from which the features of any combination are made.

    Attributes:
        own: One-hot rows of the entries that occur in training combinations, zero rows for the others.
        similarity: Scores of each entry's single effect on the effect components, rows of unit length.
        scores: Scores on the leading components, in units of their overall root mean square.
    """

    own: Float[Tensor, "v o"]
    similarity: Float[Tensor, "v c"]
    scores: Float[Tensor, "v q"]

    @classmethod
    def of(
        cls,
        singles: Float[Tensor, "v g"],
        components: Float[Tensor, "c g"],
        *,
        leading: int,
        combined: Bool[Tensor, "v"],
    ) -> "Features":
        """Project single effects on the effect components."""
        tiny = torch.finfo(torch.float64).tiny
        projected = singles @ components.T
        first = projected[:, :leading]
        return cls(
            own=torch.eye(len(singles), dtype=torch.float64)[:, combined],
            similarity=projected / projected.norm(dim=1, keepdim=True).clamp(min=tiny),
            scores=first / first.square().sum(1).mean().sqrt().clamp(min=tiny),
        )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Number of columns of each of the four terms."""
        leading = self.scores.shape[1]
        return self.own.shape[1], self.similarity.shape[1], leading, leading

    def main(self) -> Float[Tensor, "v p"]:
        """What each part adds to the features of a combination on its own."""
        blank = torch.zeros_like(self.scores)
        return torch.cat([self.own, self.similarity, blank, self.scores.square()], dim=1)

    def basis(self) -> Float[Tensor, "q p"]:
        """What the product of two parts' scores adds: ``(a - b)² = a² + b² - 2ab``."""
        own, similarity, q, _ = self.sizes
        unit = torch.eye(q, dtype=torch.float64)
        return torch.cat([unit.new_zeros(q, own + similarity), unit, -2 * unit], dim=1)

    def of_batch(self, batch: PerturbationBatch) -> Float[Tensor, "b p"]:
        """Features of combinations of any order: sums over parts and over pairs of parts."""
        marks = batch.multi_hot(len(self.scores))
        # sum over pairs of y_i y_j = ((sum y)² - sum y²) / 2, and each y_i² stands in order - 1 pairs
        squares = marks @ self.scores.square()
        products = ((marks @ self.scores).square() - squares) / 2
        partners = (batch.order - 1).clamp(min=0).to(torch.float64)[:, None]
        return torch.cat(
            [marks @ self.own, marks @ self.similarity, products, partners * squares - 2 * products], dim=1
        )


def effect_components(effects: Float[Tensor, "n g"], count: int) -> Float[Tensor, "c g"]:
    """Find the leading directions of all measured effects, uncentred."""
    if count < 1:
        return effects[:0]
    chosen = _leading_of_few_rows(effects, count) if 2 * len(effects) <= effects.shape[1] else None
    if chosen is None:
        _, values, directions = torch.linalg.svd(effects, full_matrices=False)
        chosen = directions[: min(count, int((values > values[0] * 1e-9).sum()))]
    # The sign of a singular vector is arbitrary: fix it, so that equal data give equal models everywhere.
    largest = chosen.gather(1, chosen.abs().argmax(1, keepdim=True))
    return chosen * torch.where(largest < 0, -1.0, 1.0)


def _leading_of_few_rows(effects: Float[Tensor, "n g"], count: int) -> Float[Tensor, "c g"] | None:
    """Find the same from the inner products of few rows, in a fifth of the time.

    Directions lose accuracy with the square of their size; ``None`` where one is a thousandth of the first.
    """
    squares, left = torch.linalg.eigh(effects @ effects.T)
    wanted = min(count, len(effects))
    squares, left = squares.flip(0)[:wanted], left.flip(1)[:, :wanted]
    if not bool(squares[-1] > 1e-6 * squares[0]):
        return None
    directions: Tensor = (left.T @ effects) / squares.sqrt()[:, None]
    return directions
