"""How close predicted effects come to measured ones, and how sure we are of that."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

RowStatistic = Callable[[Int[Tensor, "m n"]], Float[Tensor, "m"]]
_DRAWN_AT_ONCE = 2**22  # row numbers, 32 MiB


def squared_errors(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Sum the squared errors of each row over readouts.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.

    Returns:
        One sum per row, in the squared unit of the effects.
    """
    return (prediction - truth).square().sum(1)


def mean_squared_error(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> float:
    """Average the squared error over rows and readouts.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.

    Returns:
        The mean, in the squared unit of the effects.
    """
    return float((prediction - truth).square().mean())


def squared_error_ratio(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], reference: Float[Tensor, "b g"]
) -> float:
    """Divide the squared error summed over all rows and readouts by that of a reference prediction.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.
        reference: What another model predicts for the same rows.

    Returns:
        Below one when the prediction is better than the reference.
    """
    return float(squared_errors(prediction, truth).sum() / squared_errors(reference, truth).sum())


def pearson_rows(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Correlate each predicted row with the measured one.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.

    Returns:
        Pearson correlations; ``nan`` where either row is constant, as correlation is then undefined.
    """
    one, other = (rows - rows.mean(1, keepdim=True) for rows in (prediction, truth))
    constant = (prediction.amax(1) == prediction.amin(1)) | (truth.amax(1) == truth.amin(1))
    correlation = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    return torch.where(constant, torch.nan, correlation.clamp(-1, 1))


def median_pearson(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> float:
    """Take the median over rows of the correlation across readouts.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.

    Returns:
        The median over rows with a defined correlation; ``nan`` if there are none.
    """
    return float(pearson_rows(prediction, truth).nanquantile(0.5))


def ratio_of_sums(numerator: Float[Tensor, "n"], denominator: Float[Tensor, "n"]) -> RowStatistic:
    """Divide sums over the same drawn rows.

    Args:
        numerator: One number per row.
        denominator: One number per row.

    Returns:
        The statistic, for :func:`bootstrap_interval`.
    """
    return lambda rows: numerator[rows].sum(1) / denominator[rows].sum(1)


def median(values: Float[Tensor, "n"]) -> RowStatistic:
    """Take the median over the drawn rows that have a value.

    Args:
        values: One number per row, ``nan`` where undefined.

    Returns:
        The statistic, for :func:`bootstrap_interval`.
    """
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

    Args:
        statistic: From drawn row numbers, one draw per line, to its value for each draw.
        n: Number of rows.
        seed: Fixes the draws.
        n_boot: Number of draws.
        level: Nominal probability, between 0 and 1.

    Returns:
        The lower and the upper bound; both ``nan`` if the statistic is never defined.
    """
    generator = torch.Generator().manual_seed(seed)
    at_once = max(1, _DRAWN_AT_ONCE // n)
    sizes = [min(at_once, n_boot - start) for start in range(0, n_boot, at_once)]
    values = torch.cat([statistic(torch.randint(n, (size, n), generator=generator)) for size in sizes])
    tail = (1 - level) / 2
    return float(values.nanquantile(tail)), float(values.nanquantile(1 - tail))
