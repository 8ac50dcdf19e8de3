from dataclasses import replace

import pandas as pd
import pytest
import torch
from strategies.judged import LEVELS, QUICK, cards, three_folds
from strategies.screens import pairs_of, planted_screen

from inverse_design.validate import calibration
from inverse_design.validate.calibration import Behind, measure_calibration
from surrogates.data.novelty import SEEN_DOUBLE, UNSEEN_SINGLE, double_splits
from surrogates.data.screen import Screen
from surrogates.errors import CalibrationError, DataError
from surrogates.models.wrappers.conformal import FittedConformal, conformal


def test_every_held_out_perturbation_is_judged_once_by_what_has_not_seen_it() -> None:
    screen = three_folds()
    card = cards()[0]
    assert (card.variant, card.code) == ("all_readouts", SEEN_DOUBLE)
    every = torch.cat([split.test for split in double_splits(screen, seed=0)]).sort().values
    assert torch.equal(card.judged.conditions, every)
    for split in double_splits(screen, seed=0):
        calibrated = conformal(QUICK.fit(screen.rows(split.train), seed=0))
        interval = calibrated.interval(screen.batch.rows(split.test), 0.8)
        truth = screen.effects[split.test]
        within = ((interval.lower <= truth) & (truth <= interval.upper)).double().mean(1)
        at = torch.searchsorted(card.judged.conditions, split.test)
        torch.testing.assert_close(card.judged.column("coverage_80_all")[at], within)


def test_own_readouts_are_judged_with_all_readouts() -> None:
    # Every gene of the tiny screen is a target, so that nothing is left without them.
    assert {card.variant for card in cards()} == {"all_readouts"}
    assert {card.code for card in cards()} == {SEEN_DOUBLE, UNSEEN_SINGLE}
    assert not bool(cards()[0].judged.column("coverage_80_own").isnan().any())


def test_targets_removed_leaves_own_readouts_out() -> None:
    screen = _partly_own()
    found = measure_calibration(screen, QUICK, seed=0, levels=(0.8,), classes=("double-2",))
    assert [card.variant for card in found] == ["targets_removed", "all_readouts"]
    removed, whole = (card.judged for card in found)
    assert bool(removed.column("coverage_80_own").isnan().all())
    owned = ~whole.column("coverage_80_own").isnan()
    touched = [bool({0, 1} & set(screen.batch.genes[row].tolist())) for row in whole.conditions.tolist()]
    assert owned.tolist() == touched
    assert not torch.equal(whole.column("width_80_all"), removed.column("width_80_all"))
    # The same numbers as those of a screen that never had the readouts.
    alone = measure_calibration(
        screen.with_readouts(range(2, 8)), QUICK, seed=0, levels=(0.8,), classes=("double-2",)
    )
    for name in ("width_80_all", "set_size_80", "distance_coverage_80"):
        torch.testing.assert_close(removed.column(name), alone[0].judged.column(name))


def test_perturbations_held_out_twice_stand_behind_a_class_once() -> None:
    found = measure_calibration(three_folds(), QUICK, seed=0, levels=(0.5,), classes=("double-1",))
    behind = found[0].behind[0.5]
    assert isinstance(behind, Behind)
    assert behind.count <= 16
    assert int(behind.line.split()[0]) >= behind.count


def test_a_class_that_cannot_be_calibrated_says_why() -> None:
    found = measure_calibration(three_folds(), QUICK, seed=0, levels=(0.5, 0.99), classes=("double-2",))
    assert set(found[0].behind) == {0.5}
    assert "level 0.99 needs 99" in found[0].refused["99 % bounds"]
    assert "99 % set" in found[0].refused
    assert "coverage_99_all" not in found[0].judged.columns
    assert "posterior_coverage_99_all" in found[0].judged.columns


def test_nothing_held_out_inside_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> FittedConformal:
        raise CalibrationError("nothing was held out")

    monkeypatch.setattr(calibration, "conformal", refuse)
    found = measure_calibration(three_folds(), QUICK, seed=0, levels=(0.8,), classes=("double-2",))
    assert found[0].refused["80 % bounds"] == "nothing was held out"
    assert found[0].behind == {}


def test_progress_counts_the_fits() -> None:
    seen: list[tuple[int, int]] = []
    measure_calibration(
        three_folds(),
        QUICK,
        seed=0,
        levels=(0.8,),
        classes=("double-2",),
        most_held_out=3,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    total = seen[-1][1]
    assert seen == [(number, total) for number in range(total + 1)]
    assert total <= 3


def test_at_most_so_many_are_held_out() -> None:
    found = measure_calibration(
        three_folds(), QUICK, seed=0, levels=(0.8,), classes=("double-2",), most_held_out=5
    )
    assert len(found[0].judged) == 5


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, -0.1, float("nan")])
def test_bad_levels(level: float) -> None:
    with pytest.raises(CalibrationError, match="not between 0 and 1"):
        measure_calibration(three_folds(), QUICK, seed=0, levels=(0.8, level))


def test_bad_screens() -> None:
    with pytest.raises(DataError, match="nothing of double-2 can be held out"):
        measure_calibration(three_folds().rows(range(10)), QUICK, seed=0, classes=("double-2",))
    screen = three_folds()
    two = replace(screen, contexts=("a",) * 10 + ("b",) * (len(screen) - 10))
    with pytest.raises(DataError, match="context"):
        measure_calibration(two, QUICK, seed=0)


def test_levels_are_those_of_the_default() -> None:
    assert set(LEVELS) < set(calibration.LEVELS)


def _partly_own() -> Screen:
    """Eight readouts of which two bear the names of genes."""
    planted = planted_screen(alone=range(8), together=pairs_of(8, 20), readouts=8)
    folds = pd.DataFrame({"double_fold": [-1] * 8 + [number % 2 for number in range(20)]})
    return replace(planted, readouts=("G00", "G01", *planted.readouts[2:]), annotations=folds)
