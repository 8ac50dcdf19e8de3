"""Small screens of several contexts with planted structure."""

from collections.abc import Collection, Sequence

import torch
from strategies.screens import normal

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen


def factor_screen(
    *,
    contexts: int = 4,
    labels: Sequence[str] = ("A", "B", "C", "D", "E", "F", "A+B", "C+D"),
    readouts: int = 6,
    rank: int = 2,
    noise: float = 0.0,
    without: Collection[tuple[int, str]] = (),
    seed: int = 0,
) -> Screen:
    """Build effects that are products of latent factors of context, action and readout.

    Args:
        contexts: How many, named ``c0`` and so on.
        labels: The actions.
        readouts: How many.
        rank: Number of latent factors of the actions.
        noise: Standard deviation of what is added to each effect.
        without: Cells that are not measured.
        seed: Fixes everything.
    """
    loadings = normal(contexts, rank, readouts, seed=seed)
    scores = normal(len(labels), rank, seed=seed + 1)
    effects = torch.einsum("crg,ar->cag", loadings, scores)
    effects = effects + noise * normal(*effects.shape, seed=seed + 2)
    cells = [
        (context, action)
        for context in range(contexts)
        for action in range(len(labels))
        if (context, labels[action]) not in without
    ]
    return Screen.from_labels(
        torch.stack([effects[cell] for cell in cells]),
        [Perturbation.parse(labels[action]) for _, action in cells],
        [f"r{number}" for number in range(readouts)],
        contexts=[f"c{context}" for context, _ in cells],
    )


def effect_of(screen: Screen, context: str, label: str) -> torch.Tensor:
    """Look one measured row up."""
    return screen.effects[list(zip(screen.contexts, screen.labels, strict=True)).index((context, label))]
