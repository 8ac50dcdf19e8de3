"""The test of subspace inclusion, on planted worlds where it holds and where it does not."""

import pytest
import torch
from strategies.contexts import factor_screen
from torch import Tensor

from surrogates.contrib.contexts.subspace import outside, span_test
from surrogates.contrib.contexts.two_way import SyntheticInterventions
from surrogates.data.perturbation import Perturbation


def world(seed: int, *, more: float, noise: float = 0.5) -> tuple[Tensor, Tensor]:
    """Eight donors on two factors, in two contexts and a third; that one may have a factor of its own."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    factors = normal(2, 8)
    elsewhere, here = normal(60, 2) @ factors, normal(30, 2) @ factors + more * normal(30, 1) @ normal(1, 8)
    return elsewhere + noise * normal(60, 8), here + noise * normal(30, 8)


def test_the_statistic_is_the_sum_of_squared_sines_of_principal_angles() -> None:
    one, other = world(0, more=1.0)
    statistic, directions = outside(one, other, rank=3, least=0.0)
    right = torch.linalg.svd(one, full_matrices=False).Vh[:3].T
    cosines = torch.linalg.svdvals(right.T @ torch.linalg.svd(other, full_matrices=False).Vh.T)
    assert float(directions) == 8
    assert float(statistic) == pytest.approx(8 - float(cosines.square().sum()))


def test_the_level_holds_where_weights_can_be_carried_over_and_not_where_they_cannot() -> None:
    rejected = {
        more: sum(
            span_test(*world(seed, more=more), rank=2, seed=seed, draws=39).p_value <= 0.05 for seed in range(60)
        )
        for more in (0.0, 1.0)
    }
    assert rejected[0.0] <= 7  # as many or more happen once in forty times at the level
    assert rejected[1.0] >= 54


def test_a_world_without_noise_is_included_exactly() -> None:
    found = span_test(*world(1, more=0.0, noise=0.0), rank=2, seed=0)
    assert found.statistic == pytest.approx(0, abs=1e-9)
    assert (found.directions, found.p_value) == ((2, 2), 1.0)
    outside_of_it = span_test(*world(1, more=1.0, noise=0.0), rank=2, seed=0)
    assert (outside_of_it.directions, outside_of_it.p_value) == ((3, 2), 0.005)


def test_a_context_tests_the_donors_of_each_action() -> None:
    labels = ("A", "B", "C", "D", "E", "F")
    screen = factor_screen(labels=labels, noise=0.3, without={(0, "A")})
    view = SyntheticInterventions().fit(screen, seed=0).in_context("c0")
    asked = [Perturbation.parse(label) for label in ("A", "A+B", "B")]
    found = view.spans(view.vocabulary.batch(asked), seed=0)
    assert found[1] is None  # a combination that was never measured has no weights
    assert found[0] is not None
    assert found[2] is not None
    assert all(0 < each.p_value <= 1 for each in found if each is not None)
