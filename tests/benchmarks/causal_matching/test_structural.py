"""The world with noise in its genes."""

import pytest
import torch

from benchmarks.causal_matching.graphs import StructuralWorld, acyclic_edges
from surrogates.errors import DataError


def test_states_solve_the_equations() -> None:
    world = StructuralWorld(acyclic_edges("dense", 6, seed=0), noise=0.5)
    shifts = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    mean = world.mean(shifts)
    torch.testing.assert_close(mean, mean @ world.edges + shifts)


def test_samples_have_the_mean_and_the_noise_that_travels() -> None:
    world = StructuralWorld(acyclic_edges("scale-free", 5, seed=0), noise=0.5)
    shifts = torch.ones(1, 5, dtype=torch.float64).expand(40_000, -1)
    states = world.measure(shifts, seed=0)
    torch.testing.assert_close(states.mean(0), world.mean(shifts[:1])[0], atol=0.02, rtol=0)
    torch.testing.assert_close(states.T.cov(), 0.25 * world.total.T @ world.total, atol=0.02, rtol=0)


def test_noise_does_not_depend_on_the_shift() -> None:
    world = StructuralWorld(acyclic_edges("path", 5, seed=0))
    shifts = torch.eye(5, dtype=torch.float64)
    noise = world.measure(torch.zeros_like(shifts), seed=7)
    torch.testing.assert_close(world.measure(shifts, seed=7), world.mean(shifts) + noise)
    assert not torch.equal(noise, world.measure(torch.zeros_like(shifts), seed=8))


def test_a_cycle_is_refused() -> None:
    with pytest.raises(DataError, match="cycle"):
        StructuralWorld(torch.ones(3, 3, dtype=torch.float64))
