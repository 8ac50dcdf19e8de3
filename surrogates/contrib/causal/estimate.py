"""Edges of a causal linear model at given penalties, and what they predict.

In the first stage a lasso regresses each readout's effects on those of the sources; in the second the full
objective is minimised on the edges that the first has found.
"""

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.contrib.causal.design import VIRTUAL, Regression

_TOLERANCE = 1e-3  # of the duality gap, relative to the square of the response
_SWEEPS = 500
_DESCENT = 10.0  # the path starts at this multiple of the penalty
_PATH = 5


def largest_penalty(problem: Regression) -> float:
    """Find the smallest penalty at which there is no edge."""
    gradient = problem.values.T @ (problem.weights * problem.passed_on)
    real = problem.real
    gradient[real, problem.columns[real]] = 0
    return float(gradient.abs().max())


def lasso_edges(problem: Regression, values: Float[Tensor, "n q"], penalty: float) -> Float[Tensor, "q g"]:
    """Minimise ``½ ‖W ∘ (X - Z A)‖² + penalty · ‖A‖₁`` over the edges ``A``.

    As the design is the only cause of variation, this is two-stage least squares with the design as instrument.
    The columns of ``A`` are independent problems, solved by coordinate descent on one Gram matrix, down a path of
    penalties on which each is started where the last one ended.
    """
    z, effects, keep = (each.numpy() for each in (values, problem.passed_on, problem.weights))
    columns = problem.columns.numpy()
    moved = (z != 0).any(0)
    gram = z.T @ z
    edges = np.zeros((z.shape[1], effects.shape[1]))
    for response in range(effects.shape[1]):
        open_to = columns != response if problem.allowed is None else problem.allowed[:, response].numpy()
        allowed = np.flatnonzero(open_to & (columns != response) & moved)
        hit = keep[:, response] == 0
        own = gram[np.ix_(allowed, allowed)]
        if hit.any():
            left_out = z[np.ix_(hit, allowed)]
            own -= left_out.T @ left_out
        x = np.asfortranarray(z[np.ix_(~hit, allowed)])
        edges[allowed, response] = _coefficients(x, effects[~hit, response], own, penalty)
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


MOST_SPECTRAL_RADIUS = 0.97
_SQUARINGS = 7
_SETTLED = 1e-6
_PATIENCE = 3
_SMALLEST_STEP = 1e-7


def between_nodes(edges: Float[Tensor, "q g"], columns: Int[Tensor, "q"]) -> Float[Tensor, "q q"]:
    """Take the edges that end in a node."""
    return torch.where(columns != VIRTUAL, edges[:, columns.clamp(min=0)], 0.0)


def total_effects(edges: Float[Tensor, "q g"], columns: Int[Tensor, "q"]) -> Float[Tensor, "q g"]:
    """Sum over all walks from each node to each readout, that of no step included: ``(I - A)^-1``."""
    unit = torch.eye(len(columns), dtype=edges.dtype)
    inverse: Float[Tensor, "q q"] = torch.linalg.inv(unit - between_nodes(edges, columns))
    real = columns != VIRTUAL
    effects = inverse @ edges
    effects[real.nonzero().flatten(), columns[real]] += 1
    return effects


def spectral_radius_bound(square: Float[Tensor, "q q"], *, enough: float = 0.0) -> float:
    """Bound the spectral radius from above by ``‖A^k‖^(1/k)``, ``k`` up to 128 [Gelfand 1941]."""
    power, log_bound = square, 0.0
    for doubling in range(_SQUARINGS + 1):
        norm = float(power.norm())
        if norm == 0:
            return 0.0
        log_bound += math.log(norm) / 2**doubling
        if math.exp(log_bound) < enough or doubling == _SQUARINGS:
            break
        power = power / norm
        power = power @ power
    return math.exp(log_bound)


def stabilised(edges: Float[Tensor, "q g"], columns: Int[Tensor, "q"], most: float) -> Float[Tensor, "q g"]:
    """Shrink edges so that their spectral radius keeps a bound."""
    return edges * min(1.0, most / max(spectral_radius_bound(between_nodes(edges, columns)), 1e-12))


@dataclass(frozen=True)
class _State:
    """Value and derivatives of the squared error at some edges."""

    edges: Float[Tensor, "q g"]
    error: float
    gradient: Float[Tensor, "q g"]
    metric: Float[Tensor, "q g"]


@dataclass(frozen=True)
class _Objective:
    """Half the squared error of ``(inputs ∘ strength) (I - A)^-1`` on the measured effects."""

    effects: Float[Tensor, "n g"]
    weights: Float[Tensor, "n g"]
    inputs: Float[Tensor, "n q"]
    columns: Int[Tensor, "q"]

    def at(self, edges: Float[Tensor, "q g"]) -> _State:
        real = self.columns != VIRTUAL
        unit = torch.eye(len(self.columns), dtype=edges.dtype)
        # Extrapolated edges can be unstable, even singular: the numbers are then not finite, and no step is taken.
        inverse = torch.linalg.inv_ex(unit - between_nodes(edges, self.columns)).inverse
        nodes = self.inputs @ inverse
        predicted = nodes @ edges
        predicted[:, self.columns[real]] += self.inputs[:, real]
        misfit = self.weights * (predicted - self.effects)
        # d predicted = nodes dA + (nodes dA)_nodes inverse A, hence the second term for readouts that are nodes
        passed_on = misfit @ edges.T @ inverse.T
        total = misfit.clone()
        total[:, self.columns[real]] += passed_on[:, real]
        reach = torch.ones(edges.shape[1], dtype=edges.dtype)
        reach[self.columns[real]] += (inverse @ edges).square().sum(1)[real]
        power = nodes.square().sum(0)
        metric = (power + 1e-3 * power.max())[:, None] * reach
        return _State(edges, float(misfit.square().sum()) / 2, nodes.T @ total, metric)


def refine(
    problem: Regression,
    strength: Float[Tensor, "q"],
    start: Float[Tensor, "q g"],
    penalty: Float[Tensor, "q g"],
    *,
    steps: int,
) -> Float[Tensor, "q g"]:
    """Minimise ``½ ‖W ∘ (M (I - A)^-1 - X)‖² + ‖penalty ∘ A‖₁`` over the edges that are present at the start.

    Accelerated proximal gradient in a diagonal metric, with backtracking, which also keeps the spectral radius
    below :data:`MOST_SPECTRAL_RADIUS`; the momentum is dropped when the objective rises. In single precision, as
    penalties make digits beyond it meaningless.
    """
    effects, weights, inputs, start, penalty = (
        each.to(torch.float32)
        for each in (problem.effects, problem.weights, problem.inputs * strength, start, penalty)
    )
    objective = _Objective(effects, weights, inputs, problem.columns)
    support = start != 0
    if not bool(support.any()):
        return torch.zeros_like(start, dtype=torch.float64)
    edges = stabilised(start, problem.columns, MOST_SPECTRAL_RADIUS - 0.02)
    best = objective.at(edges)
    value = best.error + float((penalty * edges.abs()).sum())
    here, step, momentum, settled = best, 1.0, 1.0, 0
    for _ in range(steps):
        found, step = _descend(objective, here, penalty * support, support, step=step)
        new = value if found is None else found.error + float((penalty * found.edges.abs()).sum())
        if found is None or new > value:
            if here is best:
                break
            here, momentum = best, 1.0
            continue
        settled = settled + 1 if value - new < _SETTLED * value else 0
        following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = found.edges + (momentum - 1) / following * (found.edges - best.edges)
        best, value, momentum = found, new, following
        if settled >= _PATIENCE:
            break
        here, step = objective.at(ahead), 1.2 * step
    return best.edges.to(torch.float64)


def _descend(
    objective: _Objective, here: _State, penalty: Float[Tensor, "q g"], support: Tensor, *, step: float
) -> tuple[_State | None, float]:
    """Take one proximal step, as long as the quadratic bound and the spectral radius allow."""
    while step > _SMALLEST_STEP:
        length = step / here.metric
        moved = here.edges - length * here.gradient
        moved = moved.sign() * (moved.abs() - length * penalty).clamp(min=0) * support
        square = between_nodes(moved, objective.columns)
        if spectral_radius_bound(square, enough=MOST_SPECTRAL_RADIUS) < MOST_SPECTRAL_RADIUS:
            found, change = objective.at(moved), moved - here.edges
            bound = here.error + float((here.gradient * change).sum() + (change.square() / length).sum() / 2)
            if found.error <= bound + 1e-6 * here.error:
                return found, step
        step /= 2
    return None, 1.0


_KNEE = 0.05  # an edge of this size is penalised half as much as one that vanishes


@dataclass(frozen=True)
class Estimate:
    """Edges and strengths estimated from one set of conditions."""

    edges: Float[Tensor, "q g"]  # from nodes to readouts
    strength: Float[Tensor, "q"]  # how strongly an input of one acts on each node
    responses: Float[Tensor, "q g"]  # effect of an input of one into each node

    @classmethod
    def of(cls, problem: Regression, edges: Float[Tensor, "q g"]) -> "Estimate":
        """Complete edges with strengths and responses."""
        stable = stabilised(edges, problem.columns, MOST_SPECTRAL_RADIUS)
        strength = problem.strengths(stable)
        return cls(stable, strength, strength[:, None] * total_effects(stable, problem.columns))

    def node_values(self, problem: Regression) -> Float[Tensor, "n q"]:
        """Predict the value of each node."""
        return replace(problem, effects=problem.inputs @ self.responses).values

    def residual_responses(self, problem: Regression) -> Float[Tensor, "q g"]:
        """Fit by least squares what the edges leave unexplained."""
        left = problem.effects - problem.inputs @ self.responses
        solution: Float[Tensor, "q g"] = torch.linalg.lstsq(problem.inputs, left, driver="gelsd").solution
        return solution


@dataclass(frozen=True)
class Penalty:
    """How strongly edges are penalised, and how long their objective is minimised."""

    size: float  # of an edge in the lasso; and in the full objective, if the lasso has removed it
    idle: float  # weight of a pseudo-condition, see :meth:`Regression.with_idle_conditions`
    steps: int  # most iterations of the full objective

    def estimate(self, problem: Regression) -> Estimate:
        """Estimate edges by lasso and full objective, and again with the node values that these predict.

        Measurement noise in the regressors attenuates the edges of the first lasso and hides weak sources; the
        second one regresses the measured readouts on fitted values, which are nearly free of it.
        """
        widened = problem.with_idle_conditions(self.idle)
        estimate = self._refined(problem, widened, widened.values)
        return self._refined(problem, widened, estimate.node_values(widened))

    def _refined(self, problem: Regression, widened: Regression, values: Float[Tensor, "n q"]) -> Estimate:
        """Run both stages, the second with penalties that are small for edges that were strong [Zou 2006]."""
        start = Estimate.of(problem, lasso_edges(widened, values, self.size))
        # Edges between readouts have no unit; those of a virtual node have that of the effects.
        knee = _KNEE * torch.where(problem.real, 1.0, problem.effects.square().mean().sqrt())[:, None]
        penalty = self.size * knee / (start.edges.abs() + knee)
        return Estimate.of(problem, refine(widened, start.strength, start.edges, penalty, steps=self.steps))
