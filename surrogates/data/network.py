"""A random network of genes that act on each other: the mechanism of the simulated worlds."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.perturbation import Mode, Perturbation
from surrogates.errors import DataError, UnknownNameError

# A compound acts as an activator of the gene whose name it bears.
SIGN: dict[Mode, float] = {"activation": 1.0, "compound": 1.0, "knockdown": -1.0, "knockout": -1.0}


@dataclass(frozen=True)
class Network:
    """A random directed network of genes; as every gene has parents, it always has a cycle.

    Attributes:
        genes: How many genes, named ``G000``, ``G001`` ...
        parents: How many other genes act on each gene.
        spectral_radius: Largest absolute eigenvalue of the edges, between 0 and 1: how far effects travel.
        contexts: Names of the contexts; each has its own weights on the same edges.
        variation: Standard deviation of the relative change of each edge from the first context to another.
        seed: Fixes the network.
    """

    genes: int = 30
    parents: int = 3
    spectral_radius: float = 0.6
    contexts: tuple[str, ...] = ("",)
    variation: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse a network that cannot be drawn or has no steady state."""
        if not 1 <= self.parents < self.genes:
            raise DataError(
                f"{self.parents} parents per gene do not fit {self.genes} genes; take 1 or more, but fewer"
            )
        if not 0 < self.spectral_radius < 1:
            raise DataError(f"spectral radius {self.spectral_radius!r} is not between 0 and 1")
        if not self.contexts or len(set(self.contexts)) < len(self.contexts):
            raise DataError(f"contexts {self.contexts!r} are not distinct names, at least one")

    @property
    def names(self) -> tuple[str, ...]:
        """The genes, which are also the readouts."""
        return tuple(f"G{number:03d}" for number in range(self.genes))

    def edges(self, context: str) -> Float[Tensor, "g g"]:
        """Draw the weight of each edge from a parent (row) to a gene (column).

        Args:
            context: One of :attr:`contexts`.

        Returns:
            The weights, zero where there is no edge.

        Raises:
            UnknownNameError: If there is no such context.
        """
        if context not in self.contexts:
            raise UnknownNameError.from_known("context", context, self.contexts)
        generator = torch.Generator().manual_seed(self.seed)
        shape = (self.genes, self.genes)
        rank = torch.rand(shape, generator=generator).fill_diagonal_(2.0).argsort(0).argsort(0)
        weights = torch.randn(shape, generator=generator, dtype=torch.float64) * (rank < self.parents)
        change = torch.randn((len(self.contexts), *shape), generator=generator, dtype=torch.float64)
        change[0] = 0
        weights *= 1 + self.variation * change[self.contexts.index(context)]
        return weights * (self.spectral_radius / float(torch.linalg.eigvals(weights).abs().max()))

    def inputs(self, perturbations: Sequence[Perturbation]) -> Float[Tensor, "b g"]:
        """Add up what the interventions put into the genes: their dose, negative for knock-down and knock-out.

        Args:
            perturbations: What is done.

        Returns:
            The input of each gene, for a strength of one.

        Raises:
            UnknownNameError: If a target is not a gene of this network.
        """
        column = {name: number for number, name in enumerate(self.names)}
        inputs = torch.zeros(len(perturbations), self.genes, dtype=torch.float64)
        for row, perturbation in enumerate(perturbations):
            for each in perturbation.interventions:
                if each.target not in column:
                    raise UnknownNameError.from_known("gene", each.target, self.names)
                inputs[row, column[each.target]] = SIGN[each.mode] * each.dose
        return inputs
