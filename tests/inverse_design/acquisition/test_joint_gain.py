import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.gains import DrawnMaximum
from strategies.screens import normal

from inverse_design.acquisition.acquisition import UtilityPosterior, log_expected_improvement
from inverse_design.acquisition.joint_gain import JointGain
from inverse_design.acquisition.quadratic import NormalScores

COVARIANCE = torch.tensor([[1.0, 0.8, 0.0], [0.8, 1.0, 0.0], [0.0, 0.0, 2.0]]).double()


def correlated(count: int, seed: int) -> torch.Tensor:
    return normal(count, 3, seed=seed) @ torch.linalg.cholesky(COVARIANCE).T


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.floats(-2.0, 25.0), st.integers(0, 99))
def test_alone_every_candidate_gains_what_is_expected_of_it(count: int, behind: float, seed: int) -> None:
    spread = normal(count, seed=seed).abs() * 3 + 0.01
    excess = normal(count, seed=seed + 1) - behind * spread
    alone = NormalScores.of_normal(excess, spread)
    known = log_expected_improvement(UtilityPosterior(excess, spread.square()), 0.0).score.exp()
    gain = JointGain.of(alone, normal(64, count, seed=seed + 2))
    torch.testing.assert_close(gain.gains(), known, rtol=1e-6, atol=0.0)
    assert gain.adding(0).total == pytest.approx(float(known[0]), rel=1e-6)


@pytest.mark.parametrize("excess", [-2.5, -0.5, 1.0])
def test_together_they_gain_what_joint_draws_show(excess: float) -> None:
    shift = torch.tensor([excess, excess - 0.2, excess]).double()
    alone = NormalScores.of_normal(shift, COVARIANCE.diagonal().sqrt())
    gain = JointGain.of(alone, correlated(4096, 1))
    drawn = DrawnMaximum.of(shift + correlated(400_000, 2), 0.0)
    for numbers in ((0, 1), (0, 2), (0, 1, 2)):
        found, known = gain, drawn
        for number in numbers:
            found, known = found.adding(number), known.adding(number)
        assert found.total == pytest.approx(known.total, rel=0.05)
    both = gain.adding(0)
    assert both.gains()[1] < 0.8 * both.gains()[2]  # what is alike adds less


def test_gains_only_shrink_and_no_candidate_that_may_gain_adds_nothing() -> None:
    alone = NormalScores.of_normal(-12.0 + normal(5, seed=3), torch.ones(5).double())
    gain = JointGain.of(alone, normal(64, 5, seed=4))
    before = gain.gains()
    after = gain.adding(2).gains()
    assert bool((after > 0).all())
    assert bool((after <= before).all())
    some = torch.tensor([True, False, True, True, True])
    assert gain.only(some).gains().tolist() == torch.where(some, before, 0.0).tolist()
