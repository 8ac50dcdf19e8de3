import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.bounds.weighted_bounds import ProposalLog, effective_count, weighted_bound
from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.quantiles import conformal_quantile

points = st.lists(
    st.tuples(st.floats(-9, 9) | st.just(math.inf), st.integers(0, 9)), min_size=1, max_size=30
).filter(lambda drawn: any(weight for _, weight in drawn))
percents = st.integers(1, 99)


def double(values: list[float] | list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(points, st.lists(st.integers(0, 40), max_size=5), percents)
def test_bounds_are_found_by_adding_weights(drawn: list[tuple[float, int]], new: list[int], percent: int) -> None:
    scores, weights = zip(*drawn, strict=True)
    found = weighted_bound(double(list(scores)), double(list(weights)), double(new), percent / 100).quantile
    for own, bound in zip(new, found.tolist(), strict=True):
        total = sum(weights) + own
        enough = [
            score
            for score in scores
            if 100 * sum(weight for other, weight in drawn if other <= score) >= percent * total
        ]
        assert bound == min(enough, default=math.inf)


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=60), percents, st.sampled_from([1e-300, 0.1, 3.0, 1e200]))
def test_equal_weights_give_the_plain_quantile(drawn: list[float], percent: int, weight: float) -> None:
    scores, level = double(drawn), percent / 100
    bound = weighted_bound(scores, torch.full_like(scores, weight), double([weight]), level)
    assert float(bound.quantile) == float(conformal_quantile(scores, level))
    assert bound.effective_count == pytest.approx(len(drawn))


@given(points, percents, st.integers(0, 99))
def test_order_and_a_common_factor_do_not_matter(drawn: list[tuple[float, int]], percent: int, seed: int) -> None:
    scores, weights = (double(list(each)) for each in zip(*drawn, strict=True))
    order = torch.randperm(len(drawn), generator=torch.Generator().manual_seed(seed))
    new = double([0, 1, 7])
    one = weighted_bound(scores, weights, new, percent / 100)
    other = weighted_bound(scores[order], 8 * weights[order], 8 * new, percent / 100)
    assert one.quantile.tolist() == other.quantile.tolist()
    assert one.effective_count == pytest.approx(other.effective_count)


def test_a_heavier_candidate_has_a_wider_bound_and_at_last_none() -> None:
    scores = torch.arange(1.0, 20.0, dtype=torch.float64)
    bound = weighted_bound(scores, torch.ones(19), double([0.0, 1.0, 1.9, 3.0, math.inf]), 0.9)
    assert bound.quantile.tolist() == [18.0, 18.0, 19.0, math.inf, math.inf]
    assert bound.share_infinite == pytest.approx(0.4)
    assert bound.line == (
        "90% bounds from 19 held-out perturbations, worth 19.0 after weighting;"
        " 40% of 5 candidates have no finite bound"
    )


def test_effective_count_is_that_of_equal_weights() -> None:
    assert effective_count(double([3, 3, 3, 0, 0])) == pytest.approx(3)
    assert effective_count(double([5, 0])) == pytest.approx(1)
    assert effective_count(double([1, 2])) == pytest.approx(9 / 5)


def test_weights_restore_the_coverage_that_a_design_takes() -> None:
    """Noise grows with the feature, and the design prefers large features."""
    worlds, count, level = 1500, 50, 0.9
    generator = torch.Generator().manual_seed(0)
    calibration = torch.rand(worlds, count, generator=generator, dtype=torch.float64)
    candidate = torch.rand(worlds, generator=generator, dtype=torch.float64).sqrt()  # of density 2 x
    scores = calibration * torch.randn(worlds, count, generator=generator, dtype=torch.float64).abs()
    new = candidate * torch.randn(worlds, generator=generator, dtype=torch.float64).abs()
    one = torch.ones(count, dtype=torch.float64)
    weighted = [
        ProposalLog(one, 2 * x, one[:1], 2 * z[None]).bound(s, level).quantile
        for x, z, s in zip(calibration, candidate, scores, strict=True)
    ]
    held = float((new <= torch.cat(weighted)).double().mean())
    plain = float((new <= conformal_quantile(scores.T, level)).double().mean())
    assert plain < 0.86
    assert 0.885 <= held <= 0.935


def test_a_candidate_that_could_not_have_calibrated_has_no_bound() -> None:
    log = ProposalLog(double([0.5, 0.25]), double([0.1, 0.1]), double([0.0, 0.5]), double([0.1, 0.1]))
    torch.testing.assert_close(log.weights, double([0.2, 0.4]))
    assert log.new_weights.tolist() == [math.inf, 0.2]
    assert log.bound(double([1.0, 2.0]), 0.5).quantile.tolist() == [math.inf, 2.0]


@pytest.mark.parametrize(
    ("then", "now", "new_now", "message"),
    [
        ([0.0, 0.5], [0.1, 0.1], [0.1], "1 calibration perturbations were measured although their probability"),
        ([0.5, 0.5], [0.1, 0.1], [0.0], "1 candidates are proposed although their probability was zero under"),
        ([-0.5, 0.5], [0.1, 0.1], [0.1], r"negative or NaN, the first at 0: -0\.5"),
        ([0.5, 0.5], [0.1, math.nan], [0.1], "1 of 2 present probabilities .* the first at 1: nan"),
    ],
)
def test_logs_that_cannot_be_are_refused(
    then: list[float], now: list[float], new_now: list[float], message: str
) -> None:
    with pytest.raises(CalibrationError, match=message):
        ProposalLog(double(then), double(now), double([0.5]), double(new_now))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.0, 0.0], "all 2 weights are zero"),
        ([1.0, -1.0], "1 of 2 weights of calibration perturbations are negative or NaN, the first at 1: -1"),
        ([math.nan, 1.0], "negative or NaN"),
        ([math.inf, 1.0], "infinite"),
        ([], "all 0 weights"),
    ],
)
def test_bad_weights_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(CalibrationError, match=message):
        weighted_bound(torch.zeros(len(weights)).double(), double(weights), double([1.0]), 0.9)


def test_bad_scores_levels_and_candidates_are_refused() -> None:
    one = double([1.0])
    with pytest.raises(CalibrationError, match="1 of 1 scores are NaN"):
        weighted_bound(double([math.nan]), one, one, 0.9)
    with pytest.raises(CalibrationError, match=r"level 1\.0 is not"):
        weighted_bound(one, one, one, 1.0)
    with pytest.raises(CalibrationError, match="weights of new candidates"):
        weighted_bound(one, one, -one, 0.9)
