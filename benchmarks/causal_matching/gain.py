"""What an experiment with a shift tells of the best shift: forms with gradients, to be made large on a sphere.

How far from a target mean a shift is expected to leave cells, and which shift leaves them nearest.
"""

from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from inverse_design.errors import PlanError


@dataclass(frozen=True)
class Prospect:
    """What is known when the next experiment is chosen, and what of it the experiment would tell.

    Attributes:
        now: What is known.
        later: What will be known from the experiments that are decided already.
        target: Wanted mean state.
    """

    now: EdgePosterior = field(repr=False)
    later: EdgePosterior = field(repr=False)
    target: Float[Tensor, "g"] = field(repr=False)

    @cached_property
    def aims(self) -> Float[Tensor, "c g"]:
        """Covariance of the edges into each gene with the shift that it needs."""
        return self.later.covariance @ self.target

    def explained(self, shift: Float[Tensor, "g"]) -> tuple[Float[Tensor, "c"], Float[Tensor, "c g"]]:
        """Tell what one experiment takes off the variance of each entry of the best shift.

        Args:
            shift: What is added to each gene.

        Returns:
            The variances, and their gradients in the expected state.
        """
        state = shift @ self.now.total
        seen = self.later.covariance @ state
        spread = self.later.noise**2 + seen @ state
        ratio = (self.aims @ state) / spread
        return ratio * (self.aims @ state), 2 * ratio[:, None] * self.aims - 2 * (ratio**2)[:, None] * seen


@dataclass(frozen=True)
class LossReduction:
    """By how much an experiment lowers the expected squared distance that the recommended shift leaves.

    The shift ``target (I - A)`` is missed by ``target (A - mean)``: one error for each gene, with variance
    ``target V_j target^T``, which :attr:`EdgePosterior.reach` carries to the outcome. A state ``m`` of one
    experiment takes ``(target V_j m)² / (noise² + m V_j m)`` off that variance. The reach is that of ``now``: what
    an experiment tells of the edges into a gene is independent of what that gene does to others, so that the
    product of expectations is exact. Only ``m`` is taken at its expectation.

    Attributes:
        prospect: What is known, and will be.
    """

    prospect: Prospect

    def __call__(self, shift: Float[Tensor, "g"]) -> tuple[float, Float[Tensor, "g"]]:
        """Value an experiment.

        Args:
            shift: What is added to each gene.

        Returns:
            The expected reduction, and its gradient.
        """
        now = self.prospect.now
        value, gradient = self.prospect.explained(shift)
        return float(now.reach @ value), torch.mv(now.total, now.reach @ gradient)

    def ideal(self) -> Float[Tensor, "g"]:
        """Find the direction that would be best if noise drowned every state.

        Returns:
            The leading eigenvector of the reduction for small shifts.
        """
        now = self.prospect.now
        seen = self.prospect.aims @ now.total.T
        vectors: Float[Tensor, "g g"] = torch.linalg.eigh(seen.T @ (now.reach[:, None] * seen)).eigenvectors
        return vectors[:, -1]


@dataclass(frozen=True)
class IntegratedVariance:
    """The integrated variance of Zhang et al. 2023, doi:10.1038/s42256-023-00719-0 (CIV, uniform measure).

    With ``d_j`` the variance of the ``j``-th entry of the best shift after an experiment, it is
    ``sum_j d_j (d_j + 2 (noise² + k_j² + 1 / g))``, where ``k`` is the best shift as expected now. It is to be
    small, so that its negative is given.

    Attributes:
        prospect: What is known, and will be.
    """

    prospect: Prospect

    def __call__(self, shift: Float[Tensor, "g"]) -> tuple[float, Float[Tensor, "g"]]:
        """Value an experiment.

        Args:
            shift: What is added to each gene.

        Returns:
            The negative of the integrated variance, and its gradient.
        """
        now, target = self.prospect.now, self.prospect.target
        explained, gradient = self.prospect.explained(shift)
        left = self.prospect.aims @ target - explained
        expected = target - target @ now.mean
        offset = now.noise**2 + expected.square() + 1 / len(shift)
        weight = 2 * (left + offset)
        return -float(left @ (left + 2 * offset)), now.total @ (weight @ gradient)


@dataclass(frozen=True)
class Optimism:
    """How near the target a shift might come: its distance as expected, less the error that its outcome may have.

    ``errors`` root mean square errors are taken off: by the triangle inequality no outcome that is off by no more
    comes nearer.

    Attributes:
        later: What will be known from the experiments that are decided already.
        target: Wanted mean state.
        errors: How many errors are taken off.
    """

    later: EdgePosterior = field(repr=False)
    target: Float[Tensor, "g"] = field(repr=False)
    errors: float = 1.0

    def __call__(self, shift: Float[Tensor, "g"]) -> tuple[float, Float[Tensor, "g"]]:
        """Value an experiment.

        Args:
            shift: What is added to each gene.

        Returns:
            The negative of the lower bound on the distance, and its gradient.
        """
        tiny = torch.finfo(torch.float64).tiny
        outcome = shift @ self.later.total
        gap = outcome - self.target
        blurred = self.later.risk @ outcome
        distance, error = gap.norm().clamp(min=tiny), (outcome @ blurred).clamp(min=tiny).sqrt()
        gradient = self.later.total @ (self.errors * blurred / error - gap / distance)
        return float(self.errors * error - distance), gradient


_HALVINGS = 80


def expected_distance(
    posterior: EdgePosterior, shifts: Float[Tensor, "b g"], target: Float[Tensor, "g"]
) -> Float[Tensor, "b"]:
    """Average the squared distance of the mean under a shift to the target over the posterior, exactly.

    It is the distance of the expected outcome, and what is not known of the outcome: see
    :attr:`benchmarks.causal_matching.edge_posterior.EdgePosterior.risk`.

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
