"""How far from a target mean a shift is expected to leave cells, and which shift leaves them nearest."""

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.errors import PlanError
from surrogates.models.edge_posterior import EdgePosterior

_HALVINGS = 80


def expected_distance(
    posterior: EdgePosterior, shifts: Float[Tensor, "b g"], target: Float[Tensor, "g"]
) -> Float[Tensor, "b"]:
    """Average the squared distance of the mean under a shift to the target over the posterior, exactly.

    It is the distance of the expected outcome, and what is not known of the outcome: see
    :attr:`surrogates.models.edge_posterior.EdgePosterior.risk`.

    Args:
        posterior: What is known of the edges.
        shifts: What would be added to each gene.
        target: Wanted mean state.

    Returns:
        Expected squared distances.
    """
    outcome = shifts @ posterior.total
    return (outcome - target).square().sum(1) + ((outcome @ posterior.risk) * outcome).sum(1)


def best_shift(posterior: EdgePosterior, target: Float[Tensor, "g"], *, budget: float) -> Float[Tensor, "g"]:
    """Find the shift of the least expected squared distance among those that are not too long.

    Args:
        posterior: What is known of the edges.
        target: Wanted mean state.
        budget: Largest Euclidean norm of a shift.

    Returns:
        The shift. What is not known holds it back: it is shorter than that which the expected edges ask for.

    Raises:
        PlanError: If the budget is not positive.
    """
    total = posterior.total
    unit = torch.eye(len(target), dtype=torch.float64)
    return _within(total @ (unit + posterior.risk) @ total.T, total @ target, budget)


def plug_in_shift(posterior: EdgePosterior, target: Float[Tensor, "g"], *, budget: float) -> Float[Tensor, "g"]:
    """Find the shift that would be best if the expected edges were true, among those that are not too long.

    Args:
        posterior: What is known of the edges; how sure it is does not matter.
        target: Wanted mean state.
        budget: Largest Euclidean norm of a shift.

    Returns:
        The shift; ``target (I - mean)`` if that is short enough.

    Raises:
        PlanError: If the budget is not positive.
    """
    total = posterior.total
    return _within(total @ total.T, total @ target, budget)


def _within(curvature: Float[Tensor, "g g"], slope: Float[Tensor, "g"], budget: float) -> Float[Tensor, "g"]:
    """Minimise ``a curvature a^T - 2 slope a^T`` over a ball, by the secular equation of a trust region."""
    if budget <= 0:
        raise PlanError(f"a budget of {budget:g} allows no shift; give a positive norm")
    values, vectors = torch.linalg.eigh(curvature)
    along = vectors.T @ slope

    def solution(penalty: float) -> Float[Tensor, "g"]:
        return torch.mv(vectors, along / (values + penalty))

    if float(solution(0.0).norm()) <= budget:
        return solution(0.0)
    # The norm falls with the penalty, and is within the budget at this one.
    low, high = 0.0, float(along.norm()) / budget
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(solution(middle).norm()) > budget else (low, middle)
    return solution(high)
