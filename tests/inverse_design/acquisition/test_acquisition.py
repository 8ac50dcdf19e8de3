import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from strategies.screens import normal

from inverse_design.acquisition.acquisition import (
    ACQUISITIONS,
    Acquisition,
    UtilityPosterior,
    batch_gain,
    expected_improvement,
    expected_utility,
    exploration,
    log_expected_improvement,
    log_hinge,
    member_improvement,
    optimum,
    probability_of_improvement,
    upper_bound,
)
from surrogates.errors import DataError, UnknownNameError


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
    found = expected_improvement(believed([mean], [deviation]), incumbent).score
    assert float(found) == pytest.approx(by_hand, rel=1e-6, abs=1e-9)
    log = float(log_expected_improvement(believed([mean], [deviation]), incumbent).score)
    assert log == pytest.approx(math.log(float(found)), abs=1e-9) if float(found) > 1e-300 else log < -690
    assert float(probability_of_improvement(believed([mean], [deviation]), incumbent).score) == pytest.approx(
        law.sf(incumbent), abs=1e-12
    )


def test_improvement_by_members_agrees_with_the_closed_form() -> None:
    draws = torch.tensor([0.3, -1.0]) + torch.tensor([0.5, 2.0]) * normal(200_000, 2, seed=1)
    belief = UtilityPosterior.of_members(draws)
    torch.testing.assert_close(
        member_improvement(belief, 0.1).score, expected_improvement(belief, 0.1).score, rtol=0.02, atol=0.0
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
    assert expected_improvement(belief, 2.0).score.tolist() == [0.0, 1.0, 0.0]
    assert log_expected_improvement(belief, 2.0).score.tolist() == [-math.inf, 0.0, -math.inf]
    assert probability_of_improvement(belief, 2.0).score.tolist() == [0.0, 1.0, 0.5]


def test_bounds_means_and_thresholds() -> None:
    belief = believed([1.0, 2.0], [3.0, 0.5])
    assert upper_bound(belief, 0.0).score.tolist() == [7.0, 3.0]
    assert expected_utility(belief, 0.0).score.tolist() == [1.0, 2.0]
    assert exploration(belief, 0.0).score.tolist() == [3.0, 0.5]


@settings(max_examples=25)
@given(st.integers(1, 5), st.integers(0, 99))
def test_shares_of_the_optimum_sum_to_k(k: int, seed: int) -> None:
    draws = normal(7, 5, seed=seed).round()  # rounded, so that some tie
    shares = optimum(UtilityPosterior.of_members(draws), 0.0, k=k).score
    assert float(shares.sum()) == pytest.approx(k)
    assert bool(((shares >= 0) & (shares <= 1)).all())


def test_the_share_of_the_optimum_counts_draws() -> None:
    draws = torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5], [2.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    assert optimum(UtilityPosterior.of_members(draws), 0.0).score.tolist() == [0.625, 0.375, 0.0]


def test_every_registered_acquisition_values_candidates_and_goes_on_beside_one() -> None:
    belief = UtilityPosterior.of_members(normal(6, 4, seed=3))
    for name in ACQUISITIONS.names():
        acquisition = ACQUISITIONS.load(name)(belief, 0.0)
        assert isinstance(acquisition, Acquisition)
        assert acquisition.gains().shape == acquisition.adding(2).gains().shape == (4,)
    with pytest.raises(UnknownNameError, match="expected_improvement"):
        ACQUISITIONS.load("expected_improvment")


def test_the_gain_of_a_batch_is_that_of_its_draws() -> None:
    mean, deviation = normal(5, seed=1), normal(5, seed=2).abs()
    draws = mean + deviation * normal(200_000, 5, seed=3)
    drawn = batch_gain(UtilityPosterior.of_members(draws), 0.4)
    assert drawn == pytest.approx(float((draws.amax(1) - 0.4).clamp(min=0).mean()))
    assert batch_gain(UtilityPosterior(mean, deviation.square()), 0.4) == pytest.approx(drawn, rel=0.01)
    one = UtilityPosterior(mean[:1], deviation[:1].square())
    assert batch_gain(one, 0.4) == pytest.approx(float(expected_improvement(one, 0.4).score), rel=1e-3)
    assert batch_gain(UtilityPosterior(mean, 0 * mean), float(mean.max()) + 1) == 0.0


def test_a_belief_refuses_what_is_no_belief() -> None:
    one = torch.ones(1).double()
    with pytest.raises(DataError, match="not finite"):
        UtilityPosterior(one * math.nan, one)
    with pytest.raises(DataError, match="negative"):
        UtilityPosterior(one, -one)
    with pytest.raises(DataError, match="at least one"):
        UtilityPosterior.of_members(torch.ones(0, 2).double())
    with pytest.raises(DataError, match="joint draws"):
        member_improvement(UtilityPosterior(one, one), 0.0)
    with pytest.raises(DataError, match="beta"):
        upper_bound(UtilityPosterior(one, one), 0.0, beta=-1.0)
    for k in (0, 3):
        with pytest.raises(DataError, match=f"the {k} best of 2"):
            optimum(UtilityPosterior.of_members(torch.ones(2, 2).double()), 0.0, k=k)
