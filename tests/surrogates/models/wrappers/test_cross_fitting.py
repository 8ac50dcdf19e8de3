import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import pairs_of, planted_screen

from surrogates.data.novelty import SEEN_DOUBLE, splits_over_doubles, splits_over_targets
from surrogates.models.baselines import Additive, NoChange
from surrogates.models.wrappers.cross_fitting import fit_splits, pooled_errors, shares_of_targets


def test_every_condition_is_predicted_by_a_fit_that_has_not_seen_it() -> None:
    screen = planted_screen(alone=range(8), together=pairs_of(8, 12))
    splits = splits_over_doubles(screen, folds=4, seed=0)
    (found,) = pooled_errors(fit_splits((Additive(), NoChange()), screen, splits, seed=0))
    assert (found.code, found.support) == (SEEN_DOUBLE, 12)
    rows = torch.cat([split.test for split in splits])
    torch.testing.assert_close(found.errors[1], screen.effects[rows])
    sums = screen.batch.multi_hot(8)[rows] @ screen.effects[:8]
    torch.testing.assert_close(found.errors[0], screen.effects[rows] - sums)


def test_the_class_is_that_of_the_training_part() -> None:
    screen = planted_screen(alone=range(10), together=pairs_of(10, 20))
    splits = splits_over_targets(screen, folds=5, seed=0)
    found = {each.code: each.support for each in pooled_errors(fit_splits((NoChange(),), screen, splits, seed=0))}
    assert found[16] == 10
    assert SEEN_DOUBLE not in found
    # A pair whose targets are held out apart is held out twice.
    assert found[33] + 2 * found.get(32, 0) == 40


def test_nothing_held_out_gives_nothing() -> None:
    assert pooled_errors(fit_splits((NoChange(),), planted_screen(alone=range(4), together=[]), [], seed=0)) == ()


@given(st.lists(st.sets(st.sampled_from("abcdef"), max_size=3).map(frozenset), max_size=30))
def test_every_unseen_target_counts_the_same(hidden: list[frozenset[str]]) -> None:
    shares = shares_of_targets(hidden).tolist()
    targets = {target for each in hidden for target in each}
    counts = dict.fromkeys(targets, 0.0)
    for share, each in zip(shares, hidden, strict=True):
        if not each:
            assert share == 1
        # What a condition counts, shared out to its targets in proportion to how much each needs.
        needs = {target: 1 / sum(1 / len(other) for other in hidden if target in other) for target in each}
        for target, need in needs.items():
            counts[target] += share * need / sum(needs.values())
    assert counts == pytest.approx(dict.fromkeys(targets, 1.0))


def test_conditions_of_one_target_share_its_weight() -> None:
    screen = planted_screen(alone=range(10), together=[(0, other) for other in range(1, 10)])
    splits = splits_over_targets(screen, folds=10, seed=0)
    found = {each.code: each for each in pooled_errors(fit_splits((NoChange(),), screen, splits, seed=0))}
    # Gene 0 is held out with nine doubles, each other gene with one.
    assert found[33].support == 18
    assert found[33].independent == 10
    assert sorted(found[33].shares.tolist()) == pytest.approx([1 / 9] * 9 + [1.0] * 9)
    assert found[16].shares.tolist() == [1.0] * 10
    # Each double was held out by the split of gene 0 and by that of its other gene.
    apart = dict.fromkeys(found[33].conditions.tolist(), frozenset[int]())
    for condition, split in zip(found[33].conditions.tolist(), found[33].splits.tolist(), strict=True):
        apart[condition] |= {split}
    assert [len(each) for each in apart.values()] == [2] * 9
    assert len(frozenset.intersection(*apart.values())) == 1
