"""A random network with hubs and cycles, for simulated worlds."""

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
