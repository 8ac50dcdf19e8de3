"""Families of simulated screens with known truth, each with what makes one kind of real screen hard.

Every draw of a family is another screen of the same kind. They are where a choice that was made on real screens is
confirmed, and where a fault shows that public screens hide.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld
from surrogates.errors import DataError

_SHRUNK = 0.7  # share of the sum of common effects that is left when two genes of a complex are perturbed
_TOLD_APART = 0.1  # relative spread of the common effect over the genes of a complex
_UNEVEN = 3.0  # log odds by which the most paired gene of a complex may be preferred to the least paired


@runtime_checkable
class ScreenFamily(Protocol):
    """Simulated screens of one kind."""

    def truth(self, *, seed: int) -> Float[Tensor, "n g"]:
        """Draw effects without noise.

        Args:
            seed: Fixes the screen.

        Returns:
            Effects of the singles, then of the doubles.
        """
        ...

    def draw(self, *, seed: int) -> Screen:
        """Draw a screen: the truth of the same seed as it is measured.

        Args:
            seed: Fixes the screen and its noise.

        Returns:
            Truth plus noise, with the noise as standard errors.
        """
        ...


@dataclass(frozen=True)
class ComplexFamily:
    """Near-interchangeable genes of one complex: few genes, many doubles, many readouts, little noise.

    Alone, all genes move the cell along one axis, nearly equally far. Two together move it along this and a second
    axis, by what each does in combinations only (other doubles tell) and by what the pair does (nothing tells).
    What tells genes apart is a faint effect of each on all readouts, alone and in combinations; what hides it are
    strong interactions of each pair on few readouts, and faint ones on all.

    A model that learns doubles from other doubles has half the squared error of sums or less, and carries the
    strong interactions of the doubles that it has seen into its errors on others. An error law that was learnt
    from those errors knows on which readouts the doubles *in the training data* of the model are strange: it
    identifies them superbly, and no new one.

    Example:
        >>> screen = ComplexFamily(readouts=50, genes=6, doubles=10).draw(seed=0)
        >>> screen.effects.shape
        torch.Size([16, 50])

    Attributes:
        readouts: Number of readouts.
        genes: Number of genes, all measured alone.
        doubles: Number of pairs measured; some genes are paired more often than others.
        common: Length of what every gene does alone, a Euclidean length over all readouts like the next four.
        together: Standard deviation, along either axis, of what a gene does in combinations only.
        scatter: Standard deviation, along either axis, of what a pair does.
        distinct: Length of what is a gene's own, alone and in combinations.
        diffuse: Length of what is a pair's own on all readouts.
        rare: Share of readouts on which a pair interacts strongly.
        strength: Standard deviation of such an interaction on one readout.
        noise: Standard deviation of the measurement of one readout.
    """

    readouts: int = 400
    genes: int = 28
    doubles: int = 158
    common: float = 40.0
    together: float = 15.0
    scatter: float = 10.0
    distinct: float = 2.4
    diffuse: float = 1.0
    rare: float = 0.02
    strength: float = 5.0
    noise: float = 0.02

    def __post_init__(self) -> None:
        """Refuse what has no two axes, or fewer pairs than doubles."""
        if self.readouts < 2:
            raise DataError(f"{self.readouts} readouts have no two axes; take 2 or more")
        _refuse_too_many(self.doubles, self.genes)

    def truth(self, *, seed: int) -> Float[Tensor, "n g"]:
        """Draw effects without noise.

        Args:
            seed: Fixes the screen.

        Returns:
            Effects of the singles, then of the doubles.
        """
        return self._drawn(seed)[0]

    def draw(self, *, seed: int) -> Screen:
        """Draw a screen: the truth of the same seed as it is measured.

        Args:
            seed: Fixes the screen and its noise.

        Returns:
            Truth plus noise, with the noise as standard errors.
        """
        effects, pairs, generator = self._drawn(seed)
        genes = [f"G{number:03d}" for number in range(self.genes)]
        readouts = [f"R{number:04d}" for number in range(self.readouts)]
        noise = torch.full((self.readouts,), self.noise, dtype=torch.float64)
        return _measured(
            effects, _design(genes, pairs), readouts, noise=noise, generator=generator, told=_told(self, seed)
        )

    def _drawn(self, seed: int) -> tuple[Float[Tensor, "n g"], Int[Tensor, "d 2"], torch.Generator]:
        generator = torch.Generator().manual_seed(seed)
        normal = _Normal(generator)
        per_readout = 1 / math.sqrt(self.readouts)
        axes: Float[Tensor, "2 g"] = torch.linalg.qr(normal(self.readouts, 2))[0].T
        alone = self.common * normalize(normal(1, 2)) * (1 + _TOLD_APART * normal(self.genes, 1))
        combined = self.together * normal(self.genes, 2)
        distinct = self.distinct * per_readout * normal(self.genes, self.readouts)
        pairs = _pairs(self.genes, self.doubles, _UNEVEN, generator)
        on_axes = (_SHRUNK * alone + combined)[pairs].sum(1) + self.scatter * normal(self.doubles, 2)
        hit = torch.rand(self.doubles, self.readouts, generator=generator) < self.rare
        peculiar = self.strength * hit * normal(self.doubles, self.readouts)
        diffuse = self.diffuse * per_readout * normal(self.doubles, self.readouts)
        doubles = on_axes @ axes + distinct[pairs].sum(1) + peculiar + diffuse
        return torch.cat([alone @ axes + distinct, doubles]), pairs, generator


@dataclass(frozen=True)
class NetworkFamily:
    """Genes of a random network whose effects saturate, and readouts beside it that move rarely or never.

    A rarely active readout stands still, but for a trace of noise, except in a few conditions, singles or doubles,
    in which it moves by a fixed amount up or down; nothing tells in which. A silent one never moves.

    Example:
        >>> screen = NetworkFamily(genes=6, doubles=10, network=20, silent=3, rare=2).draw(seed=0)
        >>> screen.effects.shape
        torch.Size([16, 25])

    Attributes:
        genes: Number of genes that are measured alone, the first of the network.
        doubles: Number of their pairs that are measured.
        network: Number of genes of the network, all of them readouts.
        ceiling: Largest effect that a gene of the network can show.
        noise: Standard deviation of the measurement of a readout of the network.
        silent: Number of readouts that never move.
        rare: Number of readouts that move rarely.
        activity: Share of conditions in which a rarely active readout moves.
        strength: By how much it moves.
        trace: Standard deviation of the measurement of a silent or rarely active readout.
    """

    genes: int = 30
    doubles: int = 100
    network: int = 60
    ceiling: float = 1.0
    noise: float = 0.25
    silent: int = 0
    rare: int = 0
    activity: float = 0.03
    strength: float = 3.0
    trace: float = 0.0025

    def __post_init__(self) -> None:
        """Refuse more genes than the network has, or fewer pairs than doubles."""
        if self.genes > self.network:
            raise DataError(f"a network of {self.network} genes has no {self.genes} to perturb; take fewer")
        _refuse_too_many(self.doubles, self.genes)

    def truth(self, *, seed: int) -> Float[Tensor, "n g"]:
        """Draw effects without noise.

        Args:
            seed: Fixes the screen.

        Returns:
            Effects of the singles, then of the doubles: first on the network, then on the silent and on the rarely
            active readouts.
        """
        return self._drawn(seed)[0]

    def draw(self, *, seed: int) -> Screen:
        """Draw a screen: the truth of the same seed as it is measured.

        Args:
            seed: Fixes the screen and its noise.

        Returns:
            Truth plus noise, with the noise as standard errors.
        """
        effects, design, generator = self._drawn(seed)
        beside = [f"SILENT{number:03d}" for number in range(self.silent)]
        beside += [f"RARE{number:03d}" for number in range(self.rare)]
        noise = torch.tensor([self.noise] * self.network + [self.trace] * len(beside), dtype=torch.float64)
        readouts = [*self._network(seed).names, *beside]
        return _measured(effects, design, readouts, noise=noise, generator=generator, told=_told(self, seed))

    def _network(self, seed: int) -> Network:
        return Network(genes=self.network, spectral_radius=0.8, seed=seed)

    def _drawn(self, seed: int) -> tuple[Float[Tensor, "n g"], list[Perturbation], torch.Generator]:
        generator = torch.Generator().manual_seed(seed)
        network = self._network(seed)
        design = _design(network.names[: self.genes], _pairs(self.genes, self.doubles, 0.0, generator))
        n = len(design)
        active = torch.rand(n, self.rare, generator=generator) < self.activity
        rare = self.strength * active * _Normal(generator)(n, self.rare).sign()
        effects = SaturatingWorld(network, ceiling=self.ceiling).truth(design)
        return torch.cat([effects, effects.new_zeros(n, self.silent), rare], dim=1), design, generator


@dataclass(frozen=True)
class _Normal:
    """Draws standard normal numbers."""

    generator: torch.Generator

    def __call__(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def _refuse_too_many(doubles: int, genes: int) -> None:
    pairs = genes * (genes - 1) // 2
    if doubles > pairs:
        raise DataError(f"{genes} genes have {pairs} pairs, fewer than {doubles} doubles")


def _pairs(genes: int, count: int, uneven: float, generator: torch.Generator) -> Int[Tensor, "d 2"]:
    """Draw distinct pairs, by a race in which each gene has log odds of its own (Gumbel's trick)."""
    pairs = torch.combinations(torch.arange(genes))
    odds = uneven * torch.rand(genes, generator=generator, dtype=torch.float64)
    race = -torch.log(-torch.log(torch.rand(len(pairs), generator=generator, dtype=torch.float64)))
    return pairs[(odds[pairs].sum(1) + race).argsort(descending=True)[:count]]


def _design(genes: Sequence[str], pairs: Int[Tensor, "d 2"]) -> list[Perturbation]:
    """List all genes alone, then the pairs."""
    done = [Intervention(gene) for gene in genes]
    return [Perturbation((gene,)) for gene in done] + [Perturbation((done[i], done[j])) for i, j in pairs.tolist()]


def _told(family: "ComplexFamily | NetworkFamily", seed: int) -> dict[str, str]:
    return {"dataset": type(family).__name__, "source": repr(family), "seed": str(seed)}


def _measured(
    truth: Float[Tensor, "n g"],
    design: Sequence[Perturbation],
    readouts: Sequence[str],
    *,
    noise: Float[Tensor, "g"],
    generator: torch.Generator,
    told: Mapping[str, str],
) -> Screen:
    effects = truth + noise * _Normal(generator)(*truth.shape)
    errors = noise.expand_as(truth).clone()
    return Screen.from_labels(effects, design, readouts, standard_errors=errors, provenance=told)


FAMILIES: Mapping[str, ScreenFamily] = {
    "complex": ComplexFamily(),
    "noisy": NetworkFamily(doubles=20, noise=0.5, ceiling=2.0),
    "saturating": NetworkFamily(),
    "rare": NetworkFamily(network=36, silent=12, rare=12),
}
