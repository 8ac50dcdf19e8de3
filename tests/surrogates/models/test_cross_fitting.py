import torch
from strategies.screens import pairs_of, planted_screen

from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.splits import splits_over_doubles, splits_over_targets
from surrogates.models.additive import Additive
from surrogates.models.baselines import NoChange
from surrogates.models.cross_fitting import fit_splits, pooled_errors


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
