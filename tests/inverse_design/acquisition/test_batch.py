import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.gains import DrawnMaximum
from strategies.screens import normal

from inverse_design.acquisition.batch import (
    BatchAcquisition,
    BatchRules,
    Determinantal,
    FacilityLocation,
    Fallback,
    Fixed,
    Pool,
    Thompson,
    choose_batch,
)
from inverse_design.acquisition.posterior import UtilityPosterior
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError
from surrogates.uncertainty.conformal.adaptive import MixedBatch, Softmax

PAIRS = torch.tensor(list(combinations(range(6), 2)))  # 15 pairs of six genes


def drawn(seed: int = 0) -> DrawnMaximum:
    return DrawnMaximum.of(normal(40, len(PAIRS), seed=seed), 0.5)


def chosen(preference: BatchAcquisition, rules: BatchRules, pool: Pool | None = None, seed: int = 0) -> MixedBatch:
    generator = torch.Generator().manual_seed(seed)
    return choose_batch(preference, pool or Pool.free(PAIRS), rules, generator=generator)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 4),
    st.floats(0.0, 12.0),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.integers(0, 99),
)
def test_a_batch_keeps_its_rules(size: int, most: int, budget: float, share: float, seed: int) -> None:
    cost = normal(len(PAIRS), seed=seed).abs() + 0.1
    pending = normal(len(PAIRS), seed=seed + 1) > 1
    rules = BatchRules(size, most_per_gene=most, budget=budget, random_share=share)
    try:
        batch = chosen(drawn(seed), rules, Pool(PAIRS, cost, pending), seed)
    except NothingToProposeError:
        assert float(cost[~pending].min()) > budget
        return
    numbers = batch.numbers.tolist()
    assert len(set(numbers)) == len(numbers) <= size
    assert not bool(pending[batch.numbers].any())
    assert float(cost[batch.numbers].sum()) <= budget * (1 + 1e-9)
    assert int(PAIRS[batch.numbers].flatten().bincount().max()) <= most
    assert bool((batch.log_probability.isnan() == ~batch.drawn).all())
    if len(numbers) < size:  # nothing else could have been added
        counts = PAIRS[batch.numbers].flatten().bincount(minlength=6)
        left = budget - float(cost[batch.numbers].sum())
        for other in set(range(len(PAIRS))) - set(numbers):
            assert pending[other] or cost[other] > left or int(counts[PAIRS[other]].max()) >= most


def test_the_greedy_batch_is_near_the_best_one() -> None:
    preference = drawn(3)
    batch = chosen(preference, BatchRules(3))
    best = max(
        float((preference.draws[:, list(three)].amax(1) - 0.5).clamp(min=0).mean())
        for three in combinations(range(len(PAIRS)), 3)
    )
    reached = float((preference.draws[:, batch.numbers].amax(1) - 0.5).clamp(min=0).mean())
    assert (1 - 1 / math.e) * best <= reached <= best


def test_pending_experiments_make_their_like_worthless() -> None:
    draws = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.4]]).double()
    preference = DrawnMaximum.of(draws, 0.0)
    genes = torch.tensor([[0, 1], [0, 2], [3, 4]])
    assert chosen(preference, BatchRules(1), Pool.free(genes)).numbers.tolist() == [0]
    waiting = Pool(genes, torch.zeros(3).double(), torch.tensor([True, False, False]))
    assert chosen(preference, BatchRules(1), waiting).numbers.tolist() == [2]


def test_random_picks_come_with_their_probabilities() -> None:
    utility = torch.arange(15.0).double() / 5
    pool, rules = Pool.free(PAIRS), BatchRules(4, random_share=0.5)
    generator = torch.Generator().manual_seed(5)
    batch = choose_batch(drawn(), pool, rules, generator=generator, law=Softmax(1.0), utility=utility)
    assert batch.drawn.tolist() == [True, True, False, False]
    first, second = batch.numbers[:2].tolist()
    left = utility.clone()
    left[first] = -math.inf
    assert float(batch.log_probability[0]) == pytest.approx(float(utility[first] - utility.logsumexp(0)))
    assert float(batch.log_probability[1]) == pytest.approx(float(utility[second] - left.logsumexp(0)))


def test_the_first_random_pick_follows_its_law() -> None:
    utility, rules = torch.tensor([0.0, 1.0, 2.0]).double(), BatchRules(1, random_share=1.0)
    preference = DrawnMaximum.of(normal(5, 3, seed=1), 0.0)
    generator = torch.Generator().manual_seed(1)
    pool = Pool.free(torch.tensor([[0], [1], [2]]))
    picks = [
        int(choose_batch(preference, pool, rules, generator=generator, law=Softmax(1.0), utility=utility).numbers)
        for _ in range(600)
    ]
    shares = torch.tensor(picks).bincount(minlength=3) / 600
    torch.testing.assert_close(shares.double(), utility.softmax(0), rtol=0.0, atol=0.06)


def test_equal_seeds_give_equal_batches() -> None:
    rules = BatchRules(6, random_share=0.5, most_per_gene=3)
    assert chosen(drawn(), rules, seed=4).numbers.tolist() == chosen(drawn(), rules, seed=4).numbers.tolist()


def test_plates_hold_replicates_and_controls() -> None:
    assert BatchRules(100, plate_size=96, controls=8, replicates=2).room == 44
    assert BatchRules(100, plate_size=24, plates=2, controls=4, replicates=3).room == 13
    assert BatchRules(10, plate_size=96, controls=8, replicates=2).room == 10
    with pytest.raises(DataError, match="no room"):
        BatchRules(5, plate_size=24, controls=20, replicates=5)


def test_thompson_takes_the_best_of_each_draw_and_none_twice() -> None:
    draws = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0], [0.0, 1.0, 2.0]]).double()
    pool = Pool.free(torch.tensor([[0, 1], [0, 2], [1, 2]]))
    assert chosen(Thompson(draws), BatchRules(3), pool).numbers.tolist() == [2, 0, 1]


def test_the_determinantal_step_is_a_ratio_of_determinants() -> None:
    preference = Determinantal.of(normal(8, seed=1), normal(8, 5, seed=2), weight=0.5)
    kernel = preference.features @ preference.features.T
    picked: list[int] = []
    state = preference
    for _ in range(4):
        before = kernel[picked][:, picked].logdet() if picked else torch.tensor(0.0).double()
        for other in set(range(8)) - set(picked):
            with_it = [*picked, other]
            assert float(state.gains()[other]) == pytest.approx(
                float(kernel[with_it][:, with_it].logdet() - before), abs=1e-8
            )
        picked.append(int(state.gains().argmax()))
        state = state.adding(picked[-1])
    assert len(set(picked)) == 4


def test_diversity_takes_no_twin_while_anything_else_is_left() -> None:
    effects = normal(4, 6, seed=3)[[0, 0, 1, 2]]
    quality = torch.tensor([3.0, 3.0, 1.0, 1.0]).double()
    pool = Pool.free(torch.tensor([[0], [1], [2], [3]]))
    for preference in (
        Determinantal.of(quality, effects, weight=1.0),
        FacilityLocation.of(quality, effects),
    ):
        picks = chosen(preference, BatchRules(3), pool).numbers.tolist()
        assert len({0, 1} & set(picks)) == 1
    everything = chosen(Determinantal.of(quality, effects, weight=1.0), BatchRules(4), pool)
    assert sorted(everything.numbers.tolist()) == [0, 1, 2, 3]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99))
def test_facility_location_adds_what_its_sum_grows_by(seed: int) -> None:
    weight, effects = normal(6, seed=seed).abs(), normal(6, 3, seed=seed + 1)
    state = FacilityLocation.of(weight, effects)
    likeness = state.likeness

    def total(numbers: list[int]) -> float:
        return float((weight * likeness[:, numbers].amax(1)).sum())

    one = state.adding(2)
    assert float(state.gains()[2]) == pytest.approx(total([2]))
    assert float(one.gains()[4]) == pytest.approx(total([2, 4]) - total([2]), abs=1e-9)


def test_a_budget_buys_gain_per_cost() -> None:
    draws = torch.tensor([[1.0, 0.9, 0.0]]).double()
    preference = DrawnMaximum.of(draws, 0.0)
    pool = Pool(torch.tensor([[0], [1], [2]]), torch.tensor([5.0, 1.0, 0.0]).double(), torch.zeros(3).bool())
    assert chosen(preference, BatchRules(1, budget=5.0), pool).numbers.tolist() == [1]
    with pytest.raises(NothingToProposeError, match="cheapest experiment, which costs 2"):
        chosen(preference, BatchRules(1, budget=1.0), Pool(pool.genes, pool.cost + 2.0, pool.pending))


def test_what_no_batch_can_keep_is_refused() -> None:
    for rules in ({"size": 0}, {"size": 1, "random_share": 1.5}, {"size": 1, "budget": math.nan}):
        with pytest.raises(DataError):
            BatchRules(**rules)
    with pytest.raises(DataError, match="cost -1"):
        Pool(PAIRS[:1], torch.tensor([-1.0]).double(), torch.tensor([False]))
    with pytest.raises(DataError, match="weight -1"):
        Determinantal.of(torch.ones(2).double(), torch.ones(2, 2).double(), weight=-1.0)
    with pytest.raises(DataError, match="negative"):
        FacilityLocation.of(-torch.ones(2).double(), torch.ones(2, 2).double())
    with pytest.raises(NothingToProposeError, match="none of 15"):
        chosen(drawn(), BatchRules(1), Pool(PAIRS, torch.ones(15).double(), torch.ones(15).bool()))


def test_what_gains_nothing_follows_in_the_order_of_the_second_preference() -> None:
    belief = UtilityPosterior.of_members(
        torch.tensor([[1.0, 3.0, 0.0, 0.0, 2.5], [2.0, 0.0, 0.0, 0.0, 2.5]]).double()
    )
    score = torch.tensor([9.0, 8.0, -5.0, 7.0, 1.0]).double()
    both = Fallback(DrawnMaximum.of(belief.joint(), 0.5), Fixed(score))
    pool, rules = Pool.free(torch.arange(5)[:, None]), BatchRules(size=5, most_per_gene=None, random_share=0.0)
    chosen = choose_batch(both, pool, rules, generator=torch.Generator().manual_seed(0)).numbers.tolist()
    assert chosen == [4, 1, 0, 3, 2]  # the best on average, the best in a draw, then by the score
    assert both.adding(4).gains().argmax() == 1
