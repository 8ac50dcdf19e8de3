import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mapie.conformity_scores import BaseRegressionScore
from mapie.conformity_scores.bounds.std_normalised import StdConformityScore
from mapie.regression import SplitConformalRegressor
from sklearn.base import BaseEstimator, RegressorMixin
from strategies.screens import normal

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.quantiles import (
    attainable_level,
    conformal_quantile,
    coverage_band,
    least_count,
    quantile_rank,
    require_count,
)

# Levels as people write them, and what they mean: 0.9 is nine tenths.
levels = st.integers(1, 99).map(lambda percent: (percent / 100, Fraction(percent, 100)))
scores = st.lists(st.floats(-9, 9) | st.just(math.inf), max_size=40)


class Nothing(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Predicts zero with a standard deviation of one."""

    def __init__(self) -> None:
        self.fitted_ = True

    def fit(self, features: np.ndarray, truth: np.ndarray) -> "Nothing":  # noqa: ARG002 - as regressors have
        return self

    def predict(self, features: np.ndarray, return_std: bool = False) -> Any:  # noqa: FBT001, FBT002
        zero = np.zeros(len(features))
        return (zero, zero + 1) if return_std else zero


def of_mapie(truth: np.ndarray, level: float, score: str | BaseRegressionScore) -> tuple[float, float]:
    """Bounds around a prediction of zero."""
    features = np.zeros((len(truth), 1))
    judge = SplitConformalRegressor(Nothing(), confidence_level=level, conformity_score=score, prefit=True)
    _, bounds = judge.conformalize(features, truth).predict_interval(features[:1])
    return float(bounds[0, 0, 0]), float(bounds[0, 1, 0])


@given(levels, st.integers(0, 300))
def test_the_rank_is_the_exact_one(level: tuple[float, Fraction], count: int) -> None:
    number, exact = level
    assert quantile_rank(count, number) == math.ceil((count + 1) * exact)
    enough = next(n for n in range(1000) if math.ceil((n + 1) * exact) <= n)
    assert least_count(number) == enough
    assert attainable_level(enough) >= number - 1e-12


@given(scores, levels)
def test_the_quantile_is_found_by_counting(drawn: list[float], level: tuple[float, Fraction]) -> None:
    number, exact = level
    found = float(conformal_quantile(torch.tensor(drawn, dtype=torch.float64), number))
    enough = [each for each in drawn if sum(other <= each for other in drawn) >= exact * (len(drawn) + 1)]
    assert found == min(enough, default=math.inf)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9, 0.95])
@pytest.mark.parametrize("count", [20, 50, 100])
def test_absolute_scores_give_the_interval_of_mapie(count: int, level: float) -> None:
    truth = normal(count, seed=count)
    found = float(conformal_quantile(truth.abs(), level))
    assert of_mapie(truth.numpy(), level, "absolute") == (-found, found)


def test_nine_are_enough_for_nine_tenths_but_mapie_wants_more() -> None:
    truth = normal(9, seed=0)
    assert float(conformal_quantile(truth.abs(), 0.9)) == float(truth.abs().max())
    with pytest.raises(ValueError, match="too low"):
        of_mapie(truth.numpy(), 0.9, "absolute")


@pytest.mark.parametrize("count", [20, 50, 100])
def test_ours_has_rank_k_where_a_lower_bound_of_mapie_has_one_less(count: int) -> None:
    truth = normal(count, seed=count)
    ascending = truth.abs().sort().values
    rank = math.ceil((count + 1) * 0.9)
    assert float(conformal_quantile(truth.abs(), 0.9)) == float(ascending[rank - 1])
    lower, upper = of_mapie(truth.numpy(), 0.9, StdConformityScore())
    assert upper == pytest.approx(float(ascending[rank - 1]))
    assert lower == pytest.approx(-float(ascending[rank - 2]))  # a flaw of 1.6.0; if this fails, it is mended


@pytest.mark.parametrize(("count", "level"), [(9, 0.9), (20, 0.9), (50, 0.9), (30, 0.5)])
def test_coverage_is_as_promised_and_varies_as_the_band_says(count: int, level: float) -> None:
    sets = 4000
    drawn = torch.rand(count, sets, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    coverage = conformal_quantile(drawn, level)  # of uniform scores, the quantile is its own coverage
    promised = quantile_rank(count, level) / (count + 1)
    assert level <= promised <= level + 1 / (count + 1)
    assert float(coverage.mean()) == pytest.approx(promised, abs=0.005)
    low, high = coverage_band(count, level, probability=0.8)
    assert float((coverage < low).double().mean()) == pytest.approx(0.1, abs=0.02)
    assert float((coverage > high).double().mean()) == pytest.approx(0.1, abs=0.02)


def test_columns_are_judged_on_their_own() -> None:
    drawn = normal(25, 4, seed=3)
    one_by_one = torch.stack([conformal_quantile(column, 0.8) for column in drawn.T])
    torch.testing.assert_close(conformal_quantile(drawn, 0.8), one_by_one, atol=0, rtol=0)


@pytest.mark.parametrize("level", [0.0, 1.0, -0.1, 90.0, math.nan])
@pytest.mark.parametrize("use", [least_count, lambda level: conformal_quantile(torch.zeros(3), level)])
def test_a_level_outside_0_to_1_is_refused(use: Callable[[float], Any], level: float) -> None:
    with pytest.raises(CalibrationError, match=f"level {level} is not between 0 and 1"):
        use(level)


def test_too_few_and_nan_are_refused_with_what_to_do() -> None:
    with pytest.raises(CalibrationError, match=r"8 held-out .* up to 0\.889; level 0\.9 needs 9: hold out more"):
        require_count(8, 0.9)
    with pytest.raises(CalibrationError, match="support no level"):
        require_count(0, 0.9)
    with pytest.raises(CalibrationError, match="needs 19"):
        coverage_band(18, 0.95)
    bad = torch.tensor([0.0, math.nan, 1.0, math.nan])
    with pytest.raises(CalibrationError, match="2 of 4 scores are NaN, the first at 1"):
        conformal_quantile(bad, 0.5)
