"""Bayesian regression on several terms: how much each term varies, by the marginal likelihood."""

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor

_LOG_WEIGHT_BOUNDS = (-8.0, 4.0)
# Squared size below which a feature is rounding.
_VANISHING = 1e-20
_MANY = 500  # features; with fewer it hardly matters which matrices are decomposed
_Criterion: TypeAlias = Callable[[np.ndarray], tuple[float, np.ndarray]]  # value and slope


def maximise_evidence(
    design: Float[Tensor, "n p"], sizes: tuple[int, ...], scores: Float[Tensor, "n c"]
) -> Float[Tensor, "t"]:
    """Choose the prior variance of each term by the marginal likelihood, the noise variance profiled out.

    With ``K = I + F P F^T``, ``P`` the prior variances, and ``c`` independent columns ``Y`` the criterion is
    ``log det K / n + log tr(Y^T K^-1 Y)`` (Rasmussen and Williams 2006, equation 2.30). In weight space, with
    ``A = I + P^1/2 F^T F P^1/2``, ``det K = det A`` and ``K^-1 = I - F P^1/2 A^-1 P^1/2 F^T``: the cost grows
    linearly with ``n``. Its slope in the logarithm of the prior variance of one regression weight ``j`` is
    ``(1 - (A^-1)_jj) / n - |(A^-1 P^1/2 F^T Y)_j|² / tr(Y^T K^-1 Y)``. Many features of fewer rows are left as the
    covariances of the terms: the slope is then ``tr(K^-1 K_t) / n - tr(Y^T K^-1 K_t K^-1 Y) / tr(Y^T K^-1 Y)``.
    """
    if many_features(*design.shape):
        return _minimise(_of_rows(design, sizes, scores), len(sizes))
    return evidence_of_products(len(design), design.T @ design, design.T @ scores, scores.square().sum(), sizes)


def many_features(rows: int, features: int) -> bool:
    """Tell whether matrices as large as there are rows are the smaller ones, and it matters."""
    return features > max(rows, _MANY)


def evidence_of_products(
    n: int,
    gram: Float[Tensor, "p p"],
    onto: Float[Tensor, "p c"],
    total: Float[Tensor, ""],
    sizes: tuple[int, ...],
) -> Float[Tensor, "t"]:
    """Choose the same by products: of features, of features and scores, and all squared scores."""
    return _minimise(_of_features(n, gram, onto, total, sizes), len(sizes))


def _minimise(criterion: _Criterion, terms: int) -> Float[Tensor, "t"]:
    start, bounds = np.full(terms, -3.0), [_LOG_WEIGHT_BOUNDS] * terms
    found = scipy.optimize.minimize(criterion, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return torch.tensor(found.x).exp()


def _of_rows(design: Float[Tensor, "n p"], sizes: tuple[int, ...], scores: Float[Tensor, "n c"]) -> _Criterion:
    """The criterion by matrices as large as there are rows."""
    n = len(design)
    unit = column_prior(design, sizes, torch.ones(len(sizes), dtype=torch.float64))
    terms = [each @ each.T for each in (design * unit.sqrt()).split(sizes, dim=1)]
    eye, tiny = torch.eye(n, dtype=torch.float64), torch.finfo(torch.float64).tiny

    def criterion(at: np.ndarray) -> tuple[float, np.ndarray]:
        weighted = [math.exp(weight) * term for weight, term in zip(at, terms, strict=True)]
        chol = torch.linalg.cholesky(eye + torch.stack(weighted).sum(0))
        inverse, solved = torch.cholesky_inverse(chol), torch.cholesky_solve(scores, chol)
        rest = (scores * solved).sum().clamp(min=tiny)
        slope = [(inverse * each).sum() / n - (solved * (each @ solved)).sum() / rest for each in weighted]
        value = 2 * chol.diagonal().log().sum() / n + rest.log()
        return float(value), torch.stack(slope).numpy()

    return criterion


def _of_features(
    n: int,
    gram: Float[Tensor, "p p"],
    onto: Float[Tensor, "p c"],
    total: Float[Tensor, ""],
    sizes: tuple[int, ...],
) -> _Criterion:
    """The criterion by matrices as large as there are features."""
    p = len(gram)
    eye = torch.eye(p, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny
    unit = prior_of_squares(gram.diagonal() / n, sizes, torch.ones(len(sizes), dtype=torch.float64))
    term = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))

    def criterion(at: np.ndarray) -> tuple[float, np.ndarray]:
        root = (torch.from_numpy(at).exp()[term] * unit).sqrt()[:, None]
        chol = torch.linalg.cholesky(eye + root * gram * root.T)
        inverse = torch.cholesky_inverse(chol)
        scaled = inverse @ (root * onto)
        rest = (total - (root * onto * scaled).sum()).clamp(min=tiny)
        slope = (1 - inverse.diagonal()) / n - scaled.square().sum(1) / rest
        value = 2 * chol.diagonal().log().sum() / n + rest.log()
        return float(value), torch.zeros(len(sizes), dtype=torch.float64).index_add(0, term, slope).numpy()

    return criterion


def column_prior(
    design: Float[Tensor, "n p"], sizes: tuple[int, ...], weights: Float[Tensor, "t"]
) -> Float[Tensor, "p"]:
    """Spread the prior variance of each term over its regression weights."""
    return prior_of_squares(design.square().mean(0), sizes, weights)


def prior_of_squares(
    squares: Float[Tensor, "p"], sizes: tuple[int, ...], weights: Float[Tensor, "t"]
) -> Float[Tensor, "p"]:
    """Spread the same by the mean square of each feature.

    Features are near one by construction. Rounding must not pass for a feature, nor be divided by: where the data
    say nothing of a term, its prior variance is that of features of unit size.
    """
    means = torch.stack([block.sum() for block in squares.split(sizes)])
    each = weights / torch.where(means > _VANISHING, means, 1.0)
    return each.repeat_interleave(torch.tensor(sizes))
