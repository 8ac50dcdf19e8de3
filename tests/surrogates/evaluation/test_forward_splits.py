import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import planted_screen

from surrogates.data.novelty import (
    CLASSES,
    SEEN_DOUBLE,
    double_splits,
    forward_protocols,
    held_out_classes,
    single_splits,
    target_splits,
)
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

NETWORK = Network(genes=12)
DESIGN = singles_and_doubles(NETWORK, doubles=40, seed=0)


@pytest.fixture(scope="module")
def screen() -> Screen:
    return SaturatingWorld(NETWORK, strength=2.0, noise=0.02).screen(DESIGN, seed=0)


def test_every_double_is_held_out_once_and_every_single_is_for_training(screen: Screen) -> None:
    splits = [*double_splits(screen, seed=0)]
    assert sorted(torch.cat([split.test for split in splits]).tolist()) == [*range(12, 52)]
    for split in splits:
        assert set(split.train.tolist()) == set(range(52)) - set(split.test.tolist())


def test_doubles_with_a_part_never_measured_alone_are_not_predicted(screen: Screen) -> None:
    without = screen.rows(range(1, 52))  # G000 was not measured alone
    held = torch.cat([split.test for split in double_splits(without, seed=0)])
    assert held.numel() > 0
    assert not any("G000" in without.labels[row] for row in held)


def test_nothing_with_a_held_out_target_is_for_training(screen: Screen) -> None:
    splits = [*single_splits(screen, seed=0)]
    assert sorted(torch.cat([split.test for split in splits]).tolist()) == [*range(12)]
    for split in splits:
        held = {screen.labels[row] for row in split.test}
        touched = {row for row, label in enumerate(screen.labels) if held & set(label.split("+"))}
        assert set(split.train.tolist()) == set(range(52)) - touched


@given(st.integers(0, 20), st.integers(6, 9))
def test_held_out_doubles_have_only_known_or_held_out_parts(seed: int, genes: int) -> None:
    together = [*((a, a + 1) for a in range(genes)), (0, 1, 2)]  # the last gene is never alone
    screen = planted_screen(alone=range(genes), together=together, seed=seed)
    for split in target_splits(screen, seed=seed):
        trained = {part for row in split.train for part in screen.labels[row].split("+")}
        alone = {screen.labels[row] for row in split.train}
        for row in split.test.tolist():
            parts = screen.labels[row].split("+")
            assert len(parts) <= 2
            assert all(part in alone or part not in trained for part in parts)
            assert any(part not in trained for part in parts)


def test_all_doses_of_a_target_are_held_out_together() -> None:
    names = [f"{drug}@{dose}" for drug in "ABCDEF" for dose in (1, 2)] + ["A@1+B@2", "C@2+D@1"]
    effects = torch.arange(14.0 * 3).reshape(14, 3).double().sin()
    screen = Screen.from_labels(effects, [Perturbation.parse(name) for name in names], ["x", "y", "z"])
    for split in target_splits(screen, seed=0):
        held = {part.split("@")[0] for row in split.test for part in screen.labels[row].split("+")}
        singles = {label.split("@")[0] for label in (screen.labels[row] for row in split.test) if "+" not in label}
        trained = {part.split("@")[0] for row in split.train for part in screen.labels[row].split("+")}
        assert singles
        assert singles <= held
        assert not singles & trained


def test_protocols_hold_only_wanted_classes_of_two_or_more(screen: Screen) -> None:
    doubles, targets = forward_protocols(screen, list(CLASSES.values()), seed=0)
    assert doubles.classes == (SEEN_DOUBLE,)
    assert targets.classes == (CLASSES["double-1"], CLASSES["double-0"], CLASSES["single-0"])
    assert targets.novelty == "double, 1 of 2 seen; double, 0 of 2 seen; single, unseen"
    (only,) = forward_protocols(screen, [CLASSES["double-0"]], seed=0)
    for split, codes in zip(only.splits, only.codes, strict=True):
        assert (
            codes.tolist() == held_out_classes(screen, split).tolist() == [CLASSES["double-0"]] * len(split.test)
        )
        assert len(split.test) > 0
    assert forward_protocols(screen.rows(range(12)), [SEEN_DOUBLE], seed=0) == []
