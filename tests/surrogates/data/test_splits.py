from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import pairs_of, planted_screen

from surrogates.data.novelty import (
    folds_of_doubles,
    folds_of_singles,
    splits_over_doubles,
    splits_over_targets,
)
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError

LABELS = ("A", "A@0.5", "B", "C", "D", "A+B", "A+C", "A+D", "B+C", "B+D", "C+D", "A+B+C")


def _screen(labels: Sequence[str], contexts: Sequence[str] | None = None) -> Screen:
    effects = torch.arange(len(labels) * 2, dtype=torch.float64).reshape(-1, 2)
    return Screen.from_labels(
        effects, [Perturbation.parse(label) for label in labels], ["x", "y"], contexts=contexts
    )


def test_doubles_are_dealt_evenly_and_nothing_else_is() -> None:
    folds = folds_of_doubles(_screen(LABELS), seed=0)
    assert (folds[:5] == -1).all()
    assert folds[11] == -1
    assert sorted(torch.bincount(folds[5:11]).tolist()) == [1, 1, 1, 1, 2]


@given(order=st.permutations(range(len(LABELS))), seed=st.integers(0, 9))
def test_folds_do_not_depend_on_the_order_of_rows(order: list[int], seed: int) -> None:
    screen = _screen(LABELS)
    shuffled = screen.rows(order)
    assert folds_of_doubles(shuffled, seed=seed).tolist() == folds_of_doubles(screen, seed=seed)[order].tolist()
    assert folds_of_singles(shuffled, seed=seed).tolist() == folds_of_singles(screen, seed=seed)[order].tolist()


def test_seeds_differ() -> None:
    assert len({tuple(folds_of_doubles(_screen(LABELS), seed=seed).tolist()) for seed in range(5)}) > 1


def test_the_annotation_wins_for_doubles_only() -> None:
    given_folds = [7, 7, 7, 7, 7, 0, 1, 0, -1, 1, 0, 7]
    screen = replace(_screen(LABELS), annotations=pd.DataFrame({"double_fold": given_folds}))
    assert folds_of_doubles(screen, seed=0).tolist() == [-1] * 5 + [0, 1, 0, -1, 1, 0, -1]


def test_an_annotation_that_is_no_number_is_refused() -> None:
    screen = replace(_screen(LABELS), annotations=pd.DataFrame({"double_fold": [0.5] * len(LABELS)}))
    with pytest.raises(DataError, match="'double_fold' holds float64"):
        folds_of_doubles(screen, seed=0)


def test_all_doses_of_a_target_are_in_one_fold() -> None:
    folds = folds_of_singles(_screen(LABELS), folds=4, seed=0)
    assert folds[0] == folds[1]
    assert sorted(folds[1:5].tolist()) == [0, 1, 2, 3]
    assert (folds[5:] == -1).all()


def test_a_perturbation_is_in_one_fold_in_all_contexts() -> None:
    screen = _screen([*LABELS, *LABELS], ["one"] * len(LABELS) + ["two"] * len(LABELS))
    for folds in (folds_of_doubles(screen, seed=0), folds_of_singles(screen, seed=0)):
        assert folds[: len(LABELS)].tolist() == folds[len(LABELS) :].tolist()


def test_splits_over_doubles_hold_each_double_of_seen_parts_out_once() -> None:
    screen = planted_screen(alone=range(6), together=[*pairs_of(6, 9), (2, 6), (0, 1, 2)])
    splits = splits_over_doubles(screen, folds=4, seed=0)
    assert sorted(torch.cat([split.test for split in splits]).tolist()) == [*range(6, 15)]
    for split in splits:
        assert sorted([*split.train.tolist(), *split.test.tolist()]) == [*range(len(screen))]
    assert splits_over_doubles(screen.rows(range(7)), folds=4, seed=0) == []


def test_splits_over_targets_train_on_nothing_that_contains_a_held_out_target() -> None:
    screen = planted_screen(alone=range(6), together=[*pairs_of(6, 9), (2, 6), (0, 1, 2)])
    marks = screen.batch.multi_hot(len(screen.vocabulary)) > 0
    held_out: list[int] = []
    for split in splits_over_targets(screen, folds=3, seed=0):
        singles = split.test[screen.batch.order[split.test] == 1]
        held_out += singles.tolist()
        held = screen.batch.genes[singles, 0]
        assert not bool(marks[split.train][:, held].any())
        assert bool(marks[split.test][:, held].any(1).all())
        assert sorted([*split.train.tolist(), *split.test.tolist()]) == [*range(len(screen))]
    assert sorted(held_out) == [*range(6)]
