"""How far predicted effects are from measured ones, row by row, and how sure an average over rows is.

Every metric takes predicted and measured effects, one perturbation per row, and gives one number per row, so that
perturbations can be resampled. Effects are changes against the control in the unit of the screen, often log fold
change; a metric is in that unit, in its square, or a pure number, as its documentation says.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
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
