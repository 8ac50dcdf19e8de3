"""Expected distances against draws, and best shifts against a solver that knows nothing of them."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from strategies.shifts import believed

from benchmarks.causal_matching.gain import best_shift, expected_distance, plug_in_shift
from inverse_design.errors import PlanError


def test_the_expected_distance_is_that_of_draws() -> None:
    posterior, target = believed("dense", experiments=3)
    shifts = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    total = torch.linalg.inv(torch.eye(5, dtype=torch.float64) - posterior.draw(100_000, seed=0))
    drawn = (shifts @ total - target).square().sum(2).mean(0)
    torch.testing.assert_close(expected_distance(posterior, shifts, target), drawn, atol=0, rtol=0.02)


@pytest.mark.parametrize("budget", [0.3, 1.0, 50.0])
@pytest.mark.parametrize("family", ["path", "scale-free", "dense"])
def test_no_shift_within_the_budget_is_expected_nearer(family: str, budget: float) -> None:
    posterior, target = believed(family, experiments=3)
    best = best_shift(posterior, target, budget=budget)
    assert float(best.norm()) <= budget * (1 + 1e-9)

    def distance(shift: np.ndarray) -> float:
        return float(expected_distance(posterior, torch.from_numpy(shift)[None], target)[0])

    ball = {"type": "ineq", "fun": lambda shift: budget**2 - shift @ shift}
    found = minimize(
        distance, np.zeros(5), method="SLSQP", constraints=[ball], options={"maxiter": 200, "ftol": 1e-12}
    )
    assert distance(best.numpy()) == pytest.approx(float(found.fun), rel=1e-4)
    assert distance(best.numpy()) <= distance(plug_in_shift(posterior, target, budget=budget).numpy()) + 1e-12


def test_expected_edges_ask_for_the_shift_that_reaches_the_target() -> None:
    posterior, target = believed("dense", experiments=3)
    wanted = target - target @ posterior.mean
    torch.testing.assert_close(plug_in_shift(posterior, target, budget=100.0), wanted)
    assert float(best_shift(posterior, target, budget=100.0).norm()) < float(wanted.norm())
    assert float(plug_in_shift(posterior, target, budget=0.1).norm()) == pytest.approx(0.1)


def test_no_budget_is_refused() -> None:
    posterior, target = believed("path", experiments=1)
    with pytest.raises(PlanError, match="positive norm"):
        best_shift(posterior, target, budget=0.0)
