import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal
from torch import Tensor

from inverse_design.problem.likelihood import Replicates
from inverse_design.search.first_rows import FirstRows, RowLaw
from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal.quantiles import conformal_quantile

NOISE = Replicates(torch.tensor([0.1, 0.2, 0.3, 0.4]).double(), "made up")


def rows(n: int, *, right: float, stated: float | None = None, seed: int = 0) -> FirstRows:
    """First rows of which a share is right, with the probability that is stated of each."""
    generator = torch.Generator().manual_seed(seed)
    made = torch.rand(n, generator=generator) < right
    expected = 1 + torch.rand(n, generator=generator, dtype=torch.float64)
    other = expected * (0.2 * normal(n, seed=seed)).exp()
    return FirstRows(
        probability=torch.full((n,), right if stated is None else stated, dtype=torch.float64),
        expected=expected,
        measured=torch.where(made, 0.0, other),
        made=made,
        other_expected=expected,
        other_measured=other,
    )


def by_hand(law: RowLaw, probability: float, expected: float) -> tuple[float, float]:
    """The largest value with at most the tail below it, the smallest with at most the tail above it."""
    logs = law.ratio.log()
    middle, n = float(logs.median()), len(logs)
    part = (1 - probability) / (2 * (n + 1))
    other = [(0.0, part), (math.inf, part)]
    for each in logs.tolist():
        reach = abs(each - middle)
        other += [(expected * math.exp(middle - reach), part), (expected * math.exp(middle + reach), part)]
    noise = law.noise.distances.tolist()
    low = [*other, (0.0, probability)]
    high = [*other, *((each, probability / len(noise)) for each in noise)]
    slack = law.tail + 1e-9
    lower = max(v for v, _ in low if sum(w for u, w in low if u < v) <= slack)
    upper = min(v for v, _ in high if sum(w for u, w in high if u > v) <= slack)
    return lower, upper if math.isfinite(upper) else max(v for v, _ in high if math.isfinite(v))


@settings(max_examples=30)
@given(
    st.floats(0, 1),
    st.floats(0.1, 10),
    st.lists(st.floats(0.2, 5), min_size=9, max_size=30),
    st.sampled_from([0.001, 0.05, 0.1, 0.25]),
)
def test_bounds_are_quantiles_of_the_mixture(
    probability: float, expected: float, ratio: list[float], tail: float
) -> None:
    law = RowLaw(torch.tensor(ratio, dtype=torch.float64), NOISE, tail, 1 - 2 * tail)
    found = law.state(*torch.tensor([[probability], [expected]], dtype=torch.float64))
    assert (float(found.lower), float(found.upper)) == pytest.approx(by_hand(law, probability, expected))
    mean = probability * 0.25 + (1 - probability) * expected * float(law.ratio.mean())
    assert float(found.expected) == pytest.approx(mean)


def test_a_row_that_made_nothing_has_the_conformal_interval_around_the_median_ratio() -> None:
    law = RowLaw.learn(rows(50, right=0.0), NOISE, 0.9)
    middle = law.ratio.log().median()
    reach = conformal_quantile((law.ratio.log() - middle).abs(), 0.9)
    found = law.state(torch.zeros(1).double(), torch.tensor([2.0]).double())
    assert float(found.lower) == pytest.approx(float(2 * (middle - reach).exp()))
    assert float(found.upper) == pytest.approx(float(2 * (middle + reach).exp()))


def test_a_row_that_surely_made_the_target_is_at_zero_or_at_noise() -> None:
    law = RowLaw.learn(rows(50, right=0.9), NOISE, 0.9)
    found = law.state(torch.ones(1).double(), torch.tensor([2.0]).double())
    assert (float(found.lower), float(found.upper)) == (0.0, pytest.approx(0.4))
    assert float(found.expected) == pytest.approx(0.25)


@pytest.mark.parametrize("right", [0.0, 0.5, 0.9])
def test_where_probabilities_are_kept_the_nominal_tails_are_cut_off(right: float) -> None:
    assert RowLaw.learn(rows(400, right=right), NOISE, 0.9).tail == pytest.approx(0.05)


@pytest.mark.parametrize(("right", "stated"), [(0.4, 0.999), (0.6, 0.001)])
def test_where_probabilities_are_broken_bounds_are_widened_until_first_rows_are_held(
    right: float, stated: float
) -> None:
    known, new = (rows(300, right=right, stated=stated, seed=seed) for seed in (1, 2))
    law = RowLaw.learn(known, NOISE, 0.9)
    assert law.tail < 0.01
    for each in (known, new):
        found = law.state(each.probability, each.expected)
        held = (found.lower <= each.measured) & (each.measured <= found.upper)
        assert float(held.double().mean()) >= 0.86


def test_what_is_held_is_what_has_more_than_the_tail_on_both_sides() -> None:
    known = rows(60, right=0.5, stated=0.3)
    law = RowLaw.learn(known, NOISE, 0.8)
    found = law.state(known.probability, known.expected)
    held = (found.lower <= known.measured) & (known.measured <= found.upper)
    assert torch.equal(held, law.beside(known) > law.tail + 1e-9)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(CalibrationError, match="8 held-out doubles with another beside them"):
        RowLaw.learn(rows(8, right=0.5), NOISE, 0.9)
    unknown = rows(20, right=0.5)
    alone = FirstRows(unknown.probability, unknown.expected, unknown.measured, unknown.made, _nan(20), _nan(20))
    with pytest.raises(CalibrationError, match="0 held-out doubles"):
        RowLaw.learn(alone, NOISE, 0.9)
    with pytest.raises(CalibrationError, match="is not between 0 and 1"):
        RowLaw.learn(unknown, NOISE, 1.0)


def _nan(n: int) -> Tensor:
    return torch.full((n,), torch.nan, dtype=torch.float64)
