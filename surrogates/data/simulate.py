"""Simulated worlds with known effects: a random network of genes, with linear effects or with saturating ones."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import folds_of_doubles
from surrogates.data.perturbation import DIRECTION, Intervention, Mode, Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

# A compound acts as an activator of the gene whose name it bears.
SIGN: dict[Mode, float] = {**DIRECTION, "compound": 1.0}


@dataclass(frozen=True)
class Network:
    """A random directed network of genes; as every gene has parents, it always has a cycle."""

    genes: int = 30  # how many genes, named ``G000``, ``G001``
    parents: int = 3  # how many other genes act on each gene
    spectral_radius: float = 0.6  # largest absolute eigenvalue of the edges, below 1: how far effects travel
    contexts: tuple[str, ...] = ("",)  # names of the contexts; each has its own weights on the same edges
    variation: float = 0.3  # standard deviation of the relative change of an edge between contexts
    seed: int = 0  # fixes the network

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
        """Draw the weight of each edge from a parent (row) to a gene (column)."""
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
        """Add up what the interventions put into the genes: their dose, negative for knock-down and knock-out."""
        column = {name: number for number, name in enumerate(self.names)}
        inputs = torch.zeros(len(perturbations), self.genes, dtype=torch.float64)
        for row, perturbation in enumerate(perturbations):
            for each in perturbation.interventions:
                if each.target not in column:
                    raise UnknownNameError.from_known("gene", each.target, self.names)
                inputs[row, column[each.target]] = SIGN[each.mode] * each.dose
        return inputs


_SETTLED = 1e-10


@dataclass(frozen=True)
class LinearCausalWorld:
    """Effects that solve ``x = x A + u``: ``x = u (I - A)^-1``, so combinations are exactly additive.

    Example:
        >>> world = LinearCausalWorld(Network(genes=10), noise=0.05)
        >>> screen = world.screen(singles_and_doubles(world.network, doubles=20, seed=0), seed=0)
        >>> screen.effects.shape
        torch.Size([30, 10])
    """

    network: Network = field(default_factory=Network)  # the edges ``A`` in each context
    strength: float = 1.0  # input ``u`` of an intervention of dose 1
    noise: float = 0.1  # standard deviation of the measurement noise of each effect

    def truth(self, perturbations: Sequence[Perturbation], *, context: str = "") -> Float[Tensor, "b g"]:
        """Compute the effects without noise."""
        inputs = self.strength * self.network.inputs(perturbations)
        unit = torch.eye(self.network.genes, dtype=torch.float64)
        total: Float[Tensor, "g g"] = torch.linalg.inv(unit - self.network.edges(context))
        return inputs @ total

    def screen(self, perturbations: Sequence[Perturbation], *, seed: int) -> Screen:
        """Measure perturbations in every context of the network."""
        return _measure(self, perturbations, seed=seed)


@dataclass(frozen=True)
class SaturatingWorld:
    """Effects that solve ``x = ceiling * tanh((x A + u) / ceiling)``: combinations fall short of their sum.

    Small effects are those of :class:`LinearCausalWorld`.
    """

    network: Network = field(default_factory=Network)  # the edges ``A`` in each context
    strength: float = 1.0  # input ``u`` of an intervention of dose 1
    noise: float = 0.1  # standard deviation of the measurement noise of each effect
    ceiling: float = 1.5  # largest effect that any gene can show, positive
    steps: int = 1000  # how many steps of the fixed-point iteration may be taken to settle

    def truth(self, perturbations: Sequence[Perturbation], *, context: str = "") -> Float[Tensor, "b g"]:
        """Compute the effects without noise, by fixed-point iteration from the control."""
        inputs = self.strength * self.network.inputs(perturbations)
        edges = self.network.edges(context)
        state = torch.zeros_like(inputs)
        for _ in range(self.steps):
            before, state = state, self.ceiling * ((state @ edges + inputs) / self.ceiling).tanh()
            if torch.allclose(before, state, rtol=0, atol=_SETTLED):
                return state
        raise DataError(
            f"the network has not settled after {self.steps} steps; raise steps, or lower the spectral radius from"
            f" {self.network.spectral_radius}"
        )

    def screen(self, perturbations: Sequence[Perturbation], *, seed: int) -> Screen:
        """Measure perturbations in every context of the network."""
        return _measure(self, perturbations, seed=seed)


def singles_and_doubles(network: Network, *, doubles: int, seed: int) -> tuple[Perturbation, ...]:
    """Design a screen: the activation of every gene alone, and of random pairs."""
    pairs = torch.combinations(torch.arange(network.genes))
    if doubles > len(pairs):
        raise DataError(f"{network.genes} genes have {len(pairs)} pairs, fewer than {doubles} doubles")
    chosen = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))[:doubles]]
    genes = [Intervention(name) for name in network.names]
    singles = [Perturbation((gene,)) for gene in genes]
    return (*singles, *(Perturbation((genes[i], genes[j])) for i, j in chosen.tolist()))


def _measure(
    world: LinearCausalWorld | SaturatingWorld, perturbations: Sequence[Perturbation], *, seed: int
) -> Screen:
    contexts = world.network.contexts
    truth = torch.cat([world.truth(perturbations, context=context) for context in contexts])
    generator = torch.Generator().manual_seed(seed)
    screen = Screen.from_labels(
        truth + world.noise * torch.randn(truth.shape, generator=generator, dtype=torch.float64),
        list(perturbations) * len(contexts),
        world.network.names,
        contexts=[context for context in contexts for _ in perturbations],
        standard_errors=torch.full_like(truth, world.noise),
        provenance={"dataset": type(world).__name__, "source": repr(world), "seed": str(seed)},
    )
    folds = folds_of_doubles(screen, seed=seed)
    return replace(screen, annotations=pd.DataFrame({"double_fold": folds.numpy()}))
