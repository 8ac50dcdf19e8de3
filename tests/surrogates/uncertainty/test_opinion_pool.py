import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from strategies.screens import normal

from surrogates.uncertainty.posterior import pool_weights, pooled


def test_two_experts_are_weighed_as_a_search_over_all_weights_would() -> None:
    log_probability = normal(2, 400, seed=0) - 1
    log_probability[0] += 0.4

    def loss(weight: float) -> float:
        weights = torch.tensor([weight, 1 - weight], dtype=torch.float64)
        # Half a case speaks for each expert alike.
        return -float(pooled(log_probability, weights).sum()) - 0.5 * math.log(weight) - 0.5 * math.log(1 - weight)

    best = minimize_scalar(loss, bounds=(1e-6, 1 - 1e-6), method="bounded", options={"xatol": 1e-8}).x
    assert float(pool_weights(log_probability)[0]) == pytest.approx(best, abs=1e-4)


def test_an_expert_that_is_always_wrong_is_left_out() -> None:
    log_probability = torch.stack([normal(100, 1, seed=1)[:, 0] - 1, normal(100, 1, seed=2)[:, 0] - 9])
    assert pool_weights(log_probability).tolist() == [1.0, 0.0]
    assert torch.equal(pooled(log_probability, pool_weights(log_probability)), log_probability[0])


@given(experts=st.integers(1, 6), cases=st.integers(0, 30), seed=st.integers(0, 99))
def test_weights_add_up_and_the_pool_is_no_worse_than_the_mean_of_its_members(
    experts: int, cases: int, seed: int
) -> None:
    log_probability = 3 * normal(experts, cases, seed=seed) if cases else torch.zeros(experts, 0).double()
    weights = pool_weights(log_probability)
    assert bool((weights >= 0).all())
    assert float(weights.sum()) == pytest.approx(1)
    if cases:
        members = float(weights @ log_probability.mean(1))
        assert float(pooled(log_probability, weights).mean()) >= members - 1e-9


def test_without_cases_all_experts_count_the_same() -> None:
    assert pool_weights(torch.zeros(4, 0).double()).tolist() == pytest.approx([0.25] * 4)
