"""A Gaussian process over pairs of genes, whose mean over all pairs is a few matrix products."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.campaign.policies.pair_terms import PairTerm

_WIDE = 10.0  # prior variance of the coefficients of the curve, in units of the observed variance
_FIRST_WEIGHT, _FIRST_NOISE = 0.05, 0.1
_STEPS = 40
_JITTER = 1e-5


@dataclass(frozen=True)
class PairProcess:
    """What is believed of the utility of every pair.

    With ``z`` what genes do alone, in standard units, and ``y`` the utility, in standard units of what is known,

        y_ij = b0 + b1 (z_i + z_j) + b2 z_i z_j + b3 (z_i² + z_j²) + sum_c f_c(i, j) + e_ij
        e_ij ~ N(0, s² exp(a max(z_i, z_j) + c (z_i + z_j)))

    where each ``f_c`` is a Gaussian process with the kernel of one term.

    Attributes:
        mean: Expected utility of each pair of genes.
        alone: What each gene does alone, in standard units.
        terms: Of the kernel.
        pairs: What was observed.
        root: Lower Cholesky factor of the covariance of the observations.
        logs: Logarithms of the weights of the terms and of ``s²``, then ``a`` and ``c``.
        scale: Standard deviation of the observed utilities.
    """

    mean: Float[Tensor, "v v"]
    alone: Float[Tensor, "v"]
    terms: tuple[PairTerm, ...]
    pairs: Int[Tensor, "m 2"]
    root: Float[Tensor, "m m"]
    logs: Float[Tensor, "h"]
    scale: float

    def variance(self, pairs: Int[Tensor, "b 2"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Say how uncertain the utility of some pairs is.

        Args:
            pairs: Genes of each pair.

        Returns:
            Variance of the true utility, and that which a measurement adds.
        """
        curve, observed = _curve(self.alone, pairs), _curve(self.alone, self.pairs)
        between = _WIDE * curve @ observed.T
        prior = _WIDE * curve.square().sum(1)
        for weight, term in zip(self.logs.exp(), self.terms, strict=False):
            between = between + weight * term.between(pairs, self.pairs)
            prior = prior + weight * term.alone(pairs)
        explained = torch.linalg.solve_triangular(self.root, between.T, upper=False).square().sum(0)
        latent = (prior - explained).clamp(min=0)
        return latent * self.scale**2, _noise(self.logs, self.alone, pairs) * self.scale**2


def fit_pair_process(
    terms: Sequence[PairTerm],
    alone: Float[Tensor, "v"],
    pairs: Int[Tensor, "m 2"],
    utility: Float[Tensor, "m"],
) -> PairProcess:
    """Fit the weights of all parts by marginal likelihood, with weak priors on their logarithms.

    Args:
        terms: Of the kernel.
        alone: What each gene does alone, in standard units.
        pairs: Genes of the observed pairs.
        utility: What was observed; at least two values that differ.

    Returns:
        The process.
    """
    centre, scale = float(utility.mean()), float(utility.std().clamp(min=1e-12))
    standard = (utility - centre) / scale
    curve = _curve(alone, pairs)
    parts = torch.stack([term.between(pairs, pairs) for term in terms])
    logs = _most_likely(curve, parts, standard, alone, pairs)
    root = torch.linalg.cholesky(_covariance(logs, curve, parts, alone, pairs))
    solved = torch.cholesky_solve(standard[:, None], root)[:, 0]
    weights = torch.zeros(len(alone), len(alone), dtype=torch.float64)
    weights.index_put_((pairs[:, 0], pairs[:, 1]), solved, accumulate=True)
    weights = weights + weights.T
    mean = _surface(alone, _WIDE * (curve.T @ solved))
    for weight, term in zip(logs.exp(), terms, strict=False):
        mean = mean + weight * term.spread(weights)
    return PairProcess(centre + scale * mean, alone, tuple(terms), pairs, root, logs, scale)


def _curve(alone: Float[Tensor, "v"], pairs: Int[Tensor, "b 2"]) -> Float[Tensor, "b 4"]:
    one, other = alone[pairs[:, 0]], alone[pairs[:, 1]]
    return torch.stack([torch.ones_like(one), one + other, one * other, one.square() + other.square()], 1)


def _surface(alone: Float[Tensor, "v"], coefficients: Float[Tensor, "4"]) -> Float[Tensor, "v v"]:
    one, other = alone[:, None], alone[None]
    level, slope, product, square = coefficients
    bends = product * one * other + square * (one.square() + other.square())
    surface: Tensor = level + slope * (one + other) + bends
    return surface


def _noise(logs: Float[Tensor, "h"], alone: Float[Tensor, "v"], pairs: Int[Tensor, "b 2"]) -> Float[Tensor, "b"]:
    values = alone[pairs]
    noise: Tensor = (logs[-3] + logs[-2] * values.amax(1) + logs[-1] * values.sum(1)).exp()
    return noise


def _covariance(
    logs: Float[Tensor, "h"],
    curve: Float[Tensor, "m 4"],
    parts: Float[Tensor, "c m m"],
    alone: Float[Tensor, "v"],
    pairs: Int[Tensor, "m 2"],
) -> Float[Tensor, "m m"]:
    signal = torch.einsum("c,cij->ij", logs[: len(parts)].exp(), parts)
    return _WIDE * curve @ curve.T + signal + torch.diag(_noise(logs, alone, pairs) + _JITTER)


def _most_likely(
    curve: Float[Tensor, "m 4"],
    parts: Float[Tensor, "c m m"],
    standard: Float[Tensor, "m"],
    alone: Float[Tensor, "v"],
    pairs: Int[Tensor, "m 2"],
) -> Float[Tensor, "h"]:
    """Maximise the marginal likelihood; weights are within a factor of 400 of a tenth, slopes within one."""
    first = [math.log(_FIRST_WEIGHT)] * len(parts) + [math.log(_FIRST_NOISE), 0.0, 0.0]
    logs = torch.tensor(first, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([logs], lr=0.5, max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimiser.zero_grad()
        root = torch.linalg.cholesky(_covariance(logs, curve, parts, alone, pairs))
        misfit = torch.linalg.solve_triangular(root, standard[:, None], upper=False).square().sum() / 2
        prior = ((logs[:-2] - math.log(0.1)) / 3).square().sum() / 2 + (logs[-2:] / 0.5).square().sum() / 2
        value: Tensor = misfit + root.diagonal().log().sum() + prior
        value.backward()
        return value

    optimiser.step(loss)
    return logs.detach()
