import pytest
import torch
from scipy import integrate, stats

from inverse_design.acquisition.quadratic import NormalScores


def bent() -> NormalScores:
    """One law of three pieces, the last of which goes on."""
    return NormalScores(
        torch.tensor([[0.0, 0.5, 2.0, 2.5]]).double(), torch.tensor([[1.0, 0.0, -0.5, -3.0]]).double()
    )


def chance(law: NormalScores, y: float) -> float:
    at, score = law.at[0].tolist(), law.score[0].tolist()
    piece = min(max(number for number, each in enumerate(at) if each <= y), len(at) - 2)
    slope = (score[piece + 1] - score[piece]) / (at[piece + 1] - at[piece])
    return float(stats.norm.cdf(score[piece] + slope * (y - at[piece])))


def test_expectations_are_integrals_of_chances() -> None:
    law = bent()
    least = torch.tensor([0.0, 0.3, 0.5, 1.7, 2.0, 2.4, 2.5, 3.0]).double()
    known = [
        integrate.quad(lambda y: chance(law, y), low, 8.0, points=[0.5, 2.0, 2.5], limit=200)[0]
        for low in least.tolist()
    ]
    assert law.beyond(least)[0].tolist() == pytest.approx(known, rel=1e-6)
    assert float(law.expected) == pytest.approx(known[0], rel=1e-6)
    assert float(law.probability) == pytest.approx(stats.norm.cdf(1.0))
    halved = law.in_units(2.0)
    assert float(halved.expected) == pytest.approx(known[0] / 2, rel=1e-6)


def test_beyond_the_reach_there_is_nothing_to_count() -> None:
    for law in (bent(), NormalScores.of_normal(torch.tensor([-9.0]).double(), torch.tensor([0.5]).double())):
        reach = float(law.reach)
        assert chance(law, reach) < 1e-13 * chance(law, 0.0)
        assert chance(law, 0.5 * reach) > 1e-13 * chance(law, 0.0)


def test_a_known_utility_gains_what_it_is_better() -> None:
    law = NormalScores.of_normal(torch.tensor([2.0, -1.0]).double(), torch.zeros(2).double())
    assert law.expected.tolist() == pytest.approx([2.0, 0.0], abs=1e-8)
    assert law.probability.tolist() == [1.0, 0.0]


def test_laws_are_joined_and_taken_apart() -> None:
    other = NormalScores(bent().at, bent().score - 1)
    both = NormalScores.joined([bent(), other])
    assert float(both.rows(torch.tensor([1])).expected) == float(other.expected)
    assert len(NormalScores.joined([]).expected) == 0
