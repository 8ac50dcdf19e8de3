"""Policies that choose shifts: at random, as if all were known, by hope, by doubt, by what they will tell.

Maxima of smooth functions on a sphere: shifts that spend a whole budget.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from benchmarks.causal_matching.environment import ShiftProblem, Tried
from benchmarks.causal_matching.gain import IntegratedVariance, LossReduction, Optimism, Prospect
from inverse_design.errors import PlanError

Slope = Callable[[Float[Tensor, "g"]], tuple[float, Float[Tensor, "g"]]]
_STEPS = 60


def maximise_on_sphere(slope: Slope, starts: Sequence[Float[Tensor, "g"]], *, radius: float) -> Float[Tensor, "g"]:
    """Climb from several starts by L-BFGS, and keep the highest end.

    Args:
        slope: From a point on the sphere to the value and its gradient in space.
        starts: Directions to begin with; those without length are left out.
        radius: Of the sphere.

    Returns:
        The best point that was found: a local maximum.

    Raises:
        PlanError: If no start has a direction.
    """

    def downhill(free: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        vector = torch.from_numpy(free)
        length = vector.norm()
        direction = vector / length
        value, gradient = slope(radius * direction)
        along = radius * (gradient - direction * (direction @ gradient)) / length
        return -value, -along.numpy()

    ends = []
    for start in starts:
        if float(start.norm()) > 0:
            found = minimize(
                downhill, (start / start.norm()).numpy(), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
            )
            ends.append((float(found.fun), torch.from_numpy(np.array(found.x))))
    if not ends:
        raise PlanError(f"none of {len(starts)} start(s) has a direction; give a vector that is not zero")
    best = min(ends, key=lambda end: end[0])[1]
    return torch.mul(best, radius / best.norm())


_Shift = Float[Tensor, "g"]
_Pick = Callable[[EdgePosterior, int], _Shift]


@dataclass(frozen=True)
class RandomShift:
    """Random directions, each with the whole budget."""

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> Float[Tensor, "q g"]:
        """Draw shifts.

        Args:
            problem: How many genes, and the budget.
            tried: Not used, by design.
            count: How many.
            seed: Fixes them.

        Returns:
            The shifts.
        """
        del tried
        return problem.budget * _directions(count, len(problem.target), seed)


@dataclass(frozen=True)
class GreedyShift:
    """The shift that would be best if the expected edges were true, in every experiment of the round."""

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> Float[Tensor, "q g"]:
        """Repeat the best guess.

        Args:
            problem: What is known from the start.
            tried: What was measured since.
            count: How many times.
            seed: Not used: nothing is random.

        Returns:
            The shifts.
        """
        del seed
        return problem.plug_in(problem.believe(tried)).expand(count, -1).clone()


@dataclass(frozen=True)
class UpperBoundShift:
    """The shift that may come nearest the target: upper confidence bound on the utility, here minus the distance.

    Attributes:
        errors: How many root mean square errors of the outcome are hoped for.
    """

    errors: float = 1.0

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> Float[Tensor, "q g"]:
        """Choose hopefully, one experiment after another.

        Args:
            problem: What is known from the start.
            tried: What was measured since.
            count: How many.
            seed: Not used: nothing is random.

        Returns:
            The shifts, each of the whole budget.
        """
        del seed
        now = problem.believe(tried)
        guess = problem.plug_in(now)
        return _one_by_one(
            now,
            count,
            lambda later, _: _climb(
                Optimism(later, problem.target, self.errors), [guess, _least_known(later)], problem
            ),
        )


@dataclass(frozen=True)
class MaximalVarianceShift:
    """The shift of which the outcome is least known: the largest expected squared error of the predicted mean."""

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> Float[Tensor, "q g"]:
        """Choose by doubt, one experiment after another.

        Args:
            problem: What is known from the start.
            tried: What was measured since.
            count: How many.
            seed: Not used: nothing is random.

        Returns:
            The shifts, each of the whole budget.
        """
        del seed
        return _one_by_one(problem.believe(tried), count, lambda later, _: problem.budget * _least_known(later))


@dataclass(frozen=True)
class IntegratedVarianceShift:
    """The shift after which the integrated variance of the best shift is least, as published (CIV)."""

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> Float[Tensor, "q g"]:
        """Choose by what will be known, one experiment after another.

        Args:
            problem: What is known from the start.
            tried: What was measured since.
            count: How many.
            seed: Fixes where the search starts.

        Returns:
            The shifts, each of the whole budget.
        """
        now = problem.believe(tried)
        return _one_by_one(now, count, _telling(IntegratedVariance, problem, now, count, seed=seed))


@dataclass(frozen=True)
class ForesightShift:
    """The round after which the recommended shift is expected to leave the least squared distance.

    The experiments of a round are chosen one after another, each as if the states of those before it had been as
    expected. What the noise of the genes will tell, whatever the shifts are, is counted first.
    """

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> Float[Tensor, "q g"]:
        """Choose what will tell most of the best shift, one experiment after another.

        Args:
            problem: What is known from the start.
            tried: What was measured since.
            count: How many.
            seed: Fixes where the search starts.

        Returns:
            The shifts, each of the whole budget.
        """
        now = problem.believe(tried)
        heard = now.foresee(count * now.noise**2 * now.total.T @ now.total)
        pick = _telling(LossReduction, problem, now, count, seed=seed)
        return _one_by_one(heard, count, pick, noise=0.0)


def _one_by_one(
    later: EdgePosterior, count: int, pick: _Pick, *, noise: float | None = None
) -> Float[Tensor, "q g"]:
    """Choose each experiment as if those before it had been done, and their states were as expected.

    What the noise of each will tell is counted with it, unless it has been counted before: then ``noise`` is zero.
    """
    noise, total = later.noise if noise is None else noise, later.total
    chosen: list[_Shift] = []
    for number in range(count):
        chosen.append(pick(later, number))
        state = chosen[-1] @ total
        later = later.foresee(state.outer(state) + noise**2 * total.T @ total)
    return torch.stack(chosen)


def _telling(
    gain: Callable[[Prospect], Slope], problem: ShiftProblem, now: EdgePosterior, count: int, *, seed: int
) -> _Pick:
    """Climb what an experiment would tell, from the best guess, the best in much noise, and a random direction."""
    guess, random = problem.plug_in(now), _directions(count, len(problem.target), seed)

    def pick(later: EdgePosterior, number: int) -> _Shift:
        prospect = Prospect(now, later, problem.target)
        starts = [guess, LossReduction(prospect).ideal(), random[number]]
        return _climb(gain(prospect), starts, problem)

    return pick


def _climb(slope: Slope, starts: list[_Shift], problem: ShiftProblem) -> _Shift:
    return maximise_on_sphere(slope, starts, radius=problem.budget)


def _least_known(later: EdgePosterior) -> _Shift:
    vectors: Float[Tensor, "g g"] = torch.linalg.eigh(later.total @ later.risk @ later.total.T).eigenvectors
    return vectors[:, -1]


def _directions(count: int, genes: int, seed: int) -> Float[Tensor, "q g"]:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(count, genes, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(drawn)
