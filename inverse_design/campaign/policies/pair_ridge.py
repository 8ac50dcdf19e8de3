"""The greedy yardstick: a line in the two singles plus a ridge of genes, and no thought of what is uncertain."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.campaign.policies.pairs import pair_view
from surrogates.errors import DataError


@dataclass(frozen=True)
class PairRidge:
    """Measures the pairs with the largest expected utility, by least squares and a ridge on its residuals.

    Attributes:
        penalty: On the squared effect of each gene, in units of the squared error of one measurement.
    """

    penalty: float = 3.0

    def __post_init__(self) -> None:
        """Refuse a penalty that is not positive."""
        if not self.penalty > 0:
            raise DataError(f"penalty {self.penalty} is not positive")

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Take the best expected.

        Args:
            pool: What is known from the start.
            known: What was revealed since; before that, everything is expected to be alike.
            count: How many experiments.
            seed: Not read.

        Returns:
            The choice.
        """
        view = pair_view(pool)
        parts = view.parts()
        design = torch.cat([torch.ones_like(parts[:, :1]), parts], 1)
        free = known.open_rows(pool)
        line = torch.linalg.pinv(design[known.rows]) @ known.utility
        gene = self._genes(view.pairs[known.rows], known.utility - design[known.rows] @ line, len(view.alone))
        expected = design[free] @ line + gene[view.pairs[free]].sum(1)
        return Choice(free[expected.argsort(descending=True, stable=True)[:count]])

    def _genes(self, pairs: Int[Tensor, "m 2"], left: Float[Tensor, "m"], size: int) -> Float[Tensor, "v"]:
        marks = torch.zeros(len(pairs), size, dtype=torch.float64)
        marks.scatter_(1, pairs, 1.0)
        penalty = self.penalty * torch.eye(size, dtype=torch.float64)
        effects: Tensor = torch.linalg.solve(marks.T @ marks + penalty, marks.T @ left)
        return effects
