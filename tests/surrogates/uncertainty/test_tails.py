import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal
from torch import Tensor

from surrogates.uncertainty.conformal.quantiles import conformal_quantile
from surrogates.uncertainty.heteroscedastic import Tails

N, READOUTS = 60, 50
APART = torch.arange(N)


def band_width(tails: Tails, errors: Tensor, spread: Tensor) -> float:
    """Width of a 90 % band, calibrated on one half and laid around the other."""
    down, up = tails.reach(spread)
    score = torch.maximum(errors / up, -errors / down).amax(1)
    return float(conformal_quantile(score, 0.9) * (down + up).mean())


@given(st.integers(0, 99), st.sampled_from([0.1, 0.3, 1.0]))
@settings(max_examples=20)
def test_reach_is_that_of_the_equation(seed: int, floor: float) -> None:
    lower, upper, spread = (normal(*shape, seed=seed + n).exp() for n, shape in enumerate([(5,), (5,), (4, 5)]))
    down, up = Tails(lower, upper, floor).reach(spread)
    for row in range(4):
        for found, tail in ((down, lower), (up, upper)):
            plain = spread[row] * tail
            torch.testing.assert_close(found[row], plain + floor * plain.sum() / 5)


def heavy(seed: int) -> Tensor:
    """Some readouts are silent, but for one move in twenty upwards."""
    errors = normal(N, READOUTS, seed=seed)
    rare = torch.arange(READOUTS) < 10
    moves = (normal(N, READOUTS, seed=seed + 1) > 1.6).double()
    return torch.where(rare, 0.01 * errors + 8 * moves, errors)


def test_what_is_missed_on_one_side_is_bounded_on_one_side() -> None:
    errors = heavy(1)
    spread = errors.square().mean(0).sqrt().expand_as(errors)
    tails = Tails.learn(errors, spread, APART)
    assert bool((tails.upper[:10] > 1.5 * tails.lower[:10]).all())
    new = heavy(5)
    plain = Tails(torch.ones(READOUTS).double(), torch.ones(READOUTS).double(), 0.0)
    assert band_width(tails, new, spread) < 0.85 * band_width(plain, new, spread)


def test_tails_that_are_alike_are_not_told_apart() -> None:
    tails = Tails.learn(normal(N, READOUTS, seed=4), torch.ones(N, READOUTS).double(), APART)
    torch.testing.assert_close(tails.lower, tails.upper)
    assert float((tails.lower.log() - tails.lower.log().mean()).abs().max()) < 0.3


def test_a_floor_holds_the_band_of_readouts_that_were_silent() -> None:
    """Each readout moves in one row of 60: by the others it never does."""
    errors = 0.01 * normal(N, READOUTS, seed=4)
    errors[torch.arange(READOUTS), torch.arange(READOUTS)] = 3.0
    spread = (errors.square().sum(0, keepdim=True) - errors.square()).div(N - 1).sqrt()
    tails = Tails.learn(errors, spread, APART)
    assert tails.floor == 1.0
    _, up = tails.reach(spread)
    assert float(up.min()) > 0.5 * float((spread * tails.upper).mean())


def test_a_row_that_was_held_out_twice_does_not_judge_itself() -> None:
    errors = normal(30, 20, seed=2)
    errors[0, 0] = 200.0
    spread = torch.ones(60, 20).double()
    twice, same = torch.cat([errors, errors]), torch.arange(30).repeat(2)
    apart, alike = (Tails.learn(twice, spread, each) for each in (torch.arange(60), same))
    once = Tails.learn(errors, spread[:30], torch.arange(30))
    assert alike.floor == once.floor
    # As if the readout were known to be heavy-tailed, where the same row says so.
    assert float(apart.upper[0]) == pytest.approx(float(alike.upper[0]), rel=0.2)


@pytest.mark.parametrize("count", [2, 5])
def test_too_few_rows_for_a_band_have_tails_all_the_same(count: int) -> None:
    tails = Tails.learn(normal(count, 6, seed=1), torch.ones(count, 6).double(), torch.arange(count))
    assert bool((tails.lower > 0).all() and (tails.upper > 0).all() and tails.upper.isfinite().all())
