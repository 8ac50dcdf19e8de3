import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, KFold, LeaveOneOut
from strategies.screens import normal
from torch import Tensor

from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal import quantiles as plus
from surrogates.uncertainty.conformal.quantiles import conformal_quantile, plus_bounds

LEVELS = (0.1, 0.25, 0.5, 0.8, 0.9, 0.95)
FEATURES = normal(40, 3, seed=0).numpy()
TRUTH = FEATURES @ np.array([1.0, -2.0, 0.5]) + normal(40, seed=1).numpy()
NEW = 2 * normal(6, 3, seed=2).numpy()


def slow(
    centres: list[Tensor], spreads: list[Tensor], scores: list[Tensor], level: float
) -> tuple[list[float], list[float]]:
    """Number by number, with exact ranks."""
    n = sum(map(len, scores))
    rank = math.ceil((n + 1) * Fraction(str(level)))
    lows, highs = [], []
    for place in np.ndindex(centres[0].shape):
        low, high = [], []
        for centre, spread, score in zip(centres, spreads, scores, strict=True):
            for row in score.expand(len(score), *centre.shape[1:]):
                reach = float(row[place[1:]] * spread[place])
                low.append(float(centre[place]) - reach)
                high.append(float(centre[place]) + reach)
        lows.append(sorted(low)[n - rank] if rank <= n else -math.inf)
        highs.append(sorted(high)[rank - 1] if rank <= n else math.inf)
    return lows, highs


def fits(folds: list[int], *, b: int, trailing: tuple[int, ...], shared: bool, seed: int) -> list[list[Tensor]]:
    """Centres, spreads and scores, some of them tied; ``shared`` scores count for all readouts."""
    wide = (1,) if shared and trailing else trailing
    return [
        [normal(b, *trailing, seed=seed + 3 * each) for each in range(len(folds))],
        [normal(b, *trailing, seed=seed + 3 * each + 1).abs() + 0.1 for each in range(len(folds))],
        [normal(n, *wide, seed=seed + 3 * each + 2).abs().mul(4).round().div(4) for each, n in enumerate(folds)],
    ]


@given(
    folds=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    b=st.integers(0, 3),
    trailing=st.sampled_from([(), (1,), (3,)]),
    shared=st.booleans(),
    level=st.sampled_from(LEVELS),
    at_once=st.sampled_from([1, 20, 2**24]),
    seed=st.integers(0, 999),
)
def test_bounds_are_found_number_by_number(
    folds: list[int], b: int, trailing: tuple[int, ...], *, shared: bool, level: float, at_once: int, seed: int
) -> None:
    centres, spreads, scores = fits(folds, b=b, trailing=trailing, shared=shared, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plus, "_NUMBERS_AT_ONCE", at_once)
        lower, upper = plus_bounds(centres, spreads, scores, level)
    lows, highs = slow(centres, spreads, scores, level)
    assert lower.shape == upper.shape == centres[0].shape
    assert lower.flatten().tolist() == lows
    assert upper.flatten().tolist() == highs


@given(st.integers(1, 30), st.sampled_from(LEVELS), st.integers(0, 99))
def test_one_fit_is_split_conformal_prediction(n: int, level: float, seed: int) -> None:
    (centre,), (spread,), (score,) = fits([n], b=2, trailing=(3,), shared=False, seed=seed)
    half = conformal_quantile(score, level) * spread
    lower, upper = plus_bounds([centre], [spread], [score], level)
    assert torch.equal(lower, centre - half)
    assert torch.equal(upper, centre + half)


@given(st.sampled_from(LEVELS), st.integers(0, 99))
def test_neither_the_order_of_fits_nor_that_of_scores_matters(level: float, seed: int) -> None:
    centres, spreads, scores = fits([4, 7, 3], b=2, trailing=(2,), shared=False, seed=seed)
    lower, upper = plus_bounds(centres, spreads, scores, level)
    again = plus_bounds(centres[::-1], spreads[::-1], [each.flip(0) for each in scores[::-1]], level)
    assert torch.equal(lower, again[0])
    assert torch.equal(upper, again[1])


@given(st.integers(0, 99))
def test_a_higher_level_is_never_narrower(seed: int) -> None:
    given_fits = fits([6, 5, 8], b=3, trailing=(2,), shared=True, seed=seed)
    bounds = [plus_bounds(*given_fits, level) for level in LEVELS]
    for (low, high), (lower, upper) in pairwise(bounds):
        assert bool((lower <= low).all() and (high <= upper).all())


def of_mapie(regressor: Any, **fitting: Any) -> Tensor:
    """Lower and upper bounds of the new points at each level."""
    fitted = regressor.fit_conformalize(FEATURES, TRUTH, **fitting)
    return torch.from_numpy(fitted.predict_interval(NEW)[1]).movedim(1, 0)


def by_hand(splits: list[tuple[np.ndarray, np.ndarray]], level: float) -> Tensor:
    """The same from one ridge fit per split."""
    models = [Ridge(alpha=0.5).fit(FEATURES[train], TRUTH[train]) for train, _ in splits]
    centres = [torch.from_numpy(model.predict(NEW)) for model in models]
    scores = [
        torch.from_numpy(np.abs(TRUTH[test] - model.predict(FEATURES[test])))
        for model, (_, test) in zip(models, splits, strict=True)
    ]
    return torch.stack(plus_bounds(centres, [torch.ones_like(each) for each in centres], scores, level))


@pytest.mark.parametrize("kind", ["folds", "groups", "jackknife"])
def test_cross_fitted_bounds_are_those_of_mapie(kind: str) -> None:
    groups = np.arange(40) // 3
    cv = {"folds": KFold(4), "groups": GroupKFold(5), "jackknife": LeaveOneOut()}[kind]
    levels = [0.5, 0.8, 0.9, 0.95]
    judge = CrossConformalRegressor(Ridge(alpha=0.5), confidence_level=levels, method="plus", cv=cv)
    grouped = {"groups": groups} if kind == "groups" else {}
    theirs = of_mapie(judge, **grouped)
    splits = list(cv.split(FEATURES, TRUTH, **grouped))
    for place, level in enumerate(levels):
        torch.testing.assert_close(by_hand(splits, level), theirs[:, :, place], rtol=1e-10, atol=1e-10)


def test_one_fit_gives_the_split_bounds_of_mapie() -> None:
    train, rest = np.arange(20), np.arange(20, 40)
    model = Ridge(alpha=0.5).fit(FEATURES[train], TRUTH[train])
    for level in (0.5, 0.8, 0.9):
        judge = SplitConformalRegressor(model, confidence_level=level, prefit=True)
        theirs = judge.conformalize(FEATURES[rest], TRUTH[rest]).predict_interval(NEW)[1][:, :, 0]
        ours = by_hand([(train, rest)], level)
        torch.testing.assert_close(ours, torch.from_numpy(theirs).T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("level", "needed"), [(0.5, 1), (0.9, 9), (0.95, 19)])
def test_too_few_scores_bound_nothing(level: float, needed: int) -> None:
    enough, short = (fits([1, count - 1], b=2, trailing=(3,), shared=True, seed=0) for count in (needed, needed))
    short[2] = [each[1:] if not number else each for number, each in enumerate(short[2])]
    assert bool(torch.stack(plus_bounds(*enough, level)).isfinite().all())
    lower, upper = plus_bounds(*short, level)
    assert bool((lower == -math.inf).all())
    assert bool((upper == math.inf).all())


def test_no_scores_at_all_bound_nothing() -> None:
    lower, upper = plus_bounds(*fits([0], b=2, trailing=(), shared=False, seed=0), 0.5)
    assert (lower.tolist(), upper.tolist()) == ([-math.inf] * 2, [math.inf] * 2)


def test_an_infinite_score_counts_and_says_nothing() -> None:
    centres, spreads, scores = fits([19], b=1, trailing=(), shared=False, seed=0)
    scores[0][3] = math.inf
    assert bool(plus_bounds(centres, spreads, scores, 0.9)[1].isfinite().all())
    assert plus_bounds(centres, spreads, scores, 0.95)[1].tolist() == [math.inf]


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -0.1, math.nan])
def test_a_level_that_is_no_probability_is_refused(level: float) -> None:
    with pytest.raises(CalibrationError, match="not between 0 and 1"):
        plus_bounds(*fits([9], b=1, trailing=(), shared=False, seed=0), level)


def test_scores_that_are_not_numbers_are_refused() -> None:
    centres, spreads, scores = fits([5, 6], b=1, trailing=(2,), shared=False, seed=0)
    scores[1][4, 1] = math.nan
    with pytest.raises(CalibrationError, match=r"1 of 12 scores are NaN, the first at 4, 1"):
        plus_bounds(centres, spreads, scores, 0.5)


@given(st.integers(0, 99), st.sampled_from([0.8, 0.9]))
@settings(max_examples=20)
def test_the_box_holds_what_cross_conformal_prediction_does_not_reject(seed: int, level: float) -> None:
    centres, spreads, scores = fits([6, 6, 7], b=1, trailing=(3,), shared=True, seed=seed)
    centres = [0.2 * each for each in centres]
    lower, upper = plus_bounds(centres, spreads, scores, level)
    tried = torch.cat([0.1 * normal(100, 3, seed=seed), normal(400, 3, seed=seed + 1)])
    worse = torch.zeros(500, dtype=torch.int64)
    for centre, spread, score in zip(centres, spreads, scores, strict=True):
        mine = ((tried - centre) / spread).abs().amax(1, keepdim=True)
        worse += (mine > score.T).sum(1)
    kept = worse < math.ceil(20 * Fraction(str(level)))
    inside = ((tried >= lower) & (tried <= upper)).all(1)
    assert bool(kept.any())
    assert bool(inside[kept].all())
