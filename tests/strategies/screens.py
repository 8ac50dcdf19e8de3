"""Small screens with planted structure, and hypothesis strategies over them."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen


def normal(*shape: int, seed: int) -> Float[Tensor, "..."]:
    """Reproducible standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gene(number: int) -> str:
    """Name a gene so that the vocabulary keeps the numbers' order."""
    return f"G{number:02d}"


def label(parts: Sequence[int]) -> str:
    """Name a perturbation by its genes' numbers."""
    return "+".join(gene(part) for part in parts)


def pairs_of(entries: int, count: int, *, seed: int = 0) -> list[tuple[int, ...]]:
    """Draw some pairs of the first entries."""
    every = list(combinations(range(entries), 2))
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:count]
    return [every[int(number)] for number in order]


def planted_screen(
    *,
    alone: Sequence[int],
    together: Sequence[Sequence[int]],
    readouts: int = 12,
    noise: float = 0.3,
    bend: float = 0.0,
    standard_error: float | None = None,
    seed: int = 0,
) -> Screen:
    """Build a screen whose combinations are 0.8 times the sum of their parts, an interaction, and noise.

    Args:
        alone: Genes measured alone.
        together: Combinations, as tuples of gene numbers.
        readouts: Number of readouts.
        noise: Standard deviation of the noise of combinations.
        bend: Size of an interaction ``bend * a_i * a_j``, element by element, summed over pairs of parts.
        standard_error: Reported for every effect, or not at all.
        seed: Fixes everything.
    """
    size = 1 + max([*alone, *(part for parts in together for part in parts)])
    truth = normal(size, readouts, seed=seed)
    rows = [truth[part] for part in alone]
    rows += [
        0.8 * truth[list(parts)].sum(0) + bend * sum(truth[i] * truth[j] for i, j in combinations(parts, 2))
        for parts in together
    ]
    effects = torch.stack(rows)
    effects[len(alone) :] += noise * normal(len(together), readouts, seed=seed + 1)
    return Screen.from_labels(
        effects,
        [Perturbation.parse(label(parts)) for parts in [*((one,) for one in alone), *together]],
        [f"r{number}" for number in range(readouts)],
        standard_errors=None if standard_error is None else torch.full_like(effects, standard_error),
    )


@st.composite
def plans(draw: st.DrawFn, *, fewest_doubles: int = 0, most_doubles: int = 15) -> dict[str, Any]:
    """Draw arguments of :func:`planted_screen`: singles, doubles, triples; the last gene is never measured alone.

    Tests build the screen themselves: run-time type checks sample lists at random, which strategies must not.
    """
    entries = draw(st.integers(7, 9))
    doubles = pairs_of(entries, draw(st.integers(fewest_doubles, most_doubles)), seed=draw(st.integers(0, 99)))
    triples = [parts for parts in [(0, 1, 2), (1, 3, entries - 1)] if draw(st.booleans())]
    return {
        "alone": range(entries - 1),
        "together": [*doubles, *triples],
        "readouts": draw(st.integers(3, 8)),
        "bend": draw(st.sampled_from([0.0, 0.5])),
        "seed": draw(st.integers(0, 99)),
    }
