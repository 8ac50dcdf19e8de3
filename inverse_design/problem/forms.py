"""Quadratic forms of a posterior's covariance, never as a dense matrix."""

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.target import AlignedProfile
from surrogates.uncertainty.posterior import Posterior


def quadratic_form(posterior: Posterior, rows: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Variance of ``rows_i · y_i`` under a posterior: ``r^T S r`` without a dense ``S``.

    Args:
        posterior: Effects with a low-rank plus diagonal covariance.
        rows: One direction per perturbation.

    Returns:
        One variance per perturbation.
    """
    factor = posterior.factor
    if factor is None:
        return (posterior.variance * rows.square()).sum(1)
    diagonal = posterior.variance - factor.square().sum(2)
    return (diagonal * rows.square()).sum(1) + torch.einsum("bg,bgr->br", rows, factor).square().sum(1)


def form_on(posterior: Posterior, target: AlignedProfile, rows: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:
    """Take :func:`quadratic_form` over the readouts of a target only.

    Args:
        posterior: Effects on all readouts of a screen.
        target: Which readouts.
        rows: One direction per perturbation, over those readouts.

    Returns:
        One variance per perturbation.
    """
    wide = rows.new_zeros(len(rows), posterior.mean.shape[1])
    wide[:, target.columns] = rows
    return quadratic_form(posterior, wide)


def traces(posterior: Posterior, target: AlignedProfile) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Take ``tr(W S)`` and ``tr(W S W S)`` of each perturbation's covariance ``S = D + F F^T``.

    Args:
        posterior: Effects on all readouts of a screen.
        target: Which readouts, and their weights ``W``.

    Returns:
        Two numbers per perturbation.
    """
    columns, weights = target.columns, target.weights
    variance = posterior.variance[:, columns] * weights
    factor = posterior.factor
    if factor is None:
        return variance.sum(1), variance.square().sum(1)
    rooted = factor[:, columns] * weights.sqrt()[:, None]
    diagonal = variance - rooted.square().sum(2)
    gram = torch.einsum("bmr,bms->brs", rooted, rooted)
    mixed = (diagonal[..., None] * rooted.square()).sum((1, 2))
    return variance.sum(1), diagonal.square().sum(1) + 2 * mixed + gram.square().sum((1, 2))
