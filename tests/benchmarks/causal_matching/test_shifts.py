"""Policies that choose shifts."""

import pytest
import torch
from strategies.shifts import small_game, some_tried

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from benchmarks.causal_matching.environment import ShiftPolicy, ShiftProblem, Tried
from benchmarks.causal_matching.gain import LossReduction, Prospect
from benchmarks.causal_matching.policies import (
    ForesightShift,
    GreedyShift,
    IntegratedVarianceShift,
    MaximalVarianceShift,
    RandomShift,
    UpperBoundShift,
)

POLICIES: tuple[ShiftPolicy, ...] = (
    RandomShift(),
    GreedyShift(),
    UpperBoundShift(),
    MaximalVarianceShift(),
    IntegratedVarianceShift(),
    ForesightShift(),
)
ids = [type(policy).__name__ for policy in POLICIES]


def left_after(problem: ShiftProblem, tried: Tried, shifts: torch.Tensor) -> float:
    """Expected loss after a round whose states are as expected, and whose noise tells what it is expected to."""
    now: EdgePosterior = problem.believe(tried)
    states = shifts @ now.total
    later = now.foresee(states.T @ states + len(shifts) * now.noise**2 * now.total.T @ now.total)
    return float(now.reach @ torch.einsum("a,cab,b->c", problem.target, later.covariance, problem.target))


@pytest.mark.parametrize("policy", POLICIES, ids=ids)
@pytest.mark.parametrize("experiments", [0, 5])
def test_choices_keep_the_budget_and_repeat(policy: ShiftPolicy, experiments: int) -> None:
    game = small_game("scale-free")
    problem, tried = game.problem, some_tried(game, experiments)
    shifts = policy.choose(problem, tried, 3, seed=1)
    assert shifts.shape == (3, 5)
    assert float(shifts.norm(dim=1).max()) <= problem.budget * (1 + 1e-9)
    torch.testing.assert_close(policy.choose(problem, tried, 3, seed=1), shifts, rtol=0, atol=0)


@pytest.mark.parametrize("other", [policy for policy in POLICIES if not isinstance(policy, ForesightShift)])
@pytest.mark.parametrize("family", ["path", "scale-free", "dense"])
def test_no_other_experiment_is_foreseen_to_leave_less(other: ShiftPolicy, family: str) -> None:
    game = small_game(family)
    problem, tried = game.problem, some_tried(game, 4)
    ours = ForesightShift().choose(problem, tried, 1, seed=0)
    theirs = other.choose(problem, tried, 1, seed=0)
    assert left_after(problem, tried, ours) <= left_after(problem, tried, theirs) * (1 + 1e-6)


def test_greedy_repeats_the_shift_that_expected_edges_ask_for() -> None:
    game = small_game("dense")
    tried = some_tried(game, 40)
    shifts = GreedyShift().choose(game.problem, tried, 2, seed=0)
    assert torch.equal(shifts[0], shifts[1])
    believed = game.problem.believe(tried)
    reached = shifts[0] @ believed.total
    random = 1.0 * torch.nn.functional.normalize(torch.randn(99, 5, dtype=torch.float64))
    assert float((reached - game.target).norm()) <= float(
        (random @ believed.total - game.target).norm(dim=1).min()
    )


def test_doubt_goes_where_the_outcome_is_least_known_and_then_elsewhere() -> None:
    game = small_game("dense")
    belief = game.problem.believe(some_tried(game, 4))
    one, two = MaximalVarianceShift().choose(game.problem, some_tried(game, 4), 2, seed=0)

    def doubt(shifts: torch.Tensor) -> torch.Tensor:
        outcome = shifts @ belief.total
        return ((outcome @ belief.risk) * outcome).sum(1)

    random = torch.nn.functional.normalize(torch.randn(300, 5, dtype=torch.float64))
    assert float(doubt(one[None])[0]) >= float(doubt(random).max())
    assert abs(float(one @ two)) < 0.99


def test_foresight_looks_at_genes_whose_edges_matter() -> None:
    game = small_game("path")
    belief = game.problem.believe(some_tried(game, 0))
    gain = LossReduction(Prospect(belief, belief, game.target))
    (shift,) = ForesightShift().choose(game.problem, some_tried(game, 0), 1, seed=0)
    axes = torch.eye(5, dtype=torch.float64)
    assert gain(shift)[0] >= max(gain(axis)[0] for axis in axes)
