"""A fitted screen predicts labels, says what it has seen, and bounds by held-out errors."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pytest
from sklearn.linear_model import Ridge as RidgeRegressor
from strategies.screens import label, pairs_of, planted_screen

from inverse_design.fitting import ScreenFit, fit, surrogate_of
from inverse_design.proposal import propose
from inverse_design.ranking import rank
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import CalibrationError, DataError, UnknownNameError
from surrogates.models import baselines
from surrogates.models.baselines import Additive, FittedScaledAdditive, ScaledAdditive
from surrogates.models.kernel import KernelRidge
from surrogates.models.regressor import FromRegressor
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated
from surrogates.models.wrappers.conformal import conformal

TOGETHER = pairs_of(8, 20)
NEW = next(each for each in pairs_of(8, 28) if each not in TOGETHER)


@cache
def screen(*, alone: int = 8) -> Screen:
    return planted_screen(alone=range(alone), together=TOGETHER, bend=0.3)


@cache
def fitted() -> ScreenFit:
    return fit(screen(), surrogate="scaled_additive")


def test_bounds_are_the_conformal_ones() -> None:
    labels = [label(NEW), label(TOGETHER[0])]
    found = fitted().predict(labels, level=0.8)
    batch = screen().vocabulary.batch([Perturbation.parse(each) for each in labels])
    interval = conformal(fitted().model).interval(batch, 0.8)
    np.testing.assert_array_equal(found.lower, interval.lower)
    np.testing.assert_array_equal(found.upper, interval.upper)
    np.testing.assert_array_equal(found.mean, fitted().model.predict(batch).mean)
    assert found.in_sample.tolist() == [False, True]
    assert list(found.mean.columns) == list(screen().readouts)


def test_the_order_of_parts_does_not_matter() -> None:
    one, other = label(NEW), label(NEW[::-1])
    assert one != other
    first, second = (fitted().predict(each) for each in (one, [other]))
    assert (first.mean.index.tolist(), second.mean.index.tolist()) == ([one], [other])
    for name in ("mean", "lower", "upper"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def test_the_long_table_holds_the_wide_ones() -> None:
    found = fitted().predict([label(NEW), "G00", label(TOGETHER[1])])
    long = found.to_frame()
    assert list(long) == ["perturbation", "readout", "mean", "lower", "upper", "in_sample", "novelty"]
    for name in ("mean", "lower", "upper"):
        wide = long.pivot_table(index="perturbation", columns="readout", values=name, dropna=False)
        expected = getattr(found, name).loc[wide.index, wide.columns]
        np.testing.assert_allclose(wide.to_numpy(), expected.to_numpy())
    assert long["in_sample"].sum() == 2 * len(screen().readouts)


def test_what_cannot_be_calibrated_has_no_bounds_and_says_so() -> None:
    found = fitted().predict("G00")
    assert bool(found.lower.isna().all(axis=None))
    assert bool(found.mean.notna().all(axis=None))
    assert found.notes[0].startswith("warning: bounds of 'single, seen' cannot be calibrated: level 0.9 needs")


def test_parts_that_were_never_alone_have_a_law_of_their_own() -> None:
    some = fit(screen(alone=6), surrogate="scaled_additive")
    found = some.predict([label(NEW), "G06"])
    assert some.model.name == "ScaledAdditive"
    assert sorted(some.model.laws) != [0x22]
    assert bool(found.mean.notna().all(axis=None))


def test_a_screen_of_singles_borrows_its_bounds() -> None:
    lonely = fit(planted_screen(alone=range(8), together=[]))
    found = lonely.predict(["G00+G01"])
    assert found.notes == ("warning: bounds of 'double, 2 of 2 seen' are borrowed from public screens",)
    assert bool((found.lower < found.upper).all(axis=None))
    assert bool(lonely.predict(["G00"]).lower.isna().all(axis=None))  # what is borrowed is of combinations


def test_bad_labels_are_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown gene or compound 'G0': did you mean"):
        fitted().predict(["G0+G01"])
    with pytest.raises(DataError, match=r"'G00\+G01' and 'G01\+G00' are the same perturbation; keep one of them"):
        fitted().predict(["G00+G01", "G01+G00"])
    with pytest.raises(DataError, match="the list of perturbations is empty; name one or more"):
        fitted().predict([])
    with pytest.raises(CalibrationError, match="level 1"):
        fitted().predict("G00", level=1.0)


def test_models_are_named_in_several_ways() -> None:
    assert surrogate_of(None) is surrogate_of("automatic") is None
    assert surrogate_of("scaled_additive") == surrogate_of(ScaledAdditive()) == ScaledAdditive()
    assert surrogate_of(RidgeRegressor(alpha=2)) == FromRegressor(RidgeRegressor(alpha=2))
    with pytest.raises(UnknownNameError, match="unknown model 'aditive': did you mean 'additive'"):
        surrogate_of("aditive")
    with pytest.raises(DataError, match=r"Additive is a class; give an instance of it, Additive\(\)"):
        surrogate_of(Additive)  # type: ignore[arg-type]


def test_configurations_that_choose_or_calibrate_are_taken_as_they_are() -> None:
    for stated in (Automatic((Additive(), ScaledAdditive())), Calibrated(ScaledAdditive(), folds=3)):
        assert fit(screen(), surrogate=stated).model.name == stated.fit(screen(), seed=0).name
    assert len(fit(screen(), surrogate=Calibrated(ScaledAdditive(), folds=3)).model.cross) == 3


@dataclass(frozen=True)
class Counted:
    """A model that notes how often it is fitted."""

    fits: list[int] = field(default_factory=list, compare=False)

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:
        self.fits.append(len(screen))
        return ScaledAdditive().fit(screen, seed=seed)


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes fits of models that nobody asked for."""
    fits: list[str] = []

    def noting(self: object, *_: object, **__: object) -> None:
        fits.append(type(self).__name__)
        raise AssertionError("a model was fitted that nobody asked for")

    monkeypatch.setattr(KernelRidge, "fit", noting)
    monkeypatch.setattr(baselines.Additive, "fit", noting)
    return fits


def test_no_other_model_is_fitted_than_the_stated_one(others: list[str]) -> None:
    mine = Counted()
    proposal = propose(screen(alone=7), label(TOGETHER[0]), surrogate=mine)
    assert proposal.fitted.name == "Counted"
    assert len(mine.fits) == 1 + 5 + 10  # the whole, without each fold, without each pair of folds
    assert others == []
    listed = rank(screen(alone=7), label(TOGETHER[0]), ["G07", label(NEW)], surrogate=mine)
    assert listed.fitted.name == "Counted"
    assert others == []
