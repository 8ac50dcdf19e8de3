"""A simulated world with noise in its genes, and shifts as interventions."""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.acyclic import causal_order


@dataclass(frozen=True)
class StructuralWorld:
    """States that solve ``x = x A + a + e``: each gene is a sum over its parents, a shift, and noise of its own.

    The mean is that of :class:`surrogates.data.simulate.LinearCausalWorld`. There the noise is one of measurement;
    here it arises in each gene and travels on to what the gene acts on, so that even cells that nobody has touched
    tell of the edges.

    Attributes:
        edges: Weights ``A``, from a gene (row) to another (column), without cycles.
        noise: Standard deviation of ``e``, the same for all genes, positive.
    """

    edges: Float[Tensor, "g g"] = field(repr=False)
    noise: float = 0.3

    def __post_init__(self) -> None:
        """Refuse cycles."""
        causal_order(self.edges != 0)

    @cached_property
    def total(self) -> Float[Tensor, "g g"]:
        """Total effect ``(I - A)^-1`` of a gene (row) on another (column)."""
        unit = torch.eye(len(self.edges), dtype=torch.float64)
        return torch.inverse(unit - self.edges)

    def mean(self, shifts: Float[Tensor, "b g"]) -> Float[Tensor, "b g"]:
        """Compute the mean states under shifts.

        Args:
            shifts: What is added to each gene.

        Returns:
            States without noise; zero without a shift.
        """
        return shifts @ self.total

    def measure(self, shifts: Float[Tensor, "b g"], *, seed: int) -> Float[Tensor, "b g"]:
        """Measure one sample under each shift.

        Args:
            shifts: What is added to each gene.
            seed: Fixes the noise, whatever the shifts are.

        Returns:
            States.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(shifts.shape, generator=generator, dtype=torch.float64)
        return self.mean(shifts + self.noise * noise)
