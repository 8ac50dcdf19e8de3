import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.special import digamma, polygamma
from strategies.screens import normal, pairs_of, planted_screen

from surrogates.data.catalogue import open_dataset
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import single_effects
from surrogates.models.wrappers.public_law import (
    PUBLIC_SCREENS,
    BorrowedSum,
    PublicLaw,
    PublicScreen,
    SingleSpread,
    public_law,
)

GENES, READOUTS = 10, 6
PAIRS = pairs_of(GENES, 30)


def screen(noise: float = 0.3) -> Screen:
    return planted_screen(alone=range(GENES), together=PAIRS, readouts=READOUTS, noise=noise)


def found(of: Screen) -> PublicScreen:
    return PublicScreen.measured(of, name="planted", source="here")


def spread_of(of: Screen) -> SingleSpread:
    return SingleSpread.of(*single_effects(of))


def test_the_numbers_of_a_screen_are_those_of_a_loop_over_its_doubles() -> None:
    effects = screen().effects
    singles = effects[:GENES]
    sums = torch.stack([singles[i] + singles[j] for i, j in PAIRS])
    doubles = effects[GENES:]
    scale = float((sums * doubles).sum() / (sums * sums).sum())
    raw = (singles - singles.mean(0)).square().mean(0)
    unit = raw / 2 + raw.mean() / 2
    sizes = ((singles - singles.mean(0)).square() / unit).mean(1)
    sizes = sizes / sizes.mean()
    got = found(screen())
    assert (got.readouts, got.doubles) == (READOUTS, 30)
    assert got.scale == pytest.approx(scale)
    errors, expected, squares = [], [], []
    for (i, j), double, both in zip(PAIRS, doubles, sums, strict=True):
        errors.append(float(((double - scale * both).square() / unit).mean() / 2))
        squares.append(float((both.square() / unit).mean() / 2))
        expected.append(1 - got.share + got.share * float(sizes[i] + sizes[j]) / 2)
    ratios = [error / h for error, h in zip(errors, expected, strict=True)]
    assert got.ratio == pytest.approx(sum(ratios) / 30)
    assert got.sums == pytest.approx(sum(squares) / 30)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_share_is_that_by_which_strong_singles_are_missed_more(share: float) -> None:
    genes, pairs = 40, pairs_of(40, 700)
    plain = planted_screen(alone=range(genes), together=pairs, readouts=20, noise=0.0)
    strength = torch.linspace(-2, 2, genes, dtype=torch.float64).exp()
    singles = normal(genes, 20, seed=1) * strength[:, None]
    sizes = SingleSpread.of(singles, torch.ones(genes, dtype=torch.bool)).sizes
    first, second = torch.tensor(pairs).T
    far = (1 - share + share * (sizes[first] + sizes[second]) / 2).sqrt()[:, None]
    doubles = 0.8 * (singles[first] + singles[second]) + 0.2 * far * normal(700, 20, seed=2)
    got = found(replace(plain, effects=torch.cat([singles, doubles])))
    assert got.share == pytest.approx(share, abs=0.1)
    assert got.scale == pytest.approx(0.8, abs=0.02)
    assert got.within < 0.05


def test_another_scale_costs_what_it_misses() -> None:
    got, other = found(screen()), 0.5
    effects = screen().effects
    sums = torch.stack([effects[i] + effects[j] for i, j in PAIRS])
    unit = 2 * spread_of(screen()).variance
    lost = [((effects[GENES:] - scale * sums).square() / unit).mean() for scale in (got.scale, other)]
    # Exact where all readouts have the same unit.
    assert got.ratio_at(other) - got.ratio == pytest.approx(float(lost[1] - lost[0]), rel=0.1)
    assert got.ratio_at(got.scale) == got.ratio


def test_the_law_pools_screens_and_is_as_unsure_as_they_differ() -> None:
    ratios = (0.1, 0.2, 0.4, 0.05, 0.3)
    screens = [PublicScreen("s", "", 5, 50, 0.8, each, 0.4, 1.0, 0.3) for each in ratios]
    law = PublicLaw.of(screens)
    logs = torch.tensor(ratios, dtype=torch.float64).log()
    assert law.scale == pytest.approx(0.8)
    assert law.share == pytest.approx(0.4)
    assert law.ratio == pytest.approx(sum(ratios) / 5)
    half = law.degrees / 2
    assert float(polygamma(1, half)) == pytest.approx(float(logs.var()) * 1.2 * 4 / 2 + 0.3)
    # A squared error is level * nu / chi²: its mean logarithm is that of the screens less their scatter.
    assert math.log(law.level) + math.log(half) - float(digamma(half)) == pytest.approx(float(logs.mean()) - 0.15)
    alike = PublicLaw.of([replace(screens[0], within=0.0)] * 4)
    assert alike.degrees == 200
    assert alike.level == pytest.approx(0.1, rel=0.01)


def test_drawn_errors_have_the_spread_of_single_effects() -> None:
    spread = spread_of(screen())
    drawn = spread.draws(20_000, seed=0)
    torch.testing.assert_close(drawn.square().mean(0), spread.variance, rtol=0.05, atol=0)
    centred = spread.departures
    covariance = centred.T @ centred / len(centred) / 2
    off = ~torch.eye(READOUTS, dtype=torch.bool)
    size = float(spread.variance.mean())
    torch.testing.assert_close((drawn.T @ drawn / 20_000)[off], covariance[off], rtol=0, atol=0.03 * size)


def test_half_of_all_squared_errors_are_below_the_median_of_the_law() -> None:
    law, spread = public_law(), spread_of(screen())
    errors = law.errors(spread, 4000, seed=0)
    assert torch.equal(errors, law.errors(spread, 4000, seed=0))
    logs = (errors.square() / (2 * spread.variance)).mean(1).log()
    stated = math.log(law.level) + math.log(law.degrees / 2) - float(digamma(law.degrees / 2))
    # Few readouts: the mean of their squares has a logarithm below that of its expectation.
    fewer = float(digamma(spread.independent_readouts / 2)) - math.log(spread.independent_readouts / 2)
    assert float(logs.mean()) == pytest.approx(stated + fewer, abs=0.15)


def test_sums_are_shrunk_and_singles_stay() -> None:
    of = screen()
    fitted = BorrowedSum().fit(of.rows(range(GENES)), seed=0)
    mean = fitted.predict(of.batch).mean
    torch.testing.assert_close(mean[:GENES], of.effects[:GENES])
    sums = torch.stack([of.effects[i] + of.effects[j] for i, j in PAIRS])
    torch.testing.assert_close(mean[GENES:], public_law().scale * sums)


def test_one_single_or_equal_ones_have_their_own_size_as_spread() -> None:
    one = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    for singles in (one, one.expand(4, 2)):
        spread = SingleSpread.of(singles, torch.ones(len(singles), dtype=torch.bool))
        torch.testing.assert_close(spread.variance, torch.tensor([3.0, 7.0], dtype=torch.float64))
        assert spread.sizes.tolist() == [1.0] * len(singles)
    nothing = SingleSpread.of(0 * one, torch.ones(1, dtype=torch.bool))
    assert float(nothing.variance.min()) > 0
    assert nothing.independent_readouts == 1


def test_too_few_doubles_or_screens_are_refused() -> None:
    with pytest.raises(DataError, match="planted has 1 doubles of two measured singles"):
        found(screen().rows(range(GENES + 1)))
    with pytest.raises(DataError, match="1 screens do not tell how much screens differ"):
        PublicLaw.of(PUBLIC_SCREENS[:1])


@pytest.mark.parametrize("name", ["norman2019_expr", "cellbox_skmel133"])
def test_the_shipped_table_is_what_the_screens_say(name: str, real_data: Callable[[str], Path]) -> None:
    real_data(name)
    (shipped,) = (each for each in PUBLIC_SCREENS if each.name == name)
    now = PublicScreen.measured(open_dataset(name), name=name, source=shipped.source)
    assert (shipped.readouts, shipped.doubles) == (now.readouts, now.doubles)
    for field in ("scale", "ratio", "share", "sums", "within"):
        assert getattr(shipped, field) == pytest.approx(getattr(now, field), abs=0.006)
