"""What an experiment tells: against updates in full, many simulated experiments, and finite differences."""

from collections.abc import Callable

import pytest
import torch
from strategies.shifts import believed
from torch import Tensor

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from benchmarks.causal_matching.gain import (
    IntegratedVariance,
    LossReduction,
    Optimism,
    Prospect,
    expected_distance,
)
from benchmarks.causal_matching.graphs import StructuralWorld
from benchmarks.causal_matching.policies import Slope, maximise_on_sphere
from inverse_design.errors import PlanError

SHIFT = torch.linspace(-0.4, 0.8, 5, dtype=torch.float64)
MAKERS: dict[str, Callable[[EdgePosterior, Tensor], Slope]] = {
    "reduction": lambda posterior, target: LossReduction(Prospect(posterior, posterior, target)),
    "integrated": lambda posterior, target: IntegratedVariance(Prospect(posterior, posterior, target)),
    "optimism": lambda posterior, target: Optimism(posterior, target, 1.5),
}


def asked_loss(posterior: EdgePosterior, target: Tensor) -> float:
    """Expected squared distance of the shift that the expected edges ask for, whatever its length."""
    wanted = target - target @ posterior.mean
    return float(expected_distance(posterior, wanted[None], target)[0])


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("family", ["path", "scale-free", "dense"])
def test_gradients_are_finite_differences(family: str, kind: str) -> None:
    posterior, target = believed(family, experiments=3)
    slope = MAKERS[kind](posterior, target)
    _, gradient = slope(SHIFT)
    step = 1e-6 * torch.eye(5, dtype=torch.float64)
    numeric = [(slope(SHIFT + each)[0] - slope(SHIFT - each)[0]) / 2e-6 for each in step]
    torch.testing.assert_close(gradient, torch.tensor(numeric, dtype=torch.float64), atol=1e-6, rtol=1e-5)


def test_the_reduction_is_that_of_the_loss_with_the_reach_of_now() -> None:
    posterior, target = believed("dense", experiments=3)
    state = SHIFT @ posterior.total
    later = posterior.foresee(state.outer(state))
    variance = [torch.einsum("a,cab,b->c", target, each.covariance, target) for each in (posterior, later)]
    full = float(posterior.reach @ (variance[0] - variance[1]))
    assert LossReduction(Prospect(posterior, posterior, target))(SHIFT)[0] == pytest.approx(full)
    assert asked_loss(posterior, target) == pytest.approx(float(posterior.reach @ variance[0]))


def test_the_integrated_variance_is_the_published_sum() -> None:
    posterior, target = believed("scale-free", experiments=2)
    state = SHIFT @ posterior.total
    left = torch.einsum("a,cab,b->c", target, posterior.foresee(state.outer(state)).covariance, target)
    expected = target - target @ posterior.mean
    published = sum(
        float(d * (d + 2 * (posterior.noise**2 + k**2 + 1 / 5))) for d, k in zip(left, expected, strict=True)
    )
    assert IntegratedVariance(Prospect(posterior, posterior, target))(SHIFT)[0] == pytest.approx(-published)


def test_the_foreseen_loss_is_the_mean_over_simulated_experiments() -> None:
    """Worlds are drawn from the posterior, the experiment is done in each, and the new posterior is asked."""
    posterior, target = believed("dense", experiments=12)
    shift = SHIFT / SHIFT.norm()
    losses = []
    for number, edges in enumerate(posterior.draw(600, seed=0)):
        state = StructuralWorld(edges, posterior.noise).measure(shift[None], seed=number + 1)
        losses.append(asked_loss(posterior.learn(shift[None], state), target))
    seen = asked_loss(posterior, target) - sum(losses) / len(losses)
    noise_alone = posterior.foresee(posterior.noise**2 * posterior.total.T @ posterior.total)
    by_noise = posterior.reach @ torch.einsum(
        "a,cab,b->c", target, posterior.covariance - noise_alone.covariance, target
    )
    foreseen = float(by_noise) + LossReduction(Prospect(posterior, noise_alone, target))(shift)[0]
    # The form puts states at their means; the inverse of a mean is not the mean of inverses.
    assert foreseen == pytest.approx(seen, rel=0.15)


def test_optimism_bounds_the_distance_of_what_is_off_by_no_more() -> None:
    posterior, target = believed("dense", experiments=3)
    outcome = SHIFT @ posterior.total
    error = (outcome @ posterior.risk @ outcome).sqrt()
    lower = -Optimism(posterior, target)(SHIFT)[0]
    towards = outcome + error * torch.nn.functional.normalize(target - outcome, dim=0)
    assert float((towards - target).norm()) == pytest.approx(lower)
    certain = Optimism(posterior, target, errors=0.0)
    assert certain(SHIFT)[0] == pytest.approx(-float((outcome - target).norm()))


def test_the_climb_reaches_the_top_of_a_quadratic_form() -> None:
    half = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    form = half @ half.T
    found = maximise_on_sphere(
        lambda a: (float(a @ form @ a), 2 * form @ a),
        [torch.zeros(6), torch.ones(6, dtype=torch.float64)],
        radius=2.0,
    )
    assert float(found.norm()) == pytest.approx(2.0)
    assert float(found @ form @ found) == pytest.approx(4 * float(torch.linalg.eigvalsh(form)[-1]), rel=1e-6)


def test_a_search_without_direction_is_refused() -> None:
    with pytest.raises(PlanError, match="not zero"):
        maximise_on_sphere(lambda a: (0.0, a), [torch.zeros(3, dtype=torch.float64)], radius=1.0)


@pytest.mark.parametrize("family", ["path", "scale-free", "dense"])
def test_the_ideal_for_small_shifts_is_the_best_small_shift(family: str) -> None:
    posterior, target = believed(family, experiments=3)
    gain = LossReduction(Prospect(posterior, posterior, target))
    best = gain(1e-4 * gain.ideal())[0]
    others = torch.nn.functional.normalize(
        torch.randn(200, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    )
    assert all(gain(1e-4 * other)[0] <= best * (1 + 1e-6) for other in others)
