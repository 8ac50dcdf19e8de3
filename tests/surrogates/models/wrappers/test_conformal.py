import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Bool
from strategies.screens import label, normal, pairs_of, planted_screen
from torch import Tensor

from surrogates.artefact import Origin, load_fitted, save_fitted
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.baselines import Additive, MatchingMean, NoChange, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers import conformal as conformal_bounds
from surrogates.models.wrappers.automatic import with_unseen
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.conformal import Conformal, FittedConformal, choose_score, conformal
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.models.wrappers.ensemble import Ensemble
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior, Interval, Outcome, Posterior, ScalarPosterior

GENES, READOUTS = 12, 8
PAIRS = pairs_of(GENES, GENES * (GENES - 1) // 2)
UNSEEN = GENES - 1
PLAN = planted_screen(alone=range(GENES), together=PAIRS, readouts=READOUTS)


@dataclass(frozen=True)
class Away:
    """Root mean square distance to where every readout is one."""

    @property
    def name(self) -> str:
        return "away"

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        away = self.measured(posterior.mean)
        return ScalarPosterior(away, posterior.variance.mean(1) / posterior.mean.shape[1])

    def measured(self, effects: Tensor) -> Tensor:
        return (effects - 1).square().mean(1).sqrt()


def world(seed: int) -> Screen:
    """Genes and pairs like any other, pairs in random order."""
    truth = normal(GENES, READOUTS, seed=5 * seed)
    order = torch.randperm(len(PAIRS), generator=torch.Generator().manual_seed(seed))
    first, second = PLAN.batch.genes[GENES:].T
    size = torch.linspace(0.3, 2, READOUTS)  # readouts differ in how noisy they are
    noise = size * normal(len(PAIRS), READOUTS, seed=5 * seed + 1)
    pairs = 0.8 * (truth[first] + truth[second]) + 0.4 * truth[first] * truth[second] + noise
    return replace(PLAN, effects=torch.cat([truth, pairs])).rows([*range(GENES), *(order + GENES).tolist()])


def inside(bounds: Interval, effects: Tensor) -> Tensor:
    return (bounds.lower <= effects) & (effects <= bounds.upper)


def implied(band: Interval) -> Tensor:
    """Width of what a band says of the distance."""
    near = (torch.ones_like(band.lower).clamp(band.lower, band.upper) - 1).square().mean(1).sqrt()
    far = torch.maximum((band.lower - 1).abs(), (band.upper - 1).abs()).square().mean(1).sqrt()
    return far - near


def judged(fitted: FittedConformal, new: Screen, level: float) -> Tensor:
    """Shares that interval, band (all at once) and distance hold; widths of all three, and of the implied one."""
    interval, band = fitted.interval(new.batch, level), fitted.band(new.batch, level)
    away, true = fitted.scalar(Away(), new.batch, level), Away().measured(new.effects)
    return torch.stack([
        inside(interval, new.effects).double().mean(),
        inside(band, new.effects).all(1).double().mean(),
        ((away.lower <= true) & (true <= away.upper)).double().mean(),
        (interval.upper - interval.lower).mean(),
        (band.upper - band.lower).mean(),
        (away.upper - away.lower).mean(),
        implied(band).mean(),
    ])  # fmt: skip


@cache
def by_split() -> Tensor:
    """Nineteen held-out pairs, of which the level 0.8 takes exactly the 16th of 20 ranks, and 27 new ones."""
    worlds = []
    for seed in range(100, 130):
        screen = world(seed)
        learnt, held_out, new = (screen.rows(range(*each)) for each in ((0, 32), (32, 51), (51, 78)))
        fitted = ScaledAdditive().fit(learnt, seed=0)
        worlds.append(judged(FittedConformal.split(fitted, held_out), new, 0.8))
    return torch.stack(worlds).mean(0)


@cache
def by_folds() -> tuple[Tensor, Tensor, Tensor]:
    """Cross-fits to 39 pairs: new pairs of seen genes, a gene never seen, and pairs with it."""
    seen, alone, one_seen = [], [], []
    for seed in range(15):
        screen = world(seed)
        holds = (screen.batch.genes == UNSEEN).any(1)
        known = torch.nonzero(~holds).flatten()
        fitted = Conformal(ScaledAdditive(), score="absolute").fit(screen.rows(known[:50]), seed=seed)
        rows = torch.nonzero(holds).flatten()
        seen.append(judged(fitted, screen.rows(known[50:]), 0.8))
        alone.append(judged(fitted, screen.rows(rows[:1]), 0.8))
        one_seen.append(judged(fitted, screen.rows(rows[1:]), 0.8))
    return torch.stack(seen).mean(0), torch.stack(alone).mean(0), torch.stack(one_seen).mean(0)


def test_split_intervals_hold_as_often_as_stated() -> None:
    each, together, away = by_split()[:3].tolist()
    assert each == pytest.approx(0.8, abs=0.025)
    assert together == pytest.approx(0.8, abs=0.06)
    assert away == pytest.approx(0.8, abs=0.06)


def test_cross_fitted_intervals_hold_about_as_often_as_stated() -> None:
    each, together, away = by_folds()[0][:3].tolist()
    assert 0.78 < each < 0.86
    assert 0.75 < together < 0.9
    assert 0.75 < away < 0.9


def test_each_class_is_calibrated_apart() -> None:
    seen, alone, one_seen = by_folds()
    assert 0.75 < float(alone[0]) < 0.92  # 10 of 12 ranks
    assert 0.75 < float(one_seen[0]) < 0.9
    assert float(seen[3]) < 0.9 * float(one_seen[3])


def test_a_band_is_wider_than_intervals_of_single_readouts_which_do_not_hold_at_once() -> None:
    for shares in (by_split(), by_folds()[0]):
        assert float(shares[4]) > 1.3 * float(shares[3])
    screen = world(1)
    fitted = FittedConformal.split(
        ScaledAdditive().fit(screen.rows(range(32)), seed=0), screen.rows(range(32, 51))
    )
    new = screen.rows(range(51, 78))
    interval, band = fitted.interval(new.batch, 0.8), fitted.band(new.batch, 0.8)
    assert float(inside(interval, new.effects).all(1).double().mean()) < 0.5
    assert bool((band.lower <= interval.lower).all(1).double().mean() > 0.5)


def test_a_distance_is_bounded_more_narrowly_than_a_band_implies() -> None:
    for shares in (by_split(), by_folds()[0]):
        assert float(shares[5]) < 0.5 * float(shares[6])


# --- a model that states how large its errors are -------------------------------------------------------------


@dataclass(frozen=True)
class Stating:
    """Predicts nothing, and states a scale for each perturbation."""

    scales: Tensor
    covariance: FactorCovariance
    vocabulary: Vocabulary = PLAN.vocabulary
    readouts: tuple[str, ...] = PLAN.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        return torch.ones(len(self.vocabulary), dtype=torch.bool)

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        scale = self.scales[batch.genes.clamp(min=0)].prod(1)
        group = torch.zeros(len(batch), dtype=torch.int64)
        return GaussianPosterior(torch.zeros(len(batch), READOUTS).double(), scale, (self.covariance,), group)


def stating(spread: float, variance: Tensor) -> Stating:
    scales = (spread * normal(GENES, seed=3)).exp()
    return Stating(scales, FactorCovariance.independent(variance))


def folds_of(fitted: Fitted, effects: Tensor, *, count: int = 3) -> tuple[HeldOutFit, ...]:
    """The pairs of the plan as held-out perturbations of several fits."""
    batch = PLAN.batch.rows(slice(GENES, None))
    return tuple(
        HeldOutFit(fitted, batch.rows(slice(number, len(effects), count)), effects[number::count])
        for number in range(count)
    )


def errors(fitted: Stating, *, seed: int, honest: bool) -> Tensor:
    variance = fitted.predict(PLAN.batch.rows(slice(GENES, None))).variance
    return normal(len(PAIRS), READOUTS, seed=seed) * (variance.sqrt() if honest else 1.0)


def test_the_score_is_that_with_the_narrower_intervals() -> None:
    fitted = stating(1.0, torch.ones(READOUTS).double())
    assert choose_score(folds_of(fitted, errors(fitted, seed=5, honest=True))) == "normalised"
    assert choose_score(folds_of(fitted, errors(fitted, seed=5, honest=False))) == "absolute"


@given(st.integers(0, 999), st.integers(1, 4))
@settings(max_examples=30)
def test_a_spread_that_is_alike_for_all_says_nothing(seed: int, count: int) -> None:
    """Where both scores give the same intervals, rounding must not choose."""
    fitted = stating(0.0, normal(READOUTS, seed=seed).abs() + 0.01)
    assert choose_score(folds_of(fitted, normal(len(PAIRS), READOUTS, seed=seed + 1), count=count)) == "absolute"


@given(st.integers(0, 999), st.floats(0.1, 0.6))
@settings(max_examples=30)
def test_the_choice_does_not_depend_on_the_order_of_perturbations(seed: int, spread: float) -> None:
    fitted = stating(spread, torch.ones(READOUTS).double())
    folds = folds_of(fitted, errors(fitted, seed=seed, honest=True))
    shuffled = []
    for fold in folds:
        order = torch.randperm(len(fold.batch), generator=torch.Generator().manual_seed(seed))
        shuffled.append(HeldOutFit(fitted, fold.batch.rows(order), fold.effects[order]))
    assert choose_score(shuffled) == choose_score(folds)


def test_too_few_to_choose_keep_the_plain_score() -> None:
    fitted = stating(1.0, torch.ones(READOUTS).double())
    for held_out in (1, 2, 8):
        assert (
            choose_score(folds_of(fitted, errors(fitted, seed=5, honest=True)[:held_out], count=1)) == "absolute"
        )


def test_the_score_decides_what_intervals_are_in_units_of() -> None:
    fitted = stating(1.0, torch.linspace(0.5, 2, READOUTS).double())
    folds = folds_of(fitted, errors(fitted, seed=5, honest=True))
    batch = PLAN.batch.rows(slice(GENES, None))
    plain, own = (FittedConformal(fitted, folds, score=score) for score in ("absolute", "normalised"))
    posterior = fitted.predict(batch)
    width = plain.interval(batch, 0.8).upper
    torch.testing.assert_close(width, width[:1].expand_as(width))
    width = own.interval(batch, 0.8).upper / posterior.variance.sqrt()
    torch.testing.assert_close(width, width[:1].expand_as(width))
    width = plain.band(batch, 0.8).upper / (posterior.variance / posterior.scale[:, None]).sqrt()
    torch.testing.assert_close(width, width[:1, :1].expand_as(width))
    width = own.band(batch, 0.8).upper / posterior.variance.sqrt()
    torch.testing.assert_close(width, width[:1, :1].expand_as(width))
    reach = own.scalar(Away(), batch, 0.8).upper - Away().predicted(posterior).mean
    unit = reach / Away().predicted(posterior).variance.sqrt()
    torch.testing.assert_close(unit, unit[:1].expand_as(unit))


# --- one small screen -----------------------------------------------------------------------------------------


@cache
def small() -> Screen:
    together = [*pairs_of(8, 20), (0, 8), (3, 8), (0, 1, 2)]
    return planted_screen(alone=range(8), together=together, readouts=5, bend=0.4, noise=0.5, standard_error=0.2)


@cache
def fitted_small() -> FittedConformal:
    return Conformal(ScaledAdditive(), folds=4).fit(small(), seed=0)


def several() -> PerturbationBatch:
    parts: list[tuple[int, ...]] = [(0, 1), (2,), (8,), (0, 8), (3, 4), (5, 8), (1, 7)]
    return small().vocabulary.batch([Perturbation.parse(label(each)) for each in parts])


def bounds(fitted: FittedConformal, batch: PerturbationBatch, level: float = 0.8) -> list[Tensor]:
    found = (fitted.interval(batch, level), fitted.band(batch, level), fitted.scalar(Away(), batch, level))
    return [each for pair in found for each in (pair.lower, pair.upper)]


def test_it_predicts_as_its_model_does() -> None:
    fitted, plain = fitted_small(), ScaledAdditive().fit(small(), seed=0)
    assert isinstance(fitted, Fitted)
    assert isinstance(Away(), Outcome)
    assert torch.equal(fitted.predict(several()).mean, plain.predict(several()).mean)
    assert (fitted.vocabulary, fitted.readouts) == (plain.vocabulary, plain.readouts)
    assert torch.equal(fitted.measured_alone, plain.measured_alone)
    assert fitted.interval(several(), 0.8).level == fitted.band(several(), 0.8).level == 0.8
    assert fitted.scalar(Away(), several(), 0.8).level == 0.8


def test_doubles_and_targets_are_held_out_and_every_fit_has_not_seen_its_rows() -> None:
    fitted = fitted_small()
    screen, labels = small(), small().labels
    doubles, targets = fitted.folds[:4], fitted.folds[4:]
    assert sorted(label_of(row, screen) for fold in doubles for row in fold.batch.genes) == sorted(labels[8:28])
    assert all(fold.codes.tolist() == [SEEN_DOUBLE] * len(fold.codes) for fold in doubles)
    singles = [row for fold in targets for row in fold.batch.genes if int((row >= 0).sum()) == 1]
    assert sorted(label_of(row, screen) for row in singles) == sorted(labels[:8])
    assert SEEN_DOUBLE not in torch.cat([fold.codes for fold in targets])
    for fold in fitted.folds:
        held = {label_of(row, screen) for row in fold.batch.genes}
        kept = screen.rows([row for row, each in enumerate(labels) if each not in held])
        again = ScaledAdditive().fit(kept, seed=0)
        assert torch.equal(fold.fitted.predict(several()).mean, again.predict(several()).mean)
        where = [labels.index(label_of(row, screen)) for row in fold.batch.genes]
        assert torch.equal(fold.effects, screen.effects[where])


def label_of(genes: Tensor, screen: Screen) -> str:
    return screen.vocabulary.perturbation(genes).label


def test_bounds_are_found_fold_by_fold() -> None:
    """One class, by the equations: the intervals of new doubles."""
    fitted, batch = fitted_small(), several().rows(torch.tensor([0, 4, 6]))
    low, high = [], []
    for fold in fitted.folds[:4]:
        centre = fold.fitted.predict(batch).mean
        for row in (fold.effects - fold.fitted.predict(fold.batch).mean).abs():
            low.append(centre - row)
            high.append(centre + row)
    found = FittedConformal(fitted.fitted, fitted.folds, "absolute").interval(batch, 0.9)
    assert len(low) == 20  # ranks 2 and 19 of 20
    torch.testing.assert_close(found.lower, torch.stack(low).sort(0).values[1])
    torch.testing.assert_close(found.upper, torch.stack(high).sort(0).values[18])


def test_a_batch_of_several_classes_is_bounded_as_each_alone() -> None:
    together = bounds(fitted_small(), several())
    for row in range(len(several())):
        for whole, one in zip(together, bounds(fitted_small(), several().rows(slice(row, row + 1))), strict=True):
            torch.testing.assert_close(whole[row], one[0])


def test_nothing_asked_is_nothing_bounded() -> None:
    lower, *_, away, _ = bounds(fitted_small(), several().rows(slice(0, 0)))
    assert lower.shape == (0, 5)
    assert away.shape == (0,)


def test_a_class_that_borrows_says_so() -> None:
    fitted = fitted_small()
    behind = fitted.calibration(SEEN_DOUBLE, 0.9)
    assert (len(behind.rows), behind.borrowed) == (20, False)
    assert fitted.calibration(16, 0.8).line == "8 held-out perturbations (single, unseen)"
    for code, order in ((16, 1), (51, 3)):
        with pytest.raises(CalibrationError, match=f"of order {order} in all"):
            fitted.calibration(code, 0.9)
    lent = fitted.calibration(32, 0.9)
    assert lent.origin == "all of order 2"
    assert set((fitted.codes[lent.rows] // 16).tolist()) == {2}


@pytest.mark.parametrize("at_once", [1, 200])
def test_chunks_change_nothing(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = small().vocabulary.dosed(torch.combinations(torch.arange(9), 2))
    whole = bounds(fitted_small(), batch)
    monkeypatch.setattr(conformal_bounds, "_NUMBERS_AT_ONCE", at_once)
    for one, other in zip(whole, bounds(fitted_small(), batch), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@given(st.permutations(range(31)))
@settings(max_examples=5)
def test_the_order_of_rows_does_not_matter(order: Sequence[int]) -> None:
    again = Conformal(ScaledAdditive(), folds=4).fit(small().rows(list(order)), seed=0)
    assert again.score == fitted_small().score
    for one, other in zip(bounds(fitted_small(), several()), bounds(again, several()), strict=True):
        torch.testing.assert_close(one, other)


def test_as_many_folds_as_doubles_is_the_jackknife() -> None:
    fitted = Conformal(Additive(), folds=1000).fit(small().rows(range(20)), seed=0)
    assert [len(fold.batch) for fold in fitted.folds[:12]] == [1] * 12


# --- the cross-fits of calibrated models ----------------------------------------------------------------------


@cache
def few(base: str = "additive") -> FittedCalibrated:
    surrogate = {"additive": Additive(), "scaled": ScaledAdditive()}[base]
    return Calibrated(surrogate).fit(small().rows(range(18)), seed=0)


def changed(screen: Screen, name: str) -> Screen:
    effects = screen.effects.clone()
    effects[screen.labels.index(name)] += 5 * normal(5, seed=4)
    return replace(screen, effects=effects)


def same_law(one: Fitted, other: Fitted, code: int) -> bool:
    assert isinstance(one, FittedCalibrated)
    assert isinstance(other, FittedCalibrated)
    law, again = one.law(code), other.law(code)
    return torch.equal(law.offset, again.offset) and torch.equal(
        law.covariance.variance, again.covariance.variance
    )


def without(screen: Screen, *labels: str) -> Screen:
    return screen.rows([row for row, label in enumerate(screen.labels) if label not in labels])


def test_every_double_is_held_out_once_with_the_law_of_the_other_folds() -> None:
    fitted, screen = few("scaled"), small().rows(range(18))
    held = sorted(label_of(row, screen) for fold in fitted.cross for row in fold.batch.genes)
    assert held == sorted(screen.labels[8:18])
    for number, fold in enumerate(fitted.cross):
        hidden = labels_of(fold, screen)
        residuals = []
        for other in (*fitted.cross[number + 1 :], *fitted.cross[:number]):
            # The law is that of fits which saw neither the fold nor what they predict.
            nested = ScaledAdditive().fit(without(screen, *hidden, *labels_of(other, screen)), seed=0)
            residuals.append(other.effects - nested.predict(other.batch).mean)
        others = torch.cat(residuals)
        assert isinstance(fold.fitted, FittedCalibrated)
        law = fold.fitted.law(SEEN_DOUBLE)
        torch.testing.assert_close(law.offset, others.sum(0) / (len(others) + 10))
        torch.testing.assert_close(fold.fitted.evidence[SEEN_DOUBLE].residuals, others)
        assert law.support == len(others) == 10 - len(fold.batch)
        again = ScaledAdditive().fit(without(screen, *hidden), seed=0)
        torch.testing.assert_close(
            fold.fitted.predict(fold.batch).mean,
            again.predict(fold.batch).mean + law.offset,
            rtol=1e-12,
            atol=1e-12,
        )


def labels_of(fold: HeldOutFit, screen: Screen) -> set[str]:
    return {label_of(row, screen) for row in fold.batch.genes}


@pytest.mark.parametrize("base", ["additive", "scaled"])
def test_neither_base_nor_law_of_a_cross_fit_has_seen_what_it_holds_out(base: str) -> None:
    screen = small().rows(range(18))
    name = screen.labels[10]
    other = Calibrated({"additive": Additive(), "scaled": ScaledAdditive()}[base]).fit(
        changed(screen, name), seed=0
    )
    for one, two in zip(few(base).cross, other.cross, strict=True):
        if name in labels_of(one, screen):
            for fit in (one, two):
                assert isinstance(fit.fitted, FittedCalibrated)
            mean = [fit.fitted.base.predict(one.batch).mean for fit in (one, two)]  # type: ignore[attr-defined]
            assert torch.equal(*mean)
            assert same_law(one.fitted, two.fitted, SEEN_DOUBLE)
        else:
            assert not same_law(one.fitted, two.fitted, SEEN_DOUBLE)


@cache
def unseen(effects: str = "") -> FittedCalibrated:
    """Two surrogates that learn nothing from combinations predict what has unseen parts."""
    screen = changed(small(), effects) if effects else small()
    # The form of the laws is chosen once, on all doubles; what is learnt in that form is cross-fitted.
    plain = Calibrated(Additive()).fit(small(), seed=0)
    return with_unseen(plain, (NoChange(), Additive()), screen, seed=0)


def test_unseen_classes_have_cross_fits_too() -> None:
    fitted, screen = unseen(), small()
    targets = fitted.cross[5:]
    assert len(targets) == 8  # one fold for each target, as they are few
    codes = torch.cat([fold.codes for fold in targets])
    assert {16, 33} <= set(codes.tolist())
    assert SEEN_DOUBLE not in codes
    assert set(codes.tolist()) <= set(fitted.laws)
    singles = [label_of(row, screen) for fold in targets for row in fold.batch.genes if int(row[1]) < 0]
    assert sorted(singles) == sorted(screen.labels[:8])
    for fold in targets:
        own = {int(gene) for row in fold.batch.genes for gene in row if int(row[1]) < 0 <= int(gene)}
        assert not bool(fold.fitted.measured_alone[list(own)].any())
        assert bool(fold.fitted.predict(fold.batch).variance.isfinite().all())


@pytest.mark.parametrize("row", [8, 12, 20, 27])
def test_what_is_held_out_with_an_unseen_part_changes_nothing_of_its_fit(row: int) -> None:
    """Also not by way of another fold that holds the same combination out for its other part."""
    screen = small()
    name = screen.labels[row]
    checked = 0
    for one, two in zip(unseen().cross[5:], unseen(name).cross[5:], strict=True):
        if name not in labels_of(one, screen):
            continue
        checked += 1
        assert torch.equal(one.fitted.predict(one.batch).mean, two.fitted.predict(one.batch).mean)
        assert same_law(one.fitted, two.fitted, 33)
    assert checked >= 1


def test_conformal_intervals_of_a_calibrated_model_come_from_its_cross_fits() -> None:
    fitted = conformal(unseen())
    for fold, kept in zip(fitted.folds, unseen().cross, strict=True):
        assert torch.equal(fold.batch.genes, kept.batch.genes)
        assert torch.equal(fold.fitted.predict(fold.batch).mean, kept.fitted.predict(fold.batch).mean)
    assert fitted.score == "learnt"
    batch = several()
    for lower, upper in zip(bounds(fitted, batch)[::2], bounds(fitted, batch)[1::2], strict=True):
        assert bool((lower < upper).all())


# --- stored and loaded ----------------------------------------------------------------------------------------


def test_conformal_models_are_the_same_after_the_round_trip(tmp_path: Path) -> None:
    surrogate = Conformal(ScaledAdditive(), folds=4)
    save_fitted(fitted_small(), tmp_path / "model", origin=Origin.of(small(), surrogate, seed=0))
    again = load_fitted(tmp_path / "model")
    assert isinstance(again, FittedConformal)
    assert (again.score, len(again.folds)) == (fitted_small().score, len(fitted_small().folds))
    assert torch.equal(again.predict(several()).mean, fitted_small().predict(several()).mean)
    for one, other in zip(bounds(fitted_small(), several()), bounds(again, several()), strict=True):
        assert torch.equal(one, other)


def test_calibrated_models_keep_their_cross_fits(tmp_path: Path) -> None:
    save_fitted(unseen(), tmp_path / "model", origin=Origin.of(small(), Additive(), seed=0))
    again = load_fitted(tmp_path / "model")
    assert isinstance(again, FittedCalibrated)
    assert len(again.cross) == len(unseen().cross)
    for one, other in zip(
        bounds(conformal(unseen()), several()), bounds(conformal(again), several()), strict=True
    ):
        assert torch.equal(one, other)


# --- bad input ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", [0.0, 1.0, 1.5, -1.0, math.nan])
@pytest.mark.parametrize("asked", [7, 0])
def test_levels_that_are_none_are_refused(level: float, asked: int) -> None:
    fitted, batch = fitted_small(), several().rows(slice(0, asked))
    for bound in (fitted.interval, fitted.band, lambda batch, level: fitted.scalar(Away(), batch, level)):
        with pytest.raises(CalibrationError, match=rf"level {level} is not between 0 and 1"):
            bound(batch, level)


def test_too_few_for_the_level_are_named() -> None:
    held_out = int((fitted_small().codes // 16 == 2).sum())
    attainable = f"{held_out} of order 2 in all, which support levels up to {held_out / (held_out + 1):.3g}"
    with pytest.raises(CalibrationError, match=f"level 0.999 needs 999 held-out perturbations; .* {attainable}"):
        fitted_small().interval(several().rows(slice(0, 1)), 0.999)


def test_a_class_of_which_nothing_was_held_out_borrows_from_its_order_or_is_refused() -> None:
    screen = world(0)
    fitted = FittedConformal.split(
        ScaledAdditive().fit(screen.rows(range(30)), seed=0), screen.rows(range(30, 38))
    )
    assert fitted.calibration(33, 0.8).line.startswith("'double, 1 of 2 seen' borrows from 8")
    assert bool(fitted.interval(screen.batch.rows(torch.tensor([77])), 0.8).upper.isfinite().all())
    with pytest.raises(CalibrationError, match="0 of class 'single, seen' and 0 of order 1 in all: measure"):
        fitted.interval(screen.batch.rows(torch.tensor([0, 77])), 0.8)


def test_nothing_held_out_is_refused() -> None:
    with pytest.raises(CalibrationError, match="nothing was held out, so nothing can be calibrated"):
        FittedConformal(fitted_small().fitted, ())
    alone = Calibrated(Additive()).fit(small().rows(range(9)), seed=0)
    with pytest.raises(CalibrationError, match="nothing was held out"):
        conformal(alone)


@pytest.mark.parametrize("folds", [1, 0, -3])
def test_fewer_than_two_folds_are_refused(folds: int) -> None:
    with pytest.raises(CalibrationError, match=f"folds is {folds}; at least 2"):
        Conformal(Additive(), folds=folds)


def test_unknown_scores_are_refused() -> None:
    for make in (
        lambda: Conformal(Additive(), score="squared"),  # type: ignore[arg-type]
        lambda: FittedConformal(fitted_small().fitted, fitted_small().folds, "squared"),  # type: ignore[arg-type]
    ):
        with pytest.raises(Exception, match="squared"):
            make()


def test_learnt_scales_need_a_calibrated_model() -> None:
    with pytest.raises(CalibrationError, match="learnt scales need held-out predictions of nested fits"):
        Conformal(Additive(), score="learnt")


def test_held_out_cells_are_refused() -> None:
    cells = small().rows([8, 8, 9])
    with pytest.raises(CalibrationError, match="stands in 2 of 3 held-out rows"):
        FittedConformal.split(fitted_small().fitted, cells)


@pytest.mark.parametrize(
    "base", [MatchingMean(), Interaction(components=3, leading=2), Ensemble(Additive(), members=2)]
)
def test_any_surrogate_gets_intervals(base: Surrogate) -> None:
    fitted = Conformal(base, folds=2).fit(small(), seed=0)
    for lower, upper in zip(bounds(fitted, several())[::2], bounds(fitted, several())[1::2], strict=True):
        assert bool((lower < upper).all())
        assert bool(lower.isfinite().all() and upper.isfinite().all())
