"""The second stage of the causal linear model: the full objective on the edges that the first stage found."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.models.causal_design import VIRTUAL, Regression

MOST_SPECTRAL_RADIUS = 0.97
_SQUARINGS = 7
_SETTLED = 1e-6
_PATIENCE = 3
_SMALLEST_STEP = 1e-7


def between_nodes(edges: Float[Tensor, "q g"], columns: Int[Tensor, "q"]) -> Float[Tensor, "q q"]:
    """Take the edges that end in a node.

    Args:
        edges: Edges from nodes to readouts.
        columns: The readout that each node is, ``-1`` for a virtual one, in which no edge ends.

    Returns:
        Edges from nodes to nodes.
    """
    return torch.where(columns != VIRTUAL, edges[:, columns.clamp(min=0)], 0.0)


def total_effects(edges: Float[Tensor, "q g"], columns: Int[Tensor, "q"]) -> Float[Tensor, "q g"]:
    """Sum over all walks from each node to each readout, that of no step included: ``(I - A)^-1``.

    Args:
        edges: Edges from nodes to readouts, of spectral radius below one.
        columns: The readout that each node is, ``-1`` for a virtual one.

    Returns:
        Effect of an input of one into each node.
    """
    unit = torch.eye(len(columns), dtype=edges.dtype)
    inverse: Float[Tensor, "q q"] = torch.linalg.inv(unit - between_nodes(edges, columns))
    real = columns != VIRTUAL
    effects = inverse @ edges
    effects[real.nonzero().flatten(), columns[real]] += 1
    return effects


def spectral_radius_bound(square: Float[Tensor, "q q"], *, enough: float = 0.0) -> float:
    """Bound the spectral radius from above by ``‖A^k‖^(1/k)``, ``k`` up to 128 [Gelfand 1941].

    Args:
        square: Edges from nodes to nodes.
        enough: Stop at the first power whose bound is below this.

    Returns:
        The bound; that of ``k = 128`` is a few per cent above the radius.
    """
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
    """Shrink edges so that their spectral radius keeps a bound.

    Args:
        edges: Edges from nodes to readouts.
        columns: The readout that each node is, ``-1`` for a virtual one.
        most: The bound.

    Returns:
        The edges, scaled down together if they were too strong.
    """
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

    Args:
        problem: What the edges must explain.
        strength: How strongly an input of one acts on each node.
        start: Edges of the first stage; where they are zero they stay so.
        penalty: Of each edge.
        steps: Most iterations.

    Returns:
        Edges whose objective is not above that of the stabilised start.
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
    objective: _Objective,
    here: _State,
    penalty: Float[Tensor, "q g"],
    support: Tensor,
    *,
    step: float,
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
