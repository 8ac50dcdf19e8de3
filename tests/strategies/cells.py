"""Cells whose true effects are known."""

import torch
from jaxtyping import Float
from strategies.screens import normal
from torch import Tensor

from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation

A, B, AB = (Perturbation.parse(label) for label in ("A", "B", "A+B"))
CONTEXTS = ("K", "L", "M", "N")


def planted(*, each: int = 40, readouts: int = 30, seed: int = 0) -> tuple[Cells, Float[Tensor, "2 g"]]:
    """Cells of four contexts on two latent directions; two perturbations that do the same everywhere."""
    where, effects = 0.5 * normal(len(CONTEXTS), readouts, seed=seed), normal(2, readouts, seed=seed + 1)
    directions = normal(2, readouts, seed=seed + 2)
    values, conditions = [], []
    for context, centre in zip(CONTEXTS, where, strict=True):
        for what, effect in ((CONTROL, torch.zeros(readouts)), (A, effects[0]), (B, effects[1])):
            number = len(conditions)
            spread = normal(each, 2, seed=100 + number) @ directions
            values.append(3 + centre + effect + 0.5 * spread + 0.1 * normal(each, readouts, seed=200 + number))
            conditions.append((what, context))
    cells = Cells(
        values=torch.cat(values),
        codes=torch.repeat_interleave(torch.arange(len(conditions)), each),
        perturbations=tuple(what for what, _ in conditions),
        contexts=tuple(context for _, context in conditions),
        readouts=tuple(f"r{number}" for number in range(readouts)),
    )
    return cells, effects
