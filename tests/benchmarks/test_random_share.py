import math
from collections import Counter
from dataclasses import dataclass
from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal

from benchmarks.bounds.weighted_bounds import DrawLaw, MixedBatch, Softmax, log_probabilities, mixed_batch
from surrogates.errors import DataError


def drawn_from(utility: torch.Tensor, count: int, share: float, law: DrawLaw, seed: int) -> MixedBatch:
    return mixed_batch(utility, count, share=share, law=law, generator=torch.Generator().manual_seed(seed))


def chance(weights: list[float], order: tuple[int, ...]) -> list[float]:
    """Probability of each draw, given those before it."""
    left, chances = set(range(len(weights))), []
    for number in order:
        chances.append(weights[number] / sum(weights[each] for each in left))
        left.remove(number)
    return chances


@given(st.integers(1, 30), st.floats(0, 1), st.sampled_from([0.1, 1.0, math.inf]), st.integers(0, 99))
def test_a_batch_holds_each_candidate_once_and_says_how_it_came(
    count: int, share: float, temperature: float, seed: int
) -> None:
    utility = normal(30, seed=seed)
    batch = drawn_from(utility, count, share, Softmax(temperature), seed)
    assert len(set(batch.numbers.tolist())) == count
    assert int(batch.drawn.sum()) == math.ceil(share * count - 1e-9)
    assert batch.log_probability.isnan().tolist() == (~batch.drawn).tolist()
    assert (batch.log_probability[batch.drawn] <= 0).all()
    rest = [
        number for number in utility.argsort(descending=True).tolist() if number not in batch.numbers[batch.drawn]
    ]
    assert batch.numbers[~batch.drawn].tolist() == rest[: int((~batch.drawn).sum())]
    again = drawn_from(utility, count, share, Softmax(temperature), seed)
    assert batch.numbers.tolist() == again.numbers.tolist()


@given(st.integers(0, 99), st.integers(1, 6), st.sampled_from([0.02, 0.5, 3.0]))
def test_logged_probabilities_are_those_of_drawing_one_by_one(seed: int, count: int, temperature: float) -> None:
    utility = normal(6, seed=seed)
    batch = drawn_from(utility, count, 1.0, Softmax(temperature), seed)
    weights = ((utility - utility.max()) / temperature).exp().tolist()
    expected = chance(weights, tuple(batch.numbers.tolist()))
    assert batch.log_probability.exp().tolist() == pytest.approx(expected, rel=1e-9)


def test_orders_are_drawn_as_often_as_logged() -> None:
    utility, draws = torch.tensor([0.0, 1.0, 1.5, -1.0], dtype=torch.float64), 2000
    generator, law = torch.Generator().manual_seed(0), Softmax(1.0)
    seen: Counter[tuple[int, ...]] = Counter()
    for _ in range(draws):
        batch = mixed_batch(utility, 2, share=1.0, law=law, generator=generator)
        seen[tuple(batch.numbers.tolist())] += 1
    weights = law.log_weights(utility)
    total = 0.0
    for order in permutations(range(4), 2):
        expected = float(log_probabilities(weights, torch.tensor(order)).sum().exp())
        assert seen[order] / draws == pytest.approx(expected, abs=4 * math.sqrt(expected / draws))
        total += expected
    assert total == pytest.approx(1)


@dataclass(frozen=True)
class Above:
    """A law that excludes what is not good enough."""

    least: float

    def log_weights(self, utility: torch.Tensor) -> torch.Tensor:
        return torch.where(utility >= self.least, 0.0, -torch.inf).double()


def test_bad_input_is_refused() -> None:
    utility = torch.arange(5.0)
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(DataError, match=r"temperature .* is not positive"):
            Softmax(temperature)
    with pytest.raises(DataError, match=r"share 1\.2 is not between 0 and 1"):
        drawn_from(utility, 2, 1.2, Softmax(1.0), 0)
    for count in (0, 6):
        with pytest.raises(DataError, match=f"a batch of {count} cannot be taken from 5"):
            drawn_from(utility, count, 0.5, Softmax(1.0), 0)
    with pytest.raises(DataError, match="3 candidates are to be drawn, and the law may draw 2; widen it"):
        drawn_from(utility, 3, 1.0, Above(3.0), 0)
    with pytest.raises(DataError, match="1 of 2 utilities are not finite"):
        drawn_from(torch.tensor([0.0, math.nan]), 1, 0.5, Softmax(1.0), 0)
