"""The posterior of edges against brute force: one Gaussian over all edges at once, and many draws."""

from typing import get_args

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from benchmarks.causal_matching.graphs import Family, StructuralWorld, acyclic_edges, edge_variance
from surrogates.errors import DataError


def learnt(family: Family = "dense", *, genes: int = 5, experiments: int = 6, noise: float = 0.4, seed: int = 0):  # noqa: ANN201
    edges = acyclic_edges(family, genes, seed=seed)
    world = StructuralWorld(edges, noise)
    shifts = torch.randn(
        experiments, genes, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64
    )
    states = world.measure(shifts, seed=seed + 2)
    prior = EdgePosterior.prior(edges != 0, edge_variance(edges), noise=noise)
    return prior, shifts, states, world


def brute_force(prior: EdgePosterior, shifts: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Condition the joint Gaussian of all edges and all measured genes, in the space of the measurements."""
    places = prior.parents.nonzero()
    design = torch.zeros(states.numel(), len(places), dtype=torch.float64)
    for column, (parent, child) in enumerate(places.tolist()):
        design.view(*states.shape, -1)[:, child, column] = states[:, parent]
    variance = torch.stack([prior.covariance[child, parent, parent] for parent, child in places.tolist()])
    seen = (design * variance) @ design.T + prior.noise**2 * torch.eye(len(design), dtype=torch.float64)
    gain = (variance[:, None] * design.T) @ torch.linalg.inv(seen)
    return gain @ (states - shifts).flatten(), torch.diag(variance) - gain @ design * variance


@given(st.sampled_from(get_args(Family)), st.integers(3, 6), st.integers(1, 9), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_it_is_the_conditional_gaussian(family: Family, genes: int, experiments: int, seed: int) -> None:
    prior, shifts, states, _ = learnt(family, genes=genes, experiments=experiments, seed=seed)
    assume(bool(prior.parents.any()))
    posterior = prior.learn(shifts, states)
    mean, covariance = brute_force(prior, shifts, states)
    places = prior.parents.nonzero()
    torch.testing.assert_close(posterior.mean[*places.T], mean)
    same_child = places[:, None, 1] == places[None, :, 1]
    torch.testing.assert_close(covariance * ~same_child, torch.zeros_like(covariance), atol=1e-9, rtol=0)
    one, other = places[:, None, 0].expand_as(same_child), places[None, :, 0].expand_as(same_child)
    child = places[:, None, 1].expand_as(same_child)
    torch.testing.assert_close(posterior.covariance[child, one, other] * same_child, covariance * same_child)
    assert not posterior.mean[~prior.parents].any()


def test_learning_in_rounds_is_learning_at_once() -> None:
    prior, shifts, states, _ = learnt(experiments=9)
    at_once = prior.learn(shifts, states)
    in_rounds = prior.learn(shifts[:4], states[:4]).learn(shifts[4:], states[4:])
    torch.testing.assert_close(in_rounds.mean, at_once.mean)
    torch.testing.assert_close(in_rounds.precision, at_once.precision)


def test_nothing_measured_is_nothing_learnt() -> None:
    prior, shifts, states, _ = learnt()
    assert torch.equal(prior.learn(shifts[:0], states[:0]).mean, prior.mean)
    assert torch.equal(prior.learn(shifts[:0], states[:0]).precision, prior.precision)


def test_foreseen_states_leave_the_covariance_that_learning_leaves() -> None:
    prior, shifts, states, _ = learnt()
    foreseen = prior.foresee(states.T @ states)
    torch.testing.assert_close(foreseen.covariance, prior.learn(shifts, states).covariance)
    assert torch.equal(foreseen.mean, prior.mean)


def test_it_finds_the_truth() -> None:
    prior, shifts, states, world = learnt("scale-free", genes=8, experiments=4000)
    posterior = prior.learn(shifts, states)
    assert float((posterior.mean - world.edges).abs().max()) < 0.05
    scores = (posterior.mean - world.edges)[prior.parents] / torch.stack(
        [posterior.covariance[child, parent, parent] for parent, child in prior.parents.nonzero().tolist()]
    ).sqrt()
    assert 0.3 < float(scores.square().mean()) < 2.5


@pytest.mark.parametrize("family", get_args(Family))
def test_draws_have_the_moments(family: Family) -> None:
    prior, shifts, states, _ = learnt(family)
    posterior = prior.learn(shifts, states)
    drawn = posterior.draw(40_000, seed=0)
    torch.testing.assert_close(drawn.mean(0), posterior.mean, atol=0.01, rtol=0)
    for child, covariance in enumerate(posterior.covariance):
        torch.testing.assert_close(drawn[:, :, child].T.cov(), covariance, atol=0.01, rtol=0)


@pytest.mark.parametrize("family", get_args(Family))
def test_total_reach_and_risk_are_those_of_draws(family: Family) -> None:
    prior, shifts, states, _ = learnt(family, experiments=2)
    posterior = prior.learn(shifts, states)
    total = torch.linalg.inv(torch.eye(5, dtype=torch.float64) - posterior.draw(100_000, seed=0))
    torch.testing.assert_close(total.mean(0), posterior.total, atol=0.02, rtol=0)
    torch.testing.assert_close(total.square().sum(2).mean(0), posterior.reach, atol=0, rtol=0.03)
    shift = torch.linspace(-1, 1, 5, dtype=torch.float64)
    outcome = shift @ posterior.total
    off = (shift @ total - outcome).square().sum(1).mean()
    torch.testing.assert_close(outcome @ posterior.risk @ outcome, off, atol=0, rtol=0.03)


def test_what_cannot_be_is_refused() -> None:
    parents = torch.ones(3, 3, dtype=torch.bool).triu(1)
    variance = torch.ones(3, dtype=torch.float64)
    with pytest.raises(DataError, match="cycle"):
        EdgePosterior.prior(parents | parents.T, variance, noise=1.0)
    with pytest.raises(DataError, match="positive"):
        EdgePosterior.prior(parents, variance, noise=0.0)
    with pytest.raises(DataError, match="positive"):
        EdgePosterior.prior(parents, 0 * variance, noise=1.0)
