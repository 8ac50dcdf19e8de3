"""Do stated probabilities hold? Binned reliability and the expected calibration error."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

BINS = 10


@dataclass(frozen=True)
class Bin:
    """Predictions of similar probability.

    Attributes:
        low: Lower edge.
        high: Upper edge.
        stated: Mean stated probability.
        found: Share that came true.
        n: Number of predictions.
    """

    low: float
    high: float
    stated: float
    found: float
    n: int


def reliability(probability: Float[Tensor, "n"], hit: Bool[Tensor, "n"]) -> tuple[Bin, ...]:
    """Bin predictions by their probability, ten bins of equal width; empty ones are left out.

    Args:
        probability: Stated probabilities.
        hit: What came true.

    Returns:
        The bins, ascending.
    """
    numbers = (probability * BINS).long().clamp(max=BINS - 1)
    return tuple(
        Bin(
            low=each / BINS,
            high=(each + 1) / BINS,
            stated=float(probability[numbers == each].mean()),
            found=float(hit[numbers == each].double().mean()),
            n=int((numbers == each).sum()),
        )
        for each in numbers.unique().tolist()
    )


def calibration_errors(probability: Float[Tensor, "m n"], hit: Bool[Tensor, "m n"]) -> Float[Tensor, "m"]:
    """Average the gap between stated and found over the bins, weighted by their size (Naeini et al. 2015).

    The error is never zero by chance: see :func:`calibration_noise`.

    Args:
        probability: Stated probabilities, one set of predictions per line.
        hit: What came true.

    Returns:
        The expected calibration error of each line, between 0 and 1.
    """
    numbers = (probability * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(len(probability), BINS, dtype=probability.dtype)
    return gaps.scatter_add(1, numbers, probability - hit.to(probability.dtype)).abs().sum(1) / hit.shape[1]


def calibration_noise(probability: Float[Tensor, "n"], *, seed: int, draws: int = 1000) -> float:
    """Find the expected calibration error that perfectly calibrated probabilities would show by chance.

    Args:
        probability: Stated probabilities.
        seed: Fixes the draws.
        draws: How often outcomes are drawn from the probabilities themselves.

    Returns:
        The mean error over the draws.
    """
    generator = torch.Generator().manual_seed(seed)
    stated = probability.expand(draws, -1)
    came_true = torch.rand(stated.shape, generator=generator, dtype=torch.float64) < stated
    return float(calibration_errors(stated, came_true).mean())
