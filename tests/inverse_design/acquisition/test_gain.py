import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from strategies.screens import normal

from inverse_design.acquisition.gain import (
    GAINS,
    ExpectedImprovement,
    Exploration,
    Gain,
    LogExpectedImprovement,
    Mean,
    MemberImprovement,
    ProbabilityOfImprovement,
    ReachProbability,
    UpperBound,
    log_hinge,
    per_cost,
)
from inverse_design.acquisition.posterior import Optimum, UtilityPosterior
from surrogates.errors import DataError, UnknownNameError
from surrogates.uncertainty.posterior import ScalarPosterior


def believed(mean: list[float], deviation: list[float]) -> UtilityPosterior:
    return UtilityPosterior(
        torch.tensor(mean, dtype=torch.float64), torch.tensor(deviation, dtype=torch.float64).square()
    )


@settings(max_examples=25)
@given(st.floats(-3, 3), st.floats(0.1, 3), st.floats(-3, 3))
def test_expected_improvement_is_the_integral(mean: float, deviation: float, incumbent: float) -> None:
    law = stats.norm(mean, deviation)
    end = max(mean, incumbent) + 12 * deviation  # no farther: the quadrature would overlook a narrow tail
    by_hand, _ = integrate.quad(lambda u: (u - incumbent) * law.pdf(u), incumbent, end, points=[mean])
    found = ExpectedImprovement().score(believed([mean], [deviation]), incumbent)
    assert float(found) == pytest.approx(by_hand, rel=1e-6, abs=1e-9)
    log = float(LogExpectedImprovement().score(believed([mean], [deviation]), incumbent))
    assert log == pytest.approx(math.log(float(found)), abs=1e-9) if float(found) > 1e-300 else log < -690
    assert float(ProbabilityOfImprovement().score(believed([mean], [deviation]), incumbent)) == pytest.approx(
        law.sf(incumbent), abs=1e-12
    )


def test_improvement_by_members_agrees_with_the_closed_form() -> None:
    draws = torch.tensor([0.3, -1.0]) + torch.tensor([0.5, 2.0]) * normal(200_000, 2, seed=1)
    belief = UtilityPosterior.of_members(draws)
    torch.testing.assert_close(
        MemberImprovement().score(belief, 0.1), ExpectedImprovement().score(belief, 0.1), rtol=0.02, atol=0.0
    )


def test_the_logarithm_is_right_where_the_improvement_is_no_float() -> None:
    z = torch.tensor([-0.5, -1.0, -1.5, -5.0, -30.0, -999.0, -1001.0, -1e5, -1e8], dtype=torch.float64)
    # phi(z) E[t] of t ~ exp(-|z| t - t²/2), by substitution: the integral of t exp(-|z| t - t²/2).
    expected = [
        math.log(integrate.quad(lambda t, a=-each: t * math.exp(-t - t * t / (2 * a * a)), 0, np.inf)[0])
        - 2 * math.log(-each)
        - each * each / 2
        - math.log(2 * math.pi) / 2
        for each in z.tolist()
    ]
    torch.testing.assert_close(log_hinge(z), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    assert float(log_hinge(torch.tensor([-torch.inf]).double())) == -math.inf
    fine = torch.linspace(-1002, -998, 401).double()
    assert bool((log_hinge(fine).diff() > 0).all())


def test_what_is_certain_gains_what_it_is_above_the_incumbent() -> None:
    belief = believed([1.0, 3.0, 2.0], [0.0, 0.0, 0.0])
    assert ExpectedImprovement().score(belief, 2.0).tolist() == [0.0, 1.0, 0.0]
    assert LogExpectedImprovement().score(belief, 2.0).tolist() == [-math.inf, 0.0, -math.inf]
    assert ProbabilityOfImprovement().score(belief, 2.0).tolist() == [0.0, 1.0, 0.5]


def test_bounds_means_and_thresholds() -> None:
    belief = believed([1.0, 2.0], [3.0, 0.5])
    assert UpperBound(4.0).score(belief, 0.0).tolist() == [7.0, 3.0]
    assert Mean().score(belief, 0.0).tolist() == [1.0, 2.0]
    assert Exploration().score(belief, 0.0).tolist() == [3.0, 0.5]
    torch.testing.assert_close(
        ReachProbability(2.0).score(belief, -5.0), ProbabilityOfImprovement().score(belief, 2.0)
    )


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(0, 99))
def test_shares_of_the_optimum_sum_to_k(k: int, seed: int) -> None:
    draws = normal(7, 5, seed=seed).round()  # rounded, so that some tie
    shares = Optimum(k).score(UtilityPosterior.of_members(draws), 0.0)
    assert float(shares.sum()) == pytest.approx(k)
    assert bool(((shares >= 0) & (shares <= 1)).all())


def test_the_share_of_the_optimum_counts_draws() -> None:
    draws = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [2.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    assert Optimum().score(UtilityPosterior.of_members(draws), 0.0).tolist() == [0.625, 0.375, 0.0]


def test_every_registered_gain_scores_a_belief() -> None:
    belief = UtilityPosterior.of_members(normal(6, 4, seed=3))
    for name in GAINS.names():
        gain = GAINS.load(name)()
        assert isinstance(gain, Gain)
        assert gain.score(belief, 0.0).shape == (4,)
    with pytest.raises(UnknownNameError, match="expected_improvement"):
        GAINS.load("expected_improvment")


def test_gain_per_cost() -> None:
    gain, cost = torch.tensor([1.0, 3.0]).double(), torch.tensor([0.5, 6.0]).double()
    assert per_cost(gain, cost).tolist() == [2.0, 0.5]
    with pytest.raises(DataError, match="cost 0"):
        per_cost(gain, torch.tensor([1.0, 0.0]).double())
    with pytest.raises(DataError, match="gain -3"):
        per_cost(-gain, cost)


def test_a_belief_refuses_what_is_no_belief() -> None:
    one = torch.ones(1).double()
    with pytest.raises(DataError, match="not finite"):
        UtilityPosterior(one * math.nan, one)
    with pytest.raises(DataError, match="negative"):
        UtilityPosterior(one, -one)
    with pytest.raises(DataError, match="at least one"):
        UtilityPosterior.of_members(torch.ones(0, 2).double())
    with pytest.raises(DataError, match="joint draws"):
        MemberImprovement().score(UtilityPosterior.of(ScalarPosterior(one, one)), 0.0)
    with pytest.raises(DataError, match="beta"):
        UpperBound(-1.0)
    with pytest.raises(DataError, match="threshold"):
        ReachProbability(math.inf)
    with pytest.raises(DataError, match="k is 0"):
        Optimum(0)
    with pytest.raises(DataError, match="smaller k"):
        Optimum(3).score(UtilityPosterior.of_members(torch.ones(2, 2).double()), 0.0)


def test_rows_of_a_belief_keep_their_draws() -> None:
    belief = UtilityPosterior.of_members(normal(3, 4, seed=5))
    some = belief.rows(torch.tensor([2, 0]))
    assert len(some) == 2
    torch.testing.assert_close(some.joint(), belief.joint()[:, [2, 0]])
    torch.testing.assert_close(some.deviation, belief.variance[[2, 0]].sqrt())
