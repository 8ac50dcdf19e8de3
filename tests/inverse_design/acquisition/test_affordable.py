import math
from itertools import chain, combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.gains import DrawnMaximum
from strategies.screens import normal

from inverse_design.acquisition.batch import SetGain, best_affordable
from inverse_design.acquisition.joint_gain import JointGain
from inverse_design.acquisition.quadratic import NormalScores
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError


def by_draws(count: int, seed: int, draws: int = 30) -> SetGain:
    return DrawnMaximum.of(normal(draws, count, seed=seed), 0.3)


def by_scenarios(count: int, seed: int, hope: float) -> SetGain:
    """Candidates that depend on each other, of which all or only some may gain as much as anything seen."""
    alone = NormalScores.of_normal(normal(count, seed=seed) - hope, normal(count, seed=seed + 7).abs() + 0.05)
    return JointGain.of(alone, normal(64, count, seed=seed + 1) + normal(64, 1, seed=seed + 2))


def worth(start: SetGain, numbers: tuple[int, ...]) -> float:
    for number in numbers:
        start = start.adding(number)
    return start.total


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 7), st.floats(0.2, 6.0), st.integers(0, 999), st.sampled_from([None, 0.0, 3.0, 12.0]))
def test_what_is_said_of_the_set_is_true_of_all_affordable_sets(
    count: int, budget: float, seed: int, hope: float | None
) -> None:
    start = by_draws(count, seed) if hope is None else by_scenarios(count, seed, hope)
    cost = normal(count, seed=seed + 3).abs() + 0.1
    if float(cost.min()) > budget:
        with pytest.raises(NothingToProposeError):
            best_affordable(start, cost, budget)
        return
    found = best_affordable(start, cost, budget)
    sets = chain.from_iterable(combinations(range(count), size) for size in range(count + 1))
    best = max(worth(start, each) for each in sets if float(cost[list(each)].sum()) <= budget)
    assert found.cost <= budget * (1 + 1e-9)
    assert found.expected == pytest.approx(worth(start, tuple(found.numbers.tolist())))
    assert 0.5 <= found.share <= 1.0
    assert found.share * best * (1 - 1e-9) <= found.expected <= best * (1 + 1e-9)
    alone, after = start.gains(), start
    for number in found.numbers.tolist():
        after = after.adding(number)
    left = torch.ones(count, dtype=torch.bool)
    left[found.numbers] = False
    assert not bool((left & (cost <= budget) & (alone > found.expected * (1 + 1e-9))).any())
    assert not bool((left & (cost <= budget - found.cost) & (after.gains() > 0)).any())


def test_gains_that_no_draw_would_hit_spend_the_budget() -> None:
    start = by_scenarios(40, 0, 20.0)
    assert 0 < float(start.gains().max()) < 1e-12
    found = best_affordable(start, torch.full((40,), 80.0).double(), 800.0)
    assert len(found.numbers) == 10
    assert found.cost == 800.0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 99))
def test_lazy_evaluation_chooses_what_full_evaluation_does(seed: int) -> None:
    start, cost = by_draws(200, seed), torch.ones(200).double()
    found = best_affordable(start, cost, 12.0)
    state, picks = start, []
    for _ in range(12):
        gains = state.gains()
        gains[picks] = 0.0
        if float(gains.max()) <= 0:
            break
        picks.append(int(gains.argmax()))
        state = state.adding(picks[-1])
    assert found.numbers.tolist() == picks


def test_one_dear_experiment_may_be_better_than_many_cheap_ones() -> None:
    """Per cost the crumb is best, and after it the dear one cannot be paid any more."""
    start = DrawnMaximum.of(torch.tensor([[0.02, 1.0]]).double(), 0.0)
    assert best_affordable(start, torch.tensor([0.01, 1.0]).double(), 1.0).numbers.tolist() == [1]


def test_what_costs_nothing_and_adds_something_is_taken() -> None:
    start = DrawnMaximum.of(torch.tensor([[0.5, 0.0], [0.0, 1.0]]).double(), 0.0)
    found = best_affordable(start, torch.tensor([0.0, 3.0]).double(), 3.0)
    assert sorted(found.numbers.tolist()) == [0, 1]
    assert found.share == pytest.approx(1.0)
    assert best_affordable(start, torch.tensor([0.0, 3.0]).double(), 0.0).numbers.tolist() == [0]


def test_where_nothing_gains_nothing_is_bought() -> None:
    start = DrawnMaximum.of(torch.zeros(3, 2).double(), 1.0)
    found = best_affordable(start, torch.ones(2).double(), 2.0)
    assert (found.numbers.tolist(), found.expected, found.cost, found.share) == ([], 0.0, 0.0, 1.0)


def test_prices_that_add_up_to_the_budget_are_affordable() -> None:
    start = DrawnMaximum.of(torch.eye(3).double(), 0.0)
    assert len(best_affordable(start, torch.full((3,), 0.1, dtype=torch.float64), 0.3).numbers) == 3


def test_budgets_and_costs_that_are_none() -> None:
    start = by_draws(2, 0)
    with pytest.raises(NothingToProposeError, match="cheapest experiment, which costs 2"):
        best_affordable(start, torch.tensor([2.0, 3.0]).double(), 1.0)
    for cost, budget in (([-1.0, 1.0], 1.0), ([math.nan, 1.0], 1.0), ([1.0, 1.0], math.nan), ([1.0, 1.0], -1.0)):
        with pytest.raises(DataError, match="negative or not finite"):
            best_affordable(start, torch.tensor(cost).double(), budget)
