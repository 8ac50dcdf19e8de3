import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from strategies.screens import normal
from torch import Tensor

from surrogates.contrib.causal.design import VIRTUAL, Regression
from surrogates.contrib.causal.estimate import (
    MOST_SPECTRAL_RADIUS,
    _Objective,
    between_nodes,
    refine,
    spectral_radius_bound,
    stabilised,
    total_effects,
)

COLUMNS = torch.tensor([1, 3, 4, VIRTUAL])
NONE_KNOWN = torch.zeros(4, dtype=torch.bool)


def _edges(seed: int, *, size: float = 0.3) -> Float[Tensor, "q g"]:
    edges = size * normal(4, 6, seed=seed)
    edges[torch.arange(3), COLUMNS[:3]] = 0
    return edges


def _radius(square: Tensor) -> float:
    return float(torch.linalg.eigvals(square).abs().max())


@given(seed=st.integers(0, 999), size=st.floats(0.01, 3.0))
def test_the_bound_is_above_the_spectral_radius_but_not_far(seed: int, size: float) -> None:
    square = size * normal(6, 6, seed=seed)
    radius = _radius(square)
    assert radius * (1 - 1e-9) <= spectral_radius_bound(square) <= 1.2 * radius
    assert spectral_radius_bound(square, enough=10.0) >= radius * (1 - 1e-9)


def test_a_network_without_cycles_has_no_spectral_radius() -> None:
    assert spectral_radius_bound(torch.triu(normal(5, 5, seed=0), diagonal=1)) == pytest.approx(0.0, abs=1e-12)


@given(seed=st.integers(0, 99))
def test_stabilised_edges_keep_the_bound_and_their_ratios(seed: int) -> None:
    edges = _edges(seed, size=2.0)
    stable = stabilised(edges, COLUMNS, 0.9)
    assert _radius(between_nodes(stable, COLUMNS)) <= 0.9 + 1e-9
    shrunk = float(stable.norm() / edges.norm())
    torch.testing.assert_close(stable, shrunk * edges)


def test_total_effects_sum_all_walks() -> None:
    edges = stabilised(_edges(3), COLUMNS, 0.6)
    placed = torch.zeros(4, 6, dtype=torch.float64)
    placed[torch.arange(3), COLUMNS[:3]] = 1.0
    total, walk = placed, edges
    for _ in range(300):
        total = total + walk
        walk = between_nodes(edges, COLUMNS) @ walk
    torch.testing.assert_close(total_effects(edges, COLUMNS), total)


def test_the_gradient_is_that_of_automatic_differentiation() -> None:
    effects, inputs = normal(7, 6, seed=1), normal(7, 4, seed=2)
    weights = (normal(7, 6, seed=3) > 0).to(torch.float64)
    edges = stabilised(_edges(4), COLUMNS, 0.7).requires_grad_()
    misfit = weights * (inputs @ total_effects(edges, COLUMNS) - effects)
    error = misfit.square().sum() / 2
    error.backward()
    state = _Objective(effects, weights, inputs, COLUMNS).at(edges.detach())
    assert state.error == pytest.approx(error.item())
    assert edges.grad is not None
    torch.testing.assert_close(state.gradient, edges.grad)


def _cost(problem: Regression, strength: Tensor, edges: Tensor, penalty: Tensor) -> float:
    misfit = problem.weights * ((problem.inputs * strength) @ total_effects(edges, COLUMNS) - problem.effects)
    return float(misfit.square().sum() / 2 + (penalty * edges.abs()).sum())


@given(seed=st.integers(0, 30))
def test_refinement_lowers_the_objective_and_keeps_support_and_stability(seed: int) -> None:
    problem = Regression(normal(12, 6, seed=seed), normal(12, 4, seed=seed + 1), COLUMNS, NONE_KNOWN)
    start = _edges(seed + 2) * (normal(4, 6, seed=seed + 3) > 0)
    strength, penalty = torch.ones(4, dtype=torch.float64), torch.full((4, 6), 0.1, dtype=torch.float64)
    refined = refine(problem, strength, start, penalty, steps=50)
    stable = stabilised(start, COLUMNS, MOST_SPECTRAL_RADIUS - 0.02)
    before, after = (_cost(problem, strength, edges, penalty) for edges in (stable, refined))
    assert after <= before * (1 + 1e-5)
    assert not refined[start == 0].any()
    assert _radius(between_nodes(refined, COLUMNS)) < MOST_SPECTRAL_RADIUS + 1e-6


def test_refinement_finds_the_edges_of_a_world_without_noise() -> None:
    truth = stabilised(_edges(5), COLUMNS, 0.6) * (normal(4, 6, seed=6) > -0.5)
    inputs = normal(40, 4, seed=7) * (normal(40, 4, seed=8) > 0.8)
    effects = inputs @ total_effects(truth, COLUMNS)
    problem = Regression(effects, inputs, COLUMNS, NONE_KNOWN)
    start = torch.where(truth != 0, 0.5 * truth, 0.0)
    found = refine(problem, torch.ones(4, dtype=torch.float64), start, torch.full_like(truth, 1e-6), steps=400)
    torch.testing.assert_close(found, truth, atol=5e-3, rtol=0)
