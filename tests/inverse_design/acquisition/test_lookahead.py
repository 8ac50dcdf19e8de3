import math

import pytest
import torch
from strategies.screens import normal

from inverse_design.acquisition.gain import ExpectedImprovement, Gain, hinge
from inverse_design.acquisition.posterior import LookAhead, UtilityPosterior
from surrogates.errors import DataError


@pytest.mark.parametrize("noise", [0.5, 2.0])
def test_independent_normals_have_the_closed_form_of_the_knowledge_gradient(noise: float) -> None:
    """The posterior mean of x moves by N(0, d²), d = v / sqrt(v + noise²), against the best of the others."""
    draws = torch.tensor([0.0, 0.3], dtype=torch.float64) + torch.tensor([1.0, 0.7]) * normal(1500, 2, seed=1)
    belief = UtilityPosterior.of_members(draws - draws.mean(0) + torch.tensor([0.0, 0.3], dtype=torch.float64))
    moved = belief.variance / (belief.variance + noise**2).sqrt()
    expected = moved * hinge(-0.3 / moved)
    found = LookAhead(noise).score(belief, -10.0)
    torch.testing.assert_close(found, expected, rtol=0.1, atol=0.005)


def test_without_noise_and_rivals_it_is_the_expected_improvement() -> None:
    belief = UtilityPosterior.of_members(normal(400, 1, seed=2) - 0.5)
    found = LookAhead(0.02).score(belief, 0.2)
    assert float(found) == pytest.approx(float(ExpectedImprovement().score(belief, 0.2)), rel=0.1)


def test_a_result_that_tells_of_others_is_worth_more_than_its_own_improvement() -> None:
    """The first two always differ in sign: measuring the poor probe tells which of them is good."""
    sign = torch.tensor([1.0, -1.0], dtype=torch.float64)
    draws = torch.stack([sign, -sign, -5 + 0.5 * sign], dim=1)
    found = LookAhead(0.1).score(UtilityPosterior.of_members(draws), 0.0)
    assert float(found[2]) == pytest.approx(1.0, abs=1e-6)
    assert float(ExpectedImprovement().score(UtilityPosterior.of_members(draws), 0.0)[2]) < 1e-3


def test_what_can_change_no_decision_is_worth_nothing() -> None:
    draws = torch.stack([normal(50, seed=3) - 20, torch.zeros(50).double()], dim=1)
    assert LookAhead(0.1).score(UtilityPosterior.of_members(draws), 1.0).tolist() == [0.0, 0.0]
    assert isinstance(LookAhead(0.1), Gain)


def test_noise_that_is_none() -> None:
    assert bool(LookAhead(0.0).score(UtilityPosterior.of_members(normal(20, 3, seed=4)), 0.0).isfinite().all())
    for noise in (-1.0, math.nan, math.inf):
        with pytest.raises(DataError, match="noise"):
            LookAhead(noise)
