import math

import pytest

from benchmarks.peers.growth import Growth
from benchmarks.peers.process import Measured
from benchmarks.peers.triples import triples_beside
from benchmarks.scale import triples
from surrogates.evaluation.intervals import Row

LINE = Growth(((100, Measured((1.0,), (1.0,), None, ())), (1100, Measured((2.0,), (2.0,), None, ()))))


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triples, "STATUS", triples.STATUS / "absent")  # no process of its own


def rows(seconds: float) -> list[Row]:
    growths = {"loop": LINE, "never": Growth(failed=True)}
    return triples_beside(growths, genes=40, dimensions=3, k=5, seconds=seconds, seed=0)


def test_triples_are_searched_and_others_read_off_their_lines() -> None:
    bounded, loop = rows(60.0)
    assert (bounded.model, bounded.metric, bounded.n) == ("bounded_search", "seconds", 1)
    assert 0 < bounded.value < 60
    assert (loop.model, loop.n) == ("~ loop, linear from 100 and 1,100 pairs", 0)
    assert loop.value == pytest.approx(2 + (math.comb(40, 3) - 1100) / 1000)
    assert bounded.variant == loop.variant == "9,880 triples"


def test_a_search_that_was_stopped_is_called_so() -> None:
    assert rows(0.0)[0].model == "bounded_search (stopped)"
