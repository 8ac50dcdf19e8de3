"""A Gaussian process over pairs of genes, and its fit to those that were measured.

Its kernel is a sum of terms, each of two matrices over genes: its mean over all pairs is a few matrix products,
and so is the covariance of all measured pairs times a vector. The equations of a large fit are therefore solved by
conjugate gradients, without a matrix over pairs; where there is hardly any noise these do not end, and some of the
pairs are enough.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PairTerm:
    """A kernel over unordered pairs, the symmetric product of two kernels over genes.

    ``k((i, j), (k, l)) = (P_ik Q_jl + P_il Q_jk + P_jk Q_il + P_jl Q_ik) / 2``
    """

    first: Float[Tensor, "v v"]  # kernel ``P`` over genes
    second: Float[Tensor, "v v"]  # kernel ``Q`` over genes

    def between(self, pairs: Int[Tensor, "b 2"], others: Int[Tensor, "m 2"]) -> Float[Tensor, "b m"]:
        """Compare pairs with others."""
        i, j = pairs.T
        k, l = others.T  # noqa: E741 - the letters of the equation
        first, second = self.first, self.second
        one = first[i][:, k] * second[j][:, l] + first[i][:, l] * second[j][:, k]
        return (one + first[j][:, k] * second[i][:, l] + first[j][:, l] * second[i][:, k]) / 2

    def alone(self, pairs: Int[Tensor, "b 2"]) -> Float[Tensor, "b"]:
        """Compare each pair with itself."""
        i, j = pairs.T
        first, second = self.first, self.second
        straight = first[i, i] * second[j, j] + first[j, j] * second[i, i]
        return (straight + 2 * first[i, j] * second[i, j]) / 2

    def spread(self, weights: Float[Tensor, "v v"]) -> Float[Tensor, "v v"]:
        """Sum the kernel over weighted pairs, for all pairs at once: two matrix products."""
        product = self.first @ weights @ self.second
        return (product + product.T) / 2


def pair_terms(alone: Float[Tensor, "v"], *, length: float) -> tuple[PairTerm, ...]:
    """Make the kernel, of pairs with a gene in common and of pairs whose genes do alike alone."""
    same = torch.eye(len(alone), dtype=torch.float64)
    near = (-((alone[:, None] - alone) / length).square() / 2).exp()
    return PairTerm(same, torch.ones_like(same)), PairTerm(same, near), PairTerm(near, near)


MOST_COMPARED = 1000  # measured pairs of which each is compared with each, which takes the cube of their number
_WIDE = 10.0  # prior variance of the coefficients of the curve, in units of the observed variance
_FIRST_WEIGHT, _FIRST_NOISE = 0.05, 0.1
_STEPS = 40
_JITTER = 1e-5
_SOLVED = 1e-10  # of the length of the right-hand side that may be left
_MOST_ROUNDS = 500  # of conjugate gradients; 50 are usual
_TELLING = 100  # rounds after which what is left must have shrunk as it has to, to be solved in the most


@dataclass(frozen=True)
class PairProcess:
    """The posterior of the utility of every pair.

    With ``z`` what genes do alone, in standard units, and ``y`` the utility, in standard units of what is known,

        y_ij = b0 + b1 (z_i + z_j) + b2 z_i z_j + b3 (z_i² + z_j²) + sum_c f_c(i, j) + e_ij
        e_ij ~ N(0, s² exp(a max(z_i, z_j) + c (z_i + z_j)))

    where each ``f_c`` is a Gaussian process with the kernel of one term.
    """

    mean: Float[Tensor, "v v"]  # expected utility of each pair of genes
    alone: Float[Tensor, "v"]  # what each gene does alone, in standard units
    terms: tuple[PairTerm, ...]  # of the kernel
    pairs: Int[Tensor, "m 2"]  # what was observed, at most ``MOST_COMPARED``: of more, some that were drawn
    root: Float[Tensor, "m m"]  # lower Cholesky factor of their covariance
    logs: Float[Tensor, "h"]  # logarithms of the weights of the terms and of ``s²``, then ``a`` and ``c``
    scale: float  # standard deviation of the observed utilities
    behind: int  # how many observations the mean rests on

    def variance(self, pairs: Int[Tensor, "b 2"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Say how uncertain the utility of some pairs is; with some of the observations left out, at most."""
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
    terms: Sequence[PairTerm], alone: Float[Tensor, "v"], pairs: Int[Tensor, "m 2"], utility: Float[Tensor, "m"]
) -> PairProcess:
    """Fit the weights of all parts by marginal likelihood, with weak priors on their logarithms.

    The mean rests on all pairs, if their equations can be solved. Weights and variances, and else the mean, rest
    on ``MOST_COMPARED`` of them, drawn at random.
    """
    centre, scale = float(utility.mean()), float(utility.std().clamp(min=1e-12))
    standard = (utility - centre) / scale
    some = torch.arange(len(pairs))
    if len(pairs) > MOST_COMPARED:
        drawn = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(len(pairs)))
        some = drawn[:MOST_COMPARED].sort().values
    compared = pairs[some]
    curve = _curve(alone, compared)
    parts = torch.stack([term.between(compared, compared) for term in terms])
    logs = _most_likely(curve, parts, standard[some], alone, compared)
    root = torch.linalg.cholesky(_covariance(logs, curve, parts, alone, compared))
    solved = None if len(some) == len(pairs) else solve_all(terms, logs, alone, pairs, standard)
    if solved is None:
        pairs, solved = compared, torch.cholesky_solve(standard[some, None], root)[:, 0]
    mean = _surface(alone, _WIDE * (_curve(alone, pairs).T @ solved)) + _spread(terms, logs, pairs, solved)
    return PairProcess(centre + scale * mean, alone, tuple(terms), compared, root, logs, scale, len(pairs))


def _spread(
    terms: Sequence[PairTerm], logs: Float[Tensor, "h"], pairs: Int[Tensor, "m 2"], solved: Float[Tensor, "m"]
) -> Float[Tensor, "v v"]:
    """Sum the kernel over weighted pairs, for all pairs at once."""
    weights = torch.zeros_like(terms[0].first)
    weights.index_put_((pairs[:, 0], pairs[:, 1]), solved, accumulate=True)
    weights = weights + weights.T
    parts = [weight * term.spread(weights) for weight, term in zip(logs.exp(), terms, strict=False)]
    return torch.stack(parts).sum(0)


def solve_all(
    terms: Sequence[PairTerm],
    logs: Float[Tensor, "h"],
    alone: Float[Tensor, "v"],
    pairs: Int[Tensor, "m 2"],
    standard: Float[Tensor, "m"],
) -> Float[Tensor, "m"] | None:
    """Divide observations by their covariance, by conjugate gradients, unless these take too many rounds.

    What precedes each step is the inverse of all but the kernel: noise, and the curve, whose wide prior would take
    most rounds.
    """
    curve, noise = _curve(alone, pairs), _noise(logs, alone, pairs) + _JITTER
    inner = torch.eye(curve.shape[1], dtype=torch.float64) / _WIDE + curve.T @ (curve / noise[:, None])

    def times(x: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
        spread = _spread(terms, logs, pairs, x)
        return noise * x + _WIDE * curve @ (curve.T @ x) + spread[pairs[:, 0], pairs[:, 1]]

    def nearly(x: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
        near = x / noise
        left: Tensor = near - curve @ torch.linalg.solve(inner, curve.T @ near) / noise
        return left

    return _conjugate_gradients(times, nearly, standard)


def _conjugate_gradients(
    times: Callable[[Tensor], Tensor], nearly: Callable[[Tensor], Tensor], right: Float[Tensor, "m"]
) -> Float[Tensor, "m"] | None:
    """Solve ``times(x) = right``, for ``times`` positive and ``nearly`` about its inverse, if rounds suffice."""
    from scipy.sparse.linalg import LinearOperator, cg  # noqa: PLC0415 - of many measured pairs only

    shape = (len(right), len(right))
    one, other = (
        LinearOperator(shape, lambda x, of=of: of(torch.from_numpy(x)).numpy(), dtype=np.float64)
        for of in (times, nearly)
    )
    rounds, enough = count(1), _SOLVED ** (_TELLING / _MOST_ROUNDS) * float(right.norm())

    def on_its_way(x: Float[np.ndarray, "m"]) -> None:
        if next(rounds) == _TELLING and float((right - times(torch.from_numpy(x))).norm()) > enough:
            raise _TooSlowError

    try:
        found, unsolved = cg(one, right.numpy(), rtol=_SOLVED, maxiter=_MOST_ROUNDS, M=other, callback=on_its_way)
    except _TooSlowError:
        return None
    return None if unsolved else torch.from_numpy(found)


class _TooSlowError(Exception):
    """Conjugate gradients will not end in time."""


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

    def criterion(found: Float[np.ndarray, "h"]) -> tuple[float, Float[np.ndarray, "h"]]:
        logs = torch.from_numpy(found).requires_grad_()
        root = torch.linalg.cholesky(_covariance(logs, curve, parts, alone, pairs))
        misfit = torch.linalg.solve_triangular(root, standard[:, None], upper=False).square().sum() / 2
        prior = ((logs[:-2] - math.log(0.1)) / 3).square().sum() / 2 + (logs[-2:] / 0.5).square().sum() / 2
        value = misfit + root.diagonal().log().sum() + prior
        return value.item(), torch.autograd.grad(value, logs)[0].numpy()

    start = [math.log(_FIRST_WEIGHT)] * len(parts) + [math.log(_FIRST_NOISE), 0.0, 0.0]
    found = scipy.optimize.minimize(criterion, start, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
    return torch.from_numpy(found.x)
