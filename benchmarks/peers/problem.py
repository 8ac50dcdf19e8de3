"""One problem for all searches: which pair of genes does an ensemble expect to improve upon the best known one?"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from surrogates.errors import DataError

_DISAGREEMENT = 0.3  # of a member from the truth, in standard deviations of an effect
_NOISE = 0.05  # of a measurement, in standard deviations of the measured utilities


@dataclass(frozen=True)
class PairProblem:
    """Additive members that disagree, a target that one pair reaches, and some measured pairs.

    The utility of the pair ``i < j`` is ``u_s = -|target - rows_si - rows_sj|²`` to the member ``s``, and its
    worth the expected improvement ``mean_s max(0, u_s - incumbent)``.

    Attributes:
        rows: Effect of each gene, by each member.
        target: Where the sum of two effects should be.
        planted: The pair that reaches it.
        measured: Pairs with a known utility.
        utilities: What was measured of them, with noise.
    """

    rows: Float64[Tensor, "s v d"]
    target: Float64[Tensor, "d"]
    planted: Int64[Tensor, "2"]
    measured: Int64[Tensor, "n 2"]
    utilities: Float64[Tensor, "n"]

    @classmethod
    def drawn(
        cls, genes: int, *, members: int = 8, dimensions: int = 32, measured: int = 200, seed: int = 0
    ) -> "PairProblem":
        """Draw independent normal effects, and plant a pair.

        Args:
            genes: Number of genes.
            members: Number of members.
            dimensions: Of an effect.
            measured: How many pairs are drawn to be measured; those that are drawn twice count once.
            seed: Fixes everything.

        Returns:
            The problem.

        Raises:
            DataError: If there are too few genes for a pair to be measured and another to be found.
        """
        if genes < 4:
            raise DataError(f"{genes} genes have too few pairs to measure some and find another; take 4 or more")
        generator = torch.Generator().manual_seed(seed)
        truth = torch.randn(genes, dimensions, generator=generator, dtype=torch.float64)
        noise = torch.randn(members, genes, dimensions, generator=generator, dtype=torch.float64)
        planted = torch.randperm(genes, generator=generator)[:2].sort().values
        target = truth[planted].sum(0)
        drawn = torch.unique(torch.randint(genes, (measured, 2), generator=generator).sort(1).values, dim=0)
        drawn = drawn[(drawn[:, 0] < drawn[:, 1]) & (drawn != planted).any(1)]
        utilities = -(target - truth[drawn].sum(1)).square().sum(1)
        scatter = torch.randn(len(drawn), generator=generator, dtype=torch.float64)
        utilities = utilities + _NOISE * utilities.std(correction=0) * scatter
        return cls(truth + _DISAGREEMENT * noise, target, planted, drawn, utilities)

    @property
    def genes(self) -> int:
        """Number of genes."""
        return self.rows.shape[1]

    @property
    def incumbent(self) -> float:
        """The best measured utility."""
        return float(self.utilities.max())

    def blocks(self, pairs: int) -> Iterator[Int64[Tensor, "m 2"]]:
        """Spell all pairs out, some at a time.

        Args:
            pairs: About how many at a time; a block holds all pairs of one gene with later ones at least.

        Yields:
            Positions of both genes, in the order of the rows of the upper triangle.
        """
        step = max(1, pairs // self.genes)
        for start in range(0, self.genes - 1, step):
            rows = min(step, self.genes - 1 - start)
            yield torch.triu_indices(rows, self.genes - start, 1).T + start

    def worth(self, pairs: Int64[Tensor, "m 2"]) -> Float64[Tensor, "m"]:
        """Compute the expected improvement of chosen pairs.

        Args:
            pairs: Positions of both genes.

        Returns:
            It, in the units of the utility.
        """
        gap = self.target - self.rows[:, pairs[:, 0]] - self.rows[:, pairs[:, 1]]
        improvement = (-gap.square().sum(2) - self.incumbent).clamp(min=0)
        return improvement.mean(0)
