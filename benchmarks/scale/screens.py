"""Synthetic screens as large as the mission: knock-downs with real gene symbols, and doubles that shrink."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.catalogue import GENE_FEATURES, is_available, locate
from surrogates.data.descriptors import read_symbols
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError

PROGRAMMES = 40  # directions that effects have in common
_DECAY = 0.9  # of their sizes, from one to the next
_NOISE = 0.3  # of every measured effect, in units of the first programme
_SHRUNK = 0.7  # of the sum of two effects, what a double shows
_DEPARTURE = 0.2  # by which it departs from that along the programmes


@dataclass(frozen=True)
class LargeScreen:
    """What a screen is like. Every gene is measured alone; doubles are random pairs of genes."""

    singles: int
    readouts: int
    doubles: int = 0
    seed: int = 0

    def draw(self) -> Screen:
        """Make the screen.

        Raises:
            DataError: If there are not so many pairs.
        """
        pairs = math.comb(self.singles, 2)
        if self.doubles > pairs:
            raise DataError(f"{self.singles} genes have {pairs} pairs, fewer than {self.doubles} doubles")
        generator = torch.Generator().manual_seed(self.seed)
        names = gene_symbols(max(self.singles, self.readouts))
        genes = [Intervention(name, "knockdown") for name in names[: self.singles]]
        sizes = _DECAY ** torch.arange(min(PROGRAMMES, self.readouts), dtype=torch.float64)
        programmes = _normal(len(sizes), self.readouts, generator=generator)
        scores = _normal(self.singles, len(sizes), generator=generator) * sizes
        chosen = _distinct_pairs(self.singles, self.doubles, generator)
        departures = _DEPARTURE * _normal(self.doubles, len(sizes), generator=generator) * sizes
        every = torch.cat([scores, _SHRUNK * scores[chosen].sum(1) + departures])
        effects = every @ programmes
        own = torch.arange(min(self.singles, self.readouts))
        effects[own, own] -= 3.0  # a gene that is knocked down falls itself
        effects += _NOISE * _normal(*effects.shape, generator=generator)
        done = [Perturbation((gene,)) for gene in genes]
        done += [Perturbation((genes[i], genes[j])) for i, j in chosen.tolist()]
        return Screen.from_labels(effects, done, names[: self.readouts])


def gene_symbols(count: int) -> Sequence[str]:
    """List approved symbols, which descriptors know, as far as the tables are on this machine and go."""
    known = sorted(read_symbols(locate(GENE_FEATURES)).approved) if is_available(GENE_FEATURES) else []
    return [*known[:: max(1, len(known) // count)], *(f"GENE{number}" for number in range(count))][:count]


def _distinct_pairs(genes: int, count: int, generator: torch.Generator) -> Tensor:
    pairs = torch.triu_indices(genes, genes, 1).T if genes < 2000 else _drawn(genes, 2 * count, generator)
    return pairs[torch.randperm(len(pairs), generator=generator)[:count]]


def _drawn(genes: int, count: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randint(genes, (count + 16, 2), generator=generator).sort(1).values
    return torch.unique(drawn[drawn[:, 0] < drawn[:, 1]], dim=0)


def _normal(*shape: int, generator: torch.Generator) -> Float[Tensor, "..."]:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)
