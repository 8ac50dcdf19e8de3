"""The first stage of the causal linear model: each readout's effects regressed on those of the sources."""

import warnings

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.models.causal_design import Regression

_TOLERANCE = 1e-3  # of the duality gap, relative to the square of the response
_SWEEPS = 500
_DESCENT = 10.0  # the path starts at this multiple of the penalty
_PATH = 5


def largest_penalty(problem: Regression, factors: Float[Tensor, "q g"]) -> float:
    """Find the smallest penalty at which there is no edge.

    Args:
        problem: What the edges must explain.
        factors: Relative penalty of each edge, positive.

    Returns:
        The penalty; zero if all effects are.
    """
    gradient = problem.values.T @ (problem.weights * problem.effects) / factors
    real = problem.real
    gradient[real, problem.columns[real]] = 0
    return float(gradient.abs().max())


def lasso_edges(
    problem: Regression, values: Float[Tensor, "n q"], penalty: float, factors: Float[Tensor, "q g"]
) -> Float[Tensor, "q g"]:
    """Minimise ``½ ‖W ∘ (X - Z A)‖² + penalty · ‖factors ∘ A‖₁`` over the edges ``A``.

    As the design is the only cause of variation, this is two-stage least squares with the design as instrument.
    The columns of ``A`` are independent problems, solved by coordinate descent on one Gram matrix, down a path of
    penalties on which each is started where the last one ended.

    Args:
        problem: What the edges must explain.
        values: Value ``Z`` of each node in each condition, as measured or freed of noise.
        penalty: Of an edge of factor one, positive.
        factors: Relative penalty of each edge, positive.

    Returns:
        Edges from nodes to readouts; none from a readout to itself.
    """
    z, effects, keep, scale = (each.numpy() for each in (values, problem.effects, problem.weights, factors))
    columns = problem.columns.numpy()
    moved = (z != 0).any(0)
    gram = z.T @ z
    edges = np.zeros(scale.shape)
    for response in range(effects.shape[1]):
        allowed = np.flatnonzero((columns != response) & moved)
        hit = keep[:, response] == 0
        own = gram[np.ix_(allowed, allowed)]
        if hit.any():
            left_out = z[np.ix_(hit, allowed)]
            own -= left_out.T @ left_out
        # Penalising b = factor * a alike for all edges penalises a by its factor.
        unit = scale[allowed, response]
        x = np.asfortranarray(z[np.ix_(~hit, allowed)] / unit)
        edges[allowed, response] = (
            _coefficients(x, effects[~hit, response], own / np.outer(unit, unit), penalty) / unit
        )
    return torch.from_numpy(edges)


def _coefficients(
    x: Float[np.ndarray, "n k"], y: Float[np.ndarray, "n"], gram: Float[np.ndarray, "k k"], penalty: float
) -> Float[np.ndarray, "k"]:
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - seconds to import, and only needed here
    from sklearn.linear_model import lasso_path  # noqa: PLC0415

    correlation = x.T @ y
    largest = float(np.abs(correlation).max(initial=0.0))
    if penalty >= largest:
        return np.zeros(x.shape[1])
    path = np.geomspace(max(penalty, min(_DESCENT * penalty, largest)), penalty, _PATH)
    with warnings.catch_warnings():  # what is not quite settled is refined in the second stage anyway
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, found, _ = lasso_path(
            x,
            y,
            alphas=path / len(y),
            precompute=np.ascontiguousarray(gram),
            Xy=correlation,
            tol=_TOLERANCE,
            max_iter=_SWEEPS,
            check_input=False,
        )
    return np.asarray(found[:, -1])
