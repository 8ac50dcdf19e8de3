import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.gains import DrawnMaximum
from strategies.screens import normal

from inverse_design.acquisition.acquisition import Acquisition, Fallback, Fixed, Thompson, UtilityPosterior
from inverse_design.acquisition.batch import BatchRules, ChosenBatch, choose_batch
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError

ANYTHING = BatchRules()
PAIRS = torch.tensor(list(combinations(range(6), 2)))  # 15 pairs of six genes


def drawn(seed: int = 0) -> DrawnMaximum:
    return DrawnMaximum.of(normal(40, len(PAIRS), seed=seed), 0.5)


def chosen(
    acquisition: Acquisition,
    count: int,
    genes: torch.Tensor = PAIRS,
    rules: BatchRules = ANYTHING,
    seed: int = 0,
    **more: torch.Tensor,
) -> ChosenBatch:
    generator = torch.Generator().manual_seed(seed)
    return choose_batch(acquisition, genes, rules, count, generator=generator, **more)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.sampled_from([0.0, 0.3, 1.0]), st.integers(0, 99))
def test_a_batch_keeps_its_rules(size: int, most: int, share: float, seed: int) -> None:
    pending = normal(len(PAIRS), seed=seed + 1) > 1
    batch = chosen(drawn(seed), size, rules=BatchRules(most, share), seed=seed, pending=pending)
    numbers = batch.numbers.tolist()
    assert len(set(numbers)) == len(numbers) <= size
    assert not bool(pending[batch.numbers].any())
    assert int(PAIRS[batch.numbers].flatten().bincount().max()) <= most
    assert bool((batch.log_probability.isnan() == ~batch.drawn).all())
    if len(numbers) < size:  # nothing else could have been added
        counts = PAIRS[batch.numbers].flatten().bincount(minlength=6)
        for other in set(range(len(PAIRS))) - set(numbers):
            assert pending[other] or int(counts[PAIRS[other]].max()) >= most


def test_the_greedy_batch_is_near_the_best_one() -> None:
    acquisition = drawn(3)
    batch = chosen(acquisition, 3)
    best = max(
        float((acquisition.draws[:, list(three)].amax(1) - 0.5).clamp(min=0).mean())
        for three in combinations(range(len(PAIRS)), 3)
    )
    reached = float((acquisition.draws[:, batch.numbers].amax(1) - 0.5).clamp(min=0).mean())
    assert (1 - 1 / math.e) * best <= reached <= best


def test_pending_experiments_make_their_like_worthless() -> None:
    draws = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.4]]).double()
    acquisition, genes = DrawnMaximum.of(draws, 0.0), torch.tensor([[0, 1], [0, 2], [3, 4]])
    assert chosen(acquisition, 1, genes).numbers.tolist() == [0]
    waiting = torch.tensor([True, False, False])
    assert chosen(acquisition, 1, genes, pending=waiting).numbers.tolist() == [2]


def test_random_picks_come_with_their_probabilities() -> None:
    batch = chosen(drawn(), 4, rules=BatchRules(random_share=0.5), seed=5)
    assert batch.drawn.tolist() == [True, True, False, False]
    assert batch.log_probability[:2].tolist() == pytest.approx([-math.log(15), -math.log(14)])


def test_the_first_random_pick_is_uniform() -> None:
    genes, generator = torch.tensor([[0], [1], [2]]), torch.Generator().manual_seed(1)
    acquisition, rules = DrawnMaximum.of(normal(5, 3, seed=1), 0.0), BatchRules(random_share=1.0)
    picks = [int(choose_batch(acquisition, genes, rules, 1, generator=generator).numbers) for _ in range(600)]
    shares = torch.tensor(picks).bincount(minlength=3) / 600
    torch.testing.assert_close(shares, torch.full((3,), 1 / 3), rtol=0.0, atol=0.06)


def test_equal_seeds_give_equal_batches() -> None:
    one, other = (chosen(drawn(), 6, rules=BatchRules(3, 0.5), seed=4).numbers.tolist() for _ in range(2))
    assert one == other


def test_thompson_takes_the_best_of_each_draw_and_none_twice() -> None:
    draws = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0], [0.0, 1.0, 2.0]]).double()
    genes = torch.tensor([[0, 1], [0, 2], [1, 2]])
    assert chosen(Thompson(draws), 3, genes).numbers.tolist() == [2, 0, 1]


def test_what_no_batch_can_keep_is_refused() -> None:
    for rules in ({"most_per_gene": 0}, {"random_share": 1.5}):
        with pytest.raises(DataError):
            BatchRules(**rules)
    with pytest.raises(DataError, match="ask for at least 1"):
        chosen(drawn(), 0)
    with pytest.raises(NothingToProposeError, match="none of 15"):
        chosen(drawn(), 1, pending=torch.ones(15).bool())


def test_what_gains_nothing_follows_in_the_order_of_the_second_acquisition() -> None:
    belief = UtilityPosterior.of_members(
        torch.tensor([[1.0, 3.0, 0.0, 0.0, 2.5], [2.0, 0.0, 0.0, 0.0, 2.5]]).double()
    )
    score = torch.tensor([9.0, 8.0, -5.0, 7.0, 1.0]).double()
    both = Fallback(DrawnMaximum.of(belief.joint(), 0.5), Fixed(score))
    numbers = chosen(both, 5, torch.arange(5)[:, None]).numbers.tolist()
    assert numbers == [4, 1, 0, 3, 2]  # the best on average, the best in a draw, then by the score
    assert both.adding(4).gains().argmax() == 1
