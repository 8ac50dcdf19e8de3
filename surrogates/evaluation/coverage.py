"""Coverage and width of stated bounds, and the fit of whole posteriors, one perturbation per row.

Readouts of one perturbation err together, so that the perturbation is the unit: each row gives one share, and
shares are averaged and resampled over rows.
"""

import math

import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.evaluation.intervals import RowStatistic
from surrogates.uncertainty.conformal.quantiles import quantile_rank, require_count
from surrogates.uncertainty.posterior import GaussianPosterior, Interval, Posterior

RESPONDING = 0.05  # share of the readouts that are said to respond
PIT_BINS = 100
_DECILES = 10


def covered_rows(
    interval: Interval, truth: Float[Tensor, "b g"], chosen: Bool[Tensor, "b g"]
) -> Float[Tensor, "b"]:
    """Say which share of some readouts of each perturbation is within bounds."""
    return _mean_of((interval.lower <= truth) & (truth <= interval.upper), chosen)


def width_rows(interval: Interval, chosen: Bool[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Average the width of the bounds of some readouts of each perturbation."""
    return _mean_of(interval.upper - interval.lower, chosen)


def all_covered_rows(interval: Interval, truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Tell of which perturbations every readout is within bounds."""
    return ((interval.lower <= truth) & (truth <= interval.upper)).all(1).double()


def responding_readouts(mean: Float[Tensor, "b g"], share: float = RESPONDING) -> Bool[Tensor, "b g"]:
    """Mark the readouts with the largest predicted effects, whatever their sign.

    By what was measured they must not be chosen: readouts with large measured effects are those that noise
    enlarged, and no honest interval holds for them.
    """
    count = math.ceil(share * mean.shape[1])
    first = mean.abs().argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(mean, dtype=torch.bool).scatter_(1, first, value=True)


def pit_shares(posterior: Posterior, truth: Float[Tensor, "b g"], bins: int = PIT_BINS) -> Float[Tensor, "b c"]:
    """Bin the probability integral transform: the normal distribution function at each measured effect.

    Of an honest posterior it is uniform. A hump in the middle means intervals that are too wide, two heaps at the
    ends intervals that are too narrow, one heap a bias [Gneiting 2007].
    """
    standard = (truth - posterior.mean) / posterior.variance.sqrt()
    transformed = torch.special.ndtr(standard.nan_to_num(0.0))  # an exact prediction without variance is 0 / 0
    number = (transformed * bins).long().clamp(max=bins - 1)
    counts = truth.new_zeros(len(truth), bins).scatter_add_(1, number, torch.ones_like(truth))
    return counts / truth.shape[1]


def pit_deviation(shares: Float[Tensor, "n c"]) -> RowStatistic:
    """Average how far the distribution function of binned transforms is from uniform, in absolute value."""
    c = shares.shape[1]
    uniform = torch.arange(1, c + 1, dtype=shares.dtype) / c
    return lambda rows: (_mean_over(shares, rows).cumsum(1) - uniform).abs().mean(1)


def pit_decile(shares: Float[Tensor, "n c"], number: int) -> RowStatistic:
    """Take the share of one tenth of the probabilities, 0.1 for an honest posterior."""
    tenth = shares.reshape(len(shares), _DECILES, -1).sum(2)[:, number]
    return lambda rows: tenth[rows].mean(1)


def expected_coverage(
    calibrated: int, held_out: int, level: float, *, probability: float = 0.99
) -> tuple[float, float]:
    """Bound the coverage that perturbations held out from an honest calibration show.

    The calibration has a true coverage of ``Beta(k, n + 1 - k)``, and so many held-out perturbations show a
    binomial share of it. An average of shares over readouts varies less, so that it is out of these bounds even
    more rarely.

    Raises:
        CalibrationError: If the calibration is too small for the level.
    """
    require_count(calibrated, level)
    rank, tail = quantile_rank(calibrated, level), (1 - probability) / 2
    law = scipy.stats.betabinom(held_out, rank, calibrated + 1 - rank)
    return float(law.ppf(tail)) / held_out, float(law.ppf(1 - tail)) / held_out


def exact_binomial_interval(hits: int, count: int, *, level: float = 0.95) -> tuple[float, float]:
    """Bound a probability by how often something came true (Clopper and Pearson 1934)."""
    if not count:
        return 0.0, 1.0
    found = scipy.stats.binomtest(hits, count).proportion_ci(confidence_level=level)
    return float(found.low), float(found.high)


def _mean_of(values: Tensor, chosen: Bool[Tensor, "b g"]) -> Float[Tensor, "b"]:
    return torch.where(chosen, values.double(), 0.0).sum(1) / chosen.sum(1)


def _mean_over(shares: Float[Tensor, "n c"], rows: Int[Tensor, "m d"]) -> Float[Tensor, "m c"]:
    """Average the drawn rows by how often each was drawn: the rows themselves would fill the memory."""
    drawn = shares.new_zeros(len(rows), len(shares)).scatter_add_(1, rows, shares.new_ones(rows.shape))
    return drawn @ shares / rows.shape[1]


def negative_log_likelihood(posterior: GaussianPosterior, truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Score the measured effects of each perturbation under its joint normal density over all readouts.

    ``(g log(2 pi s) + log det C + (y - mean)^T C^-1 (y - mean) / s) / 2`` with the perturbation's scale ``s`` and
    its factor covariance ``C``; ``O(b g r)``, no dense covariance. Scattered coefficients enter by the matrix
    determinant lemma and the Woodbury identity, in coordinates whitened by ``s C``.
    """
    residuals, g = truth - posterior.mean, truth.shape[1]
    result = g * torch.log(2 * math.pi * posterior.scale)
    for number, covariance in enumerate(posterior.covariances):
        chosen = posterior.group == number
        root = posterior.scale[chosen].sqrt()[:, None]
        white = covariance.whiten(residuals[chosen]) / root
        result[chosen] += covariance.log_determinant + white.square().sum(1)
        if posterior.scatter is not None:
            along = posterior.scatter.directions[chosen].unbind(2)
            result[chosen] += _of_directions(white, torch.stack([covariance.whiten(u) / root for u in along], 2))
    return result / 2


def _of_directions(white: Float[Tensor, "b g"], directions: Float[Tensor, "b g k"]) -> Float[Tensor, "b"]:
    """What whitened directions add to the log determinant, and take from the squared length of an error."""
    k = directions.shape[2]
    gram = directions.transpose(1, 2) @ directions + torch.eye(k, dtype=white.dtype)
    factor = torch.linalg.cholesky(gram)
    onto = torch.linalg.solve_triangular(
        factor, torch.einsum("bgk,bg->bk", directions, white)[..., None], upper=False
    )
    change: Tensor = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1) - onto.square().sum((1, 2))
    return change


def interval_coverage_rows(posterior: Posterior, truth: Float[Tensor, "b g"], level: float) -> Float[Tensor, "b"]:
    """Say which fraction of the readouts of each perturbation lie in their central intervals."""
    interval = posterior.interval(level)
    return ((interval.lower <= truth) & (truth <= interval.upper)).to(truth.dtype).mean(1)


def expected_squared_errors(posterior: Posterior) -> Float[Tensor, "b"]:
    """Foretell the squared error of each row: the sum of its variances over readouts."""
    return posterior.variance.sum(1)
