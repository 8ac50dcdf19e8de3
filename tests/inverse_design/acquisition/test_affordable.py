import math
from itertools import chain, combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal

from inverse_design.acquisition.affordable import best_affordable
from inverse_design.acquisition.belief import Belief
from inverse_design.acquisition.preference import ExpectedMaximum
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError


def preference(count: int, seed: int, draws: int = 30) -> ExpectedMaximum:
    return ExpectedMaximum.of(Belief.of_members(normal(draws, count, seed=seed)), 0.3)


def worth(start: ExpectedMaximum, numbers: tuple[int, ...]) -> float:
    best = start.best if not numbers else torch.maximum(start.best, start.draws[:, list(numbers)].amax(1))
    return float((best - start.best).mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.floats(0.2, 6.0), st.integers(0, 999))
def test_the_set_is_affordable_and_near_the_best_of_all(count: int, budget: float, seed: int) -> None:
    start, cost = preference(count, seed), normal(count, seed=seed + 1).abs() + 0.1
    if float(cost.min()) > budget:
        with pytest.raises(NothingToProposeError):
            best_affordable(start, cost, budget)
        return
    found = best_affordable(start, cost, budget)
    sets = chain.from_iterable(combinations(range(count), size) for size in range(count + 1))
    best = max(worth(start, each) for each in sets if float(cost[list(each)].sum()) <= budget)
    assert found.cost <= budget * (1 + 1e-9)
    assert found.expected == pytest.approx(worth(start, tuple(found.numbers.tolist())))
    assert (1 - 1 / math.e) / 2 * best - 1e-12 <= found.expected <= best + 1e-12


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 99))
def test_lazy_evaluation_chooses_what_full_evaluation_does(seed: int) -> None:
    start, cost = preference(200, seed), torch.ones(200).double()
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
    start = ExpectedMaximum.of(Belief.of_members(torch.tensor([[0.02, 1.0]]).double()), 0.0)
    assert best_affordable(start, torch.tensor([0.01, 1.0]).double(), 1.0).numbers.tolist() == [1]


def test_what_costs_nothing_and_adds_something_is_taken() -> None:
    start = ExpectedMaximum.of(Belief.of_members(torch.tensor([[0.5, 0.0], [0.0, 1.0]]).double()), 0.0)
    found = best_affordable(start, torch.tensor([0.0, 3.0]).double(), 3.0)
    assert sorted(found.numbers.tolist()) == [0, 1]
    assert best_affordable(start, torch.tensor([0.0, 3.0]).double(), 0.0).numbers.tolist() == [0]


def test_prices_that_add_up_to_the_budget_are_affordable() -> None:
    start = ExpectedMaximum.of(Belief.of_members(torch.eye(3).double()), 0.0)
    assert len(best_affordable(start, torch.full((3,), 0.1, dtype=torch.float64), 0.3).numbers) == 3


def test_budgets_and_costs_that_are_none() -> None:
    start = preference(2, 0)
    with pytest.raises(NothingToProposeError, match="cheapest experiment, which costs 2"):
        best_affordable(start, torch.tensor([2.0, 3.0]).double(), 1.0)
    for cost, budget in (([-1.0, 1.0], 1.0), ([math.nan, 1.0], 1.0), ([1.0, 1.0], math.nan), ([1.0, 1.0], -1.0)):
        with pytest.raises(DataError, match="negative or not finite"):
            best_affordable(start, torch.tensor(cost).double(), budget)
