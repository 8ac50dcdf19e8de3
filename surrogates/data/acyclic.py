"""Random acyclic networks of three families, for simulated worlds in which causes have an order."""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.scale_free import grow
from surrogates.errors import DataError

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
    left = parents.clone()
    order: list[int] = []
    waiting = torch.ones(len(parents), dtype=torch.bool)
    while bool(waiting.any()):
        ready = waiting & ~left.any(0)
        if not bool(ready.any()):
            raise DataError(
                f"genes {waiting.nonzero().flatten().tolist()[:5]} act on each other in a cycle; a causal order"
                " needs a network without cycles"
            )
        order += ready.nonzero().flatten().tolist()
        left[ready] = False
        waiting &= ~ready
    return tuple(order)


def _present(family: Family, genes: int, generator: torch.Generator) -> Bool[Tensor, "g g"]:
    if family == "path":
        return torch.diag(torch.ones(genes - 1, dtype=torch.bool), 1)
    if family == "scale-free":
        return grow(genes, parents=_HUB_PARENTS, forward=1.0, generator=generator)
    return (torch.rand(genes, genes, generator=generator) < _DENSITY).triu(1)
