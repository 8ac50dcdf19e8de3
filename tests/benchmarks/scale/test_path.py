import math

import pytest

from benchmarks.scale.path import PathCost, Step, growth, measured
from benchmarks.scale.screens import LargeScreen, gene_symbols
from surrogates.errors import DataError


def test_screens_have_the_size_that_is_asked_for() -> None:
    screen = LargeScreen(singles=9, readouts=7, doubles=5).draw()
    assert screen.effects.shape == (14, 7)
    assert screen.batch.order.tolist() == [1] * 9 + [2] * 5
    assert len(set(gene_symbols(3000))) == 3000
    with pytest.raises(DataError, match="36 pairs, fewer than 40"):
        LargeScreen(singles=9, readouts=7, doubles=40).draw()


def test_fit_and_proposal_are_measured() -> None:
    fit, proposal = measured(LargeScreen(singles=12, readouts=10))
    assert fit.seconds > 0
    assert proposal.seconds > 0


def test_the_exponent_of_growth() -> None:
    costs = [
        PathCost(LargeScreen(singles, 1), Step(seconds, 1.0), Step(seconds, 1.0))
        for singles, seconds in ((100, 1.0), (200, 4.0), (400, math.nan))
    ]
    assert growth(costs)[0] == pytest.approx(2)
    assert math.isnan(growth(costs)[1])
