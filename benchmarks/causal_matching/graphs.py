"""A simulated world with noise in its genes, and shifts as interventions.

Random acyclic networks of three families, for simulated worlds in which causes have an order.

A random network with hubs and cycles, for simulated worlds.
"""

from dataclasses import dataclass, field
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.errors import DataError

_WEAKEST = 0.3  # of the strongest edge, before scaling


def scale_free_edges(
    genes: int, *, parents: int = 2, forward: float = 0.7, spectral_radius: float = 0.75, seed: int
) -> Float[Tensor, "g g"]:
    """Draw a directed network by preferential attachment [Barabási 1999].

    Each new gene is joined to ``parents`` earlier ones, drawn in proportion to one more than their degree. The
    earlier gene acts on the newer one with probability ``forward``, else the newer on the earlier, so that there
    are cycles. Weights have random signs and sizes uniform from 0.3 to 1, scaled together. Genes are numbered at
    random.

    Args:
        genes: How many.
        parents: How many edges each new gene brings.
        forward: Probability of the direction from old to new, from 0 to 1; at both ends there are no cycles.
        spectral_radius: Largest absolute eigenvalue, between 0 and 1.
        seed: Fixes the network.

    Returns:
        Weight of each edge from a gene (row) to another (column), zero where there is none.

    Raises:
        DataError: If the numbers are out of range, or the draw has no cycle, hence no spectral radius to scale.
    """
    if not 1 <= parents < genes or not 0 <= forward <= 1 or not 0 < spectral_radius < 1:
        raise DataError(
            f"{genes} genes, {parents} parents, forward {forward!r} and spectral radius {spectral_radius!r} do not"
            " make a network; take fewer parents than genes, a probability, and a radius between 0 and 1"
        )
    generator = torch.Generator().manual_seed(seed)
    present = grow(genes, parents=parents, forward=forward, generator=generator)
    size = _WEAKEST + (1 - _WEAKEST) * torch.rand(genes, genes, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.rand(genes, genes, generator=generator) < 0.5, -1.0, 1.0)
    shuffle = torch.randperm(genes, generator=generator)
    weights = (present * sign * size)[shuffle][:, shuffle]
    radius = float(torch.linalg.eigvals(weights).abs().max())
    if radius < 1e-6:
        raise DataError(f"seed {seed} gives a network without cycles; take another one, or forward below 1")
    return weights * (spectral_radius / radius)


def grow(genes: int, *, parents: int, forward: float, generator: torch.Generator) -> Bool[Tensor, "g g"]:
    """Join each new gene to earlier ones, drawn in proportion to one more than their degree.

    Args:
        genes: How many, the oldest first.
        parents: How many edges each new gene brings; as many genes are there first, without edges.
        forward: Probability that an edge leads from the old gene to the new one.
        generator: What is drawn from.

    Returns:
        Whether there is an edge from a gene (row) to another (column).
    """
    degree = torch.ones(genes, dtype=torch.float64)
    present = torch.zeros(genes, genes, dtype=torch.bool)
    for new in range(parents, genes):
        old = torch.multinomial(degree[:new], parents, generator=generator)
        degree[old] += 1
        degree[new] += parents
        onwards = torch.rand(parents, generator=generator) < forward
        present[old[onwards], new] = True
        present[new, old[~onwards]] = True
    return present


Family = Literal["path", "scale-free", "dense"]
_WEAKEST, _STRONGEST = 0.25, 1.0  # sizes before they are shared among the parents
_DENSITY = 0.5
_HUB_PARENTS = 2


def acyclic_edges(family: Family, genes: int, *, seed: int) -> Float[Tensor, "g g"]:
    """Draw a directed acyclic network.

    ``path``: each gene acts on the next. ``scale-free``: each new gene is acted on by two earlier ones, which are
    drawn in proportion to one more than their degree [Barabási 1999]. ``dense``: each gene is acted on by each
    earlier one with probability one half. Weights have random signs and sizes uniform from 0.25 to 1, divided by
    the square root of the number of parents, so that effects neither die out nor explode. Genes are numbered at
    random.

    Args:
        family: Which of the three.
        genes: How many, at least three.
        seed: Fixes the network.

    Returns:
        Weight of each edge from a gene (row) to another (column), zero where there is none.

    Raises:
        DataError: If there are too few genes.
    """
    if genes <= _HUB_PARENTS:
        raise DataError(f"{genes} genes do not make a network; take {_HUB_PARENTS + 1} or more")
    generator = torch.Generator().manual_seed(seed)
    present = _present(family, genes, generator)
    shape = (genes, genes)
    size = _WEAKEST + (_STRONGEST - _WEAKEST) * torch.rand(shape, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.rand(shape, generator=generator) < 0.5, -1.0, 1.0)
    shuffle = torch.randperm(genes, generator=generator)
    return (present * sign * size / present.sum(0).clamp(min=1).sqrt())[shuffle][:, shuffle]


def edge_variance(edges: Float[Tensor, "g g"]) -> Float[Tensor, "g"]:
    """Tell the second moment that :func:`acyclic_edges` gives to every edge into a gene.

    Args:
        edges: Only the number of parents of each gene is used.

    Returns:
        One variance for each gene, of each edge into it.
    """
    square = (_STRONGEST**3 - _WEAKEST**3) / (3 * (_STRONGEST - _WEAKEST))
    return square / (edges != 0).sum(0).clamp(min=1).double()


def causal_order(parents: Bool[Tensor, "g g"]) -> tuple[int, ...]:
    """Put causes before effects.

    Args:
        parents: Whether a gene (row) acts on another (column).

    Returns:
        Numbers of the genes; each comes after all that act on it.

    Raises:
        DataError: If there is a cycle.
    """
    sorter = TopologicalSorter(
        {gene: parents[:, gene].nonzero().flatten().tolist() for gene in range(len(parents))}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise DataError(
            f"genes {error.args[1][:5]} act on each other in a cycle; a causal order needs a network"
            " without cycles"
        ) from error
    order: list[int] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        sorter.done(*ready)
        order += ready
    return tuple(order)


def _present(family: Family, genes: int, generator: torch.Generator) -> Bool[Tensor, "g g"]:
    if family == "path":
        return torch.diag(torch.ones(genes - 1, dtype=torch.bool), 1)
    if family == "scale-free":
        return grow(genes, parents=_HUB_PARENTS, forward=1.0, generator=generator)
    return (torch.rand(genes, genes, generator=generator) < _DENSITY).triu(1)


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
