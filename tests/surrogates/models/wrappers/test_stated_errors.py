"""Learnt errors: what they know, what they must not know, and that bounds made of them hold."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from strategies.screens import normal, pairs_of, planted_screen

from benchmarks.forward.worlds import NetworkFamily
from surrogates.artefact import Origin, load_fitted, save_fitted
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.evaluation.metrics import all_covered_rows
from surrogates.evaluation.scorecard import own_readout_marks
from surrogates.models.base import Surrogate
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.conformal import FittedConformal, conformal
from surrogates.models.wrappers.stated_errors import FittedStatedErrors, StatedErrors, state_errors
from surrogates.uncertainty.heteroscedastic import ErrorScale
from surrogates.uncertainty.posterior import Interval
from surrogates.uncertainty.readout_variance import Circumstances

GENES = 14


@cache
def screen(bent: str = "") -> Screen:
    """Combinations of some genes are hard; ``bent`` is a double whose effects are changed."""
    plain = planted_screen(alone=range(GENES), together=pairs_of(GENES, 60), readouts=16, noise=0.1)
    hard = (0.9 * normal(GENES, seed=8)).exp()
    size = hard[plain.batch.genes.clamp(min=0)].prod(1) * (plain.batch.order == 2)
    effects = plain.effects + 0.4 * size[:, None] * normal(*plain.effects.shape, seed=9)
    if bent:
        effects[plain.labels.index(bent)] += 5 * normal(16, seed=4)
    return replace(plain, effects=effects)


@cache
def fitted(bent: str = "", *, scaled: bool = True) -> FittedCalibrated:
    base: Surrogate = ScaledAdditive() if scaled else Additive()
    return Calibrated(base).fit(screen(bent).rows(range(GENES + 44)), seed=0)


def scale_of(view: object) -> ErrorScale:
    assert isinstance(view, FittedStatedErrors)
    return view.scales[SEEN_DOUBLE]


def test_the_scale_is_that_of_the_held_out_predictions() -> None:
    whole = fitted()
    evidence = whole.evidence[SEEN_DOUBLE]
    mean = evidence.mean + whole.law(SEEN_DOUBLE).offset
    given = Circumstances.of(
        mean,
        evidence.scale,
        evidence.batch,
        singles=whole.singles,
        alone=whole.measured_alone,
        own=torch.zeros(mean.shape, dtype=torch.bool),
    )
    learnt = ErrorScale.learn(evidence.measured - mean, given)
    stated = state_errors(whole)
    batch = screen().batch.rows(slice(GENES + 44, None))
    posterior = whole.predict(batch)
    new = Circumstances.of(
        posterior.mean,
        posterior.scale,
        batch,
        singles=whole.singles,
        alone=whole.measured_alone,
        own=torch.zeros(posterior.mean.shape, dtype=torch.bool),
    )
    torch.testing.assert_close(stated.predict(batch).variance, learnt["combinations"].variance(new))
    assert torch.equal(stated.predict(batch).mean, posterior.mean)
    assert (stated.vocabulary, stated.readouts) == (whole.vocabulary, whole.readouts)
    assert torch.equal(stated.measured_alone, whole.measured_alone)


@pytest.mark.parametrize("scaled", [True, False])
def test_what_states_the_errors_of_a_fold_has_not_seen_it(scaled: bool) -> None:  # noqa: FBT001 - a parameter
    name = screen().labels[GENES + 3]
    one, other = StatedErrors.of(fitted(scaled=scaled)), StatedErrors.of(fitted(name, scaled=scaled))
    for fold, again in zip(one.folds, other.folds, strict=True):
        labels = {screen().vocabulary.perturbation(genes).label for genes in fold.batch.genes}
        usual = [scale_of(each.fitted).readouts.usual for each in (fold, again)]
        assert torch.equal(*usual) == (name in labels)


def test_hard_combinations_are_told_from_easy_ones() -> None:
    batch, effects = screen().batch.rows(slice(GENES + 44, None)), screen().effects[GENES + 44 :]
    stated = state_errors(fitted()).predict(batch)
    actual = (effects - stated.mean).square().sum(1)
    assert spearmanr(stated.variance.sum(1), actual).statistic > 0.6
    law = fitted().predict(batch).variance.sum(1)
    assert float(law.std() / law.mean()) < 0.1 < float(stated.variance.sum(1).std() / law.mean())


def test_classes_without_evidence_keep_the_variances_of_their_law() -> None:
    stated = state_errors(fitted())
    singles = screen().batch.rows(slice(0, 5))
    torch.testing.assert_close(stated.predict(singles).variance, fitted().predict(singles).variance)
    assert stated.scale(17) is None
    assert stated.scale(16 * 2 + 1) is None
    assert stated.scale(16 * 3 + 3) is stated.scale(SEEN_DOUBLE) is not None


def test_classes_with_unseen_parts_borrow_from_such_classes_only() -> None:
    scale = state_errors(fitted()).scales[SEEN_DOUBLE]
    half, alone = replace(scale, support=33), replace(scale, support=16)
    stated = FittedStatedErrors(fitted(), {33: half, 16: alone, SEEN_DOUBLE: scale})
    for code, wanted in {33: half, 32: half, 16: alone, 16 * 3 + 2: half, 17: None, 34: scale}.items():
        assert stated.scale(code) is wanted


def test_too_few_held_out_predictions_state_nothing() -> None:
    few = Calibrated(Additive()).fit(screen().rows(range(GENES + 7)), seed=0)
    assert not state_errors(few).scales
    assert conformal(few).score in {"absolute", "normalised"}


def test_alike_errors_are_stated_alike() -> None:
    """Where nothing tells hard from easy, one variance for each readout is the honest statement."""
    plain = planted_screen(alone=range(GENES), together=pairs_of(GENES, 60), readouts=16, noise=1.0, seed=3)
    stated = state_errors(Calibrated(Additive()).fit(plain, seed=0)).predict(plain.batch.rows(slice(GENES, None)))
    assert float((stated.variance.sum(1).log()).std()) < 0.25


def test_stated_errors_are_the_same_after_the_round_trip(tmp_path: Path) -> None:
    bounds = conformal(fitted())
    save_fitted(bounds, tmp_path / "model", origin=Origin.of(screen(), Additive(), seed=0))
    again = load_fitted(tmp_path / "model")
    assert isinstance(again, FittedConformal)
    batch = screen().batch.rows(slice(GENES + 44, None))
    assert torch.equal(again.band(batch, 0.8).upper, bounds.band(batch, 0.8).upper)


# --- bounds that are made of them -----------------------------------------------------------------------------


def test_bounds_are_laid_around_each_cross_fit_by_the_equations() -> None:
    bounds, batch = conformal(fitted()), screen().batch.rows(slice(GENES + 44, None))
    assert bounds.score == "learnt"
    low, high, scores, below, above = [], [], [], [], []
    for fold in bounds.folds:
        held, new = fold.fitted.predict(fold.batch), fold.fitted.predict(batch)
        error = fold.effects - held.mean
        for row in error.abs() / held.variance.sqrt():
            low.append(new.mean - row * new.variance.sqrt())
            high.append(new.mean + row * new.variance.sqrt())
        for score in torch.maximum(error / held.upwards, -error / held.downwards).amax(1):  # type: ignore[attr-defined]
            scores.append(score)
            below.append(new.mean - score * new.downwards)  # type: ignore[attr-defined]
            above.append(new.mean + score * new.upwards)  # type: ignore[attr-defined]
    assert len(scores) == 44  # of which 0.9 of 45 is the 41st
    interval, band = bounds.interval(batch, 0.9), bounds.band(batch, 0.9)
    for found, made, rank in (
        (interval.lower, low, 3),
        (interval.upper, high, 40),
        (band.lower, below, 3),
        (band.upper, above, 40),
    ):
        torch.testing.assert_close(found, torch.stack(made).sort(0).values[rank])


@cache
def worlds(silent: int, rare: int) -> tuple[tuple[Screen, list[int], list[int]], ...]:
    family = NetworkFamily(genes=16, doubles=110, network=24, silent=silent, rare=rare)
    parts = []
    for seed in range(3):
        world = family.draw(seed=seed)
        order = (16 + torch.randperm(110, generator=torch.Generator().manual_seed(seed))).tolist()
        parts.append((world, [*range(16), *order[:60]], order[60:]))
    return tuple(parts)


@pytest.mark.parametrize(("silent", "rare"), [(0, 0), (8, 0), (4, 4)])
def test_bounds_hold_where_readouts_are_silent_or_rarely_move(silent: int, rare: int) -> None:
    """Single readouts, own readouts and all readouts at once, at 90 %, over 150 doubles that nothing has seen."""
    shares: dict[str, list[float]] = {"single": [], "own": [], "band": [], "width": []}
    for world, learnt, new in worlds(silent, rare):
        bounds = conformal(Calibrated(ScaledAdditive()).fit(world.rows(learnt), seed=0))
        assert bounds.score == "learnt"
        batch, effects = world.batch.rows(torch.tensor(new)), world.effects[new]
        interval, band = bounds.interval(batch, 0.9), bounds.band(batch, 0.9)
        inside = ((interval.lower <= effects) & (effects <= interval.upper)).double()
        shares["single"].append(float(inside.mean()))
        shares["own"].append(float(inside[own_readout_marks(world)[new]].mean()))
        shares["band"].append(float(all_covered_rows(band, effects).mean()))
        shares["width"].append(_width(band) / _width(interval))
    mean = {name: sum(found) / len(found) for name, found in shares.items()}
    assert 0.88 < mean["single"] < 0.94
    assert 0.86 < mean["own"] < 0.96
    assert 0.85 < mean["band"] < 0.97
    # A band must hold the moves of readouts of which single intervals may miss one in ten.
    assert mean["width"] < (6 if rare else 2.5)


def _width(bounds: Interval) -> float:
    return float((bounds.upper - bounds.lower).mean())
