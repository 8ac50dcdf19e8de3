"""How far two populations of cells are apart as distributions."""

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

GAMMAS = (2.0, 1.0, 0.5, 0.1, 0.01, 0.005)
_PAIRS_AT_ONCE = 2**21  # 16 MiB


def energy_distance(x: Float[Tensor, "n g"], y: Float[Tensor, "m g"]) -> float:
    """Compare cells by the mean Euclidean distances between and within the two populations.

    ``E = 2 mean d(x, y) - mean d(x, x') - mean d(y, y')`` (Székely and Rizzo 2013), each mean over all pairs
    including those of a cell with itself, as in cell-eval. So it is never negative, and above zero for two samples
    of one distribution, the more so the fewer cells. Other conventions: scPerturb takes squared Euclidean
    distances of principal components; ``scipy.stats.energy_distance`` is the square root.

    Args:
        x: Cells of one population.
        y: Cells of the other.

    Returns:
        The distance, in the unit of the readouts; zero for equal populations.
    """
    return 2 * _mean_distance(x, y) - _mean_distance(x, x) - _mean_distance(y, y)


def maximum_mean_discrepancy(
    x: Float[Tensor, "n g"], y: Float[Tensor, "m g"], gammas: Sequence[float] = GAMMAS
) -> float:
    """Compare cells by the squared maximum mean discrepancy, averaged over Gaussian kernels of several widths.

    ``MMD² = mean k(x, x') + mean k(y, y') - 2 mean k(x, y)`` with ``k(x, y) = exp(-gamma |x - y|²)`` (Gretton et
    al. 2012), each mean over all pairs including those of a cell with itself (the biased estimate), averaged over
    the gammas as CellOT does (Bunne et al. 2023), whose widths are the default. They suit few readouts: where
    cells are many units apart every kernel is nearly zero, and gammas near one over the median squared distance
    tell more.

    Args:
        x: Cells of one population.
        y: Cells of the other.
        gammas: Inverse squared widths, in one over the squared unit of the readouts.

    Returns:
        The squared discrepancy, a pure number from 0 to 2.
    """
    within = _mean_kernel(x, x, gammas) + _mean_kernel(y, y, gammas)
    return within - 2 * _mean_kernel(x, y, gammas)


def _mean_distance(x: Float[Tensor, "n g"], y: Float[Tensor, "m g"]) -> float:
    return math.fsum(float(block.sqrt().sum()) for block in _squared_distances(x, y)) / (len(x) * len(y))


def _mean_kernel(x: Float[Tensor, "n g"], y: Float[Tensor, "m g"], gammas: Sequence[float]) -> float:
    blocks = _squared_distances(x, y)
    total = math.fsum(float((block * -gamma).exp().sum()) for block in blocks for gamma in gammas)
    return total / (len(x) * len(y) * len(gammas))


def _squared_distances(x: Float[Tensor, "n g"], y: Float[Tensor, "m g"]) -> Iterator[Float[Tensor, "rows m"]]:
    """Yield the squared Euclidean distances of a few rows at a time from all others, by one matrix product each.

    Cells are centred first, so that the product does not lose a small distance in a large mean; what remains below
    rounding is zero, so that a cell is no distance from itself.
    """
    centre = y.double().mean(0)
    y = y.double() - centre
    squares = y.square().sum(1)
    for block in x.split(max(1, _PAIRS_AT_ONCE // len(y))):
        rows = block.double() - centre
        sizes = rows.square().sum(1, keepdim=True) + squares
        apart = sizes - 2 * rows @ y.T
        yield torch.where(apart > 1e-12 * sizes, apart, 0)
