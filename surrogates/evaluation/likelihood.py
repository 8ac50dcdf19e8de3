"""Does a posterior know how far from the truth it is?"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.evaluation.metrics import RowStatistic, pearson_rows
from surrogates.uncertainty.posterior import GaussianPosterior, Posterior


def negative_log_likelihood(posterior: GaussianPosterior, truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Score the measured effects of each perturbation under its joint normal density over all readouts.

    ``(g log(2 pi s) + log det C + (y - mean)^T C^-1 (y - mean) / s) / 2`` with the perturbation's scale ``s`` and
    its factor covariance ``C``; ``O(b g r)``, no dense covariance. Scattered coefficients enter by the matrix
    determinant lemma and the Woodbury identity, in coordinates whitened by ``s C``.

    Args:
        posterior: Predicted distributions; every scale positive.
        truth: Measured effects.

    Returns:
        Nats per perturbation, smaller is better; divided by ``g``, nats per readout. As with every density, the
        logarithm of the unit of the effects is in it: only values of the same readouts in one unit compare.
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
    """Say which fraction of the readouts of each perturbation lie in their central intervals.

    Args:
        posterior: Predicted distributions.
        truth: Measured effects.
        level: Nominal probability, between 0 and 1.

    Returns:
        Fractions from 0 to 1, whose mean over perturbations is near the level for an honest posterior. Readouts of
        one perturbation err together, so single rows spread far more than independent readouts would.
    """
    interval = posterior.interval(level)
    return ((interval.lower <= truth) & (truth <= interval.upper)).to(truth.dtype).mean(1)


def expected_squared_errors(posterior: Posterior) -> Float[Tensor, "b"]:
    """Foretell the squared error of each row: the sum of its variances over readouts.

    Args:
        posterior: Predicted distributions.

    Returns:
        What :func:`surrogates.evaluation.metrics.squared_errors` of the posterior mean averages to if the
        posterior is honest, in the squared unit of the effects.
    """
    return posterior.variance.sum(1)


def spread_error_correlation(spread: Float[Tensor, "n"], errors: Float[Tensor, "n"]) -> RowStatistic:
    """Correlate the ranks of predicted spread and actual error across perturbations (Spearman).

    Does the model know which of its predictions to trust? Ranks do not care whether spread is a variance or a
    standard deviation, nor for its overall size.

    Args:
        spread: How far off each prediction is said to be, for example :func:`expected_squared_errors`.
        errors: How far off it is, for example :func:`surrogates.evaluation.metrics.squared_errors`.

    Returns:
        The statistic, for :func:`surrogates.evaluation.metrics.bootstrap_interval`: a pure number from -1 to 1,
        ``nan`` where all spreads or all errors are equal. Its value is that of ``torch.arange(n)[None]``.
    """
    return lambda rows: pearson_rows(_mid_ranks(spread[rows]), _mid_ranks(errors[rows]))


def _mid_ranks(values: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Rank along rows, from 0; ties get the mean of the ranks they take up."""
    ascending = values.sort(dim=1).values
    first, after = (torch.searchsorted(ascending, values, right=right) for right in (False, True))
    return (first + after - 1).double() / 2
