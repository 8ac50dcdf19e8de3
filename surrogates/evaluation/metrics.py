"""How far predicted effects are from measured ones, row by row, and how sure an average over rows is.

Every metric takes predicted and measured effects, one perturbation per row, and gives one number per row, so that
perturbations can be resampled. Effects are changes against the control in the unit of the screen, often log fold
change; a metric is in that unit, in its square, or a pure number, as its documentation says. Distances between
populations of cells stand here, too.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

# From the row numbers of each draw, as many as the draw has, to the value of the statistic for it.
RowStatistic = Callable[[Int[Tensor, "m d"]], Float[Tensor, "m"]]
_DRAWN_AT_ONCE = 2**22  # row numbers, 32 MiB


def squared_errors(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Sum the squared errors of each row over readouts; divided by ``g`` it is the mean squared error."""
    return (prediction - truth).square().sum(1)


def absolute_errors(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Sum the absolute errors of each row over readouts; divided by ``g`` it is the mean absolute error."""
    return (prediction - truth).abs().sum(1)


def interventional_absolute_error(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], intervened: Bool[Tensor, "g"]
) -> Float[Tensor, "b"]:
    """Average the absolute errors over the readouts that no held-out intervention acts on.

    This is the I-MAE of Rohbeck et al. 2024 (Bicycle), ``sum(|prediction - truth| U) / sum(U)`` with ``U`` the
    readouts that are not intervened on: those a model has to derive rather than be given.
    """
    return (prediction - truth)[:, ~intervened].abs().mean(1)


def r_squared_rows(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Say which fraction of the variance of each measured row across readouts its prediction explains."""
    unexplained = squared_errors(prediction, truth) / (truth - truth.mean(1, keepdim=True)).square().sum(1)
    return torch.where(truth.amax(1) == truth.amin(1), torch.nan, 1 - unexplained)


def pearson_rows(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Correlate each predicted row with the measured one; of effects, this is the literature's Pearson-delta."""
    one, other = (rows - rows.mean(1, keepdim=True) for rows in (prediction, truth))
    constant = (prediction.amax(1) == prediction.amin(1)) | (truth.amax(1) == truth.amin(1))
    correlation = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    return torch.where(constant, torch.nan, correlation.clamp(-1, 1))


def systema_rows(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], centroid: Float[Tensor, "g"]
) -> Float[Tensor, "b"]:
    """Correlate what each row has of its own, beyond what all perturbations share (Systema).

    Correlation of plain effects rewards a model that gives every perturbation the mean effect. Here that mean is
    subtracted from both rows first (Viñas Torné et al. 2025).
    """
    return pearson_rows(_departures(prediction, centroid), _departures(truth, centroid))


def _departures(rows: Float[Tensor, "b g"], centroid: Float[Tensor, "g"]) -> Float[Tensor, "b g"]:
    """Subtract the centroid; a row that was the same mean added up in another order becomes zero, not noise."""
    departures = rows - centroid
    rounding = torch.finfo(departures.dtype).eps ** 0.5 * centroid.norm()
    return torch.where(departures.norm(dim=1, keepdim=True) <= rounding, 0, departures)


def ratio_of_sums(numerator: Float[Tensor, "n"], denominator: Float[Tensor, "n"]) -> RowStatistic:
    """Divide sums over the same drawn rows."""
    return lambda rows: numerator[rows].sum(1) / denominator[rows].sum(1)


def median(values: Float[Tensor, "n"]) -> RowStatistic:
    """Take the median over the drawn rows that have a value."""
    return lambda rows: values[rows].nanquantile(0.5, dim=1)


def bootstrap_interval(
    statistic: RowStatistic, n: int, *, seed: int, n_boot: int = 2000, level: float = 0.95
) -> tuple[float, float]:
    """Bound a statistic of perturbations by the percentile bootstrap.

    Perturbations are the unit that is resampled. A statistic that looks models and reference up by the same row
    numbers is resampled in pairs. Undefined draws are left out.

    Example:
        >>> errors = torch.tensor([1.0, 2.0, 4.0])
        >>> low, high = bootstrap_interval(lambda rows: errors[rows].mean(1), 3, seed=0)
    """
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, _DRAWN_AT_ONCE // n)
    sizes = [min(at_once, n_boot - start) for start in range(0, n_boot, at_once)]
    values = torch.cat([statistic(torch.randint(n, (size, n), generator=generator)) for size in sizes])
    tail = (1 - level) / 2
    return float(values.nanquantile(tail)), float(values.nanquantile(1 - tail))


GAMMAS = (2.0, 1.0, 0.5, 0.1, 0.01, 0.005)
_PAIRS_AT_ONCE = 2**21  # 16 MiB


def energy_distance(x: Float[Tensor, "n g"], y: Float[Tensor, "m g"]) -> float:
    """Compare cells by the mean Euclidean distances between and within the two populations.

    ``E = 2 mean d(x, y) - mean d(x, x') - mean d(y, y')`` (Székely and Rizzo 2013), each mean over all pairs
    including those of a cell with itself, as in cell-eval. So it is never negative, and above zero for two samples
    of one distribution, the more so the fewer cells. Other conventions: scPerturb takes squared Euclidean
    distances of principal components; ``scipy.stats.energy_distance`` is the square root.
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
    say more.
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
