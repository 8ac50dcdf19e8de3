import math
from dataclasses import replace
from functools import cache
from itertools import combinations

import pytest
import torch
from strategies.screens import label, pairs_of, planted_screen
from strategies.streamed import Streamed
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, Split, fold_numbers
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import Fitted, PairFactored, Surrogate
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers import cross_fitting
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.cross_fitting import CrossFits, candidate_pairs, hold_out, left_out
from surrogates.models.wrappers.public_law import BORROWED, public_law
from surrogates.uncertainty.error_model import LawChoice, StandardResiduals
from surrogates.uncertainty.posterior import GaussianPosterior
from surrogates.uncertainty.selection import FEWEST_TO_CHOOSE

SMALL = Interaction(components=4, leading=2)


def screen_of(doubles: int, **more: float) -> Screen:
    return planted_screen(alone=range(7), together=pairs_of(7, doubles), bend=0.5, **more)


def every_pair(v: int) -> Tensor:
    return torch.combinations(torch.arange(v), 2)


def finite(posterior: GaussianPosterior) -> bool:
    values = torch.cat([posterior.mean.flatten(), posterior.scale, posterior.variance.flatten()])
    return bool(torch.isfinite(values).all()) and bool((posterior.variance > 0).all())


def assert_same(first: FittedCalibrated, second: FittedCalibrated, **tolerance: float) -> None:
    assert first.laws.keys() == second.laws.keys()
    for code, law in first.laws.items():
        other = second.laws[code]
        for name in ("temperature", "coefficient_variance", "degrees"):
            assert getattr(law, name) == pytest.approx(getattr(other, name), rel=tolerance.get("rtol", 1e-12))
        torch.testing.assert_close(law.offset, other.offset, **tolerance)
        torch.testing.assert_close(law.covariance.variance, other.covariance.variance, **tolerance)
    batch = first.vocabulary.dosed(every_pair(len(first.vocabulary)))
    torch.testing.assert_close(first.predict(batch).mean, second.predict(batch).mean, **tolerance)
    torch.testing.assert_close(first.predict(batch).scale, second.predict(batch).scale, **tolerance)


BASES = {"additive": Additive(), "interaction": SMALL}


@cache
def measured() -> Screen:
    return screen_of(16, noise=1.0, standard_error=0.2)


@cache
def fitted_once(base: str) -> FittedCalibrated:
    return Calibrated(BASES[base]).fit(measured(), seed=0)


@pytest.fixture
def screen() -> Screen:
    return measured()


@pytest.fixture(params=list(BASES))
def base_name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(base_name: str) -> Calibrated:
    return Calibrated(BASES[base_name])


@pytest.fixture
def fitted(base_name: str) -> FittedCalibrated:
    # Not a fixture of the module: in random order that would be fitted again at every change of its parameter.
    return fitted_once(base_name)


def test_equal_seeds_give_equal_models(model: Calibrated, screen: Screen, fitted: FittedCalibrated) -> None:
    assert_same(fitted, model.fit(screen, seed=0))


def test_row_order_does_not_matter(model: Calibrated, screen: Screen, fitted: FittedCalibrated) -> None:
    order = torch.randperm(len(screen), generator=torch.Generator().manual_seed(0))
    again = model.fit(screen.rows(order), seed=0)
    assert again.selection.choice == fitted.selection.choice
    assert_same(fitted, again, rtol=0.05, atol=1e-3)


def test_seen_doubles_get_their_law(fitted: FittedCalibrated) -> None:
    law = fitted.laws[SEEN_DOUBLE]
    assert isinstance(fitted, Fitted)
    assert isinstance(fitted, PairFactored)
    assert (law.support, law.origin) == (16, "double, 2 of 2 seen")
    assert law.temperature == fitted.selection.temperature
    assert law.coefficient_variance == fitted.selection.choice.coefficient_variance
    batch = fitted.vocabulary.dosed(every_pair(7))
    base, posterior = fitted.base.predict(batch), fitted.predict(batch)
    torch.testing.assert_close(posterior.mean, base.mean + law.offset)
    first, second = (fitted.singles[ids].square() for ids in batch.genes.T)
    wanted = base.scale[:, None] * law.covariance.variance + law.coefficient_variance * (first + second)
    torch.testing.assert_close(posterior.variance, wanted)


def test_seen_singles_get_the_measurement_error(fitted: FittedCalibrated) -> None:
    law = fitted.law(SEEN_SINGLE)
    torch.testing.assert_close(law.covariance.variance, torch.full((12,), 2 * 0.2**2, dtype=torch.float64))
    batch = fitted.vocabulary.batch([Perturbation.parse(label((0,)))])
    torch.testing.assert_close(fitted.predict(batch).mean, fitted.base.predict(batch).mean)


def test_classes_are_mixed_in_one_batch(fitted: FittedCalibrated) -> None:
    many = [Perturbation.parse(label(parts)) for parts in [(0, 1), (2,), (0, 3, 4), (5, 6)]]
    together = fitted.predict(fitted.vocabulary.batch(many))
    for row, one in enumerate(many):
        alone = fitted.predict(fitted.vocabulary.batch([one]))
        torch.testing.assert_close(together.mean[row], alone.mean[0])
        torch.testing.assert_close(together.variance[row], alone.variance[0])


def test_an_empty_batch_is_predicted(fitted: FittedCalibrated) -> None:
    posterior = fitted.predict(fitted.vocabulary.batch([]))
    assert posterior.mean.shape == posterior.variance.shape == (0, 12)


def test_a_class_without_a_law_borrows_that_of_doubles(fitted: FittedCalibrated) -> None:
    assert fitted.law(16 * 3 + 3) is fitted.laws[SEEN_DOUBLE]


def test_pair_factors_and_scale_are_predictions(fitted: FittedCalibrated) -> None:
    pairs = every_pair(7)
    first, second = pairs.T
    factors, scale = fitted.pair_factors(), fitted.pair_scale()
    predicted = fitted.predict(fitted.vocabulary.dosed(pairs))
    products = (factors.scores[first] * factors.scores[second]) @ factors.basis
    torch.testing.assert_close(factors.main[first] + factors.main[second] + products, predicted.mean)
    made = scale.side[first] + scale.side[second] + (scale.left[first] * scale.right[second]).sum(1)
    torch.testing.assert_close(made, predicted.scale)


def test_the_held_out_error_is_that_of_refits_without_each_fold(
    model: Calibrated, screen: Screen, fitted: FittedCalibrated
) -> None:
    doubles = list(range(7, len(screen)))
    numbers = fold_numbers(screen.places[doubles], folds=5, seed=0)
    wrong = plain = 0.0
    for number in range(5):
        out = [row for row, fold in zip(doubles, numbers.tolist(), strict=True) if fold == number]
        training = screen.rows([row for row in range(len(screen)) if row not in out])
        held = screen.rows(out)
        wrong += float((held.effects - model.base.fit(training, seed=0).predict(held.batch).mean).square().sum())
        sums = screen.effects[held.batch.genes[:, 0]] + screen.effects[held.batch.genes[:, 1]]
        plain += float((held.effects - sums).square().sum())
    assert fitted.held_out.model == pytest.approx(wrong)
    assert fitted.held_out.additive == pytest.approx(plain)
    assert fitted.held_out.conditions == 16
    assert fitted.held_out.ratio == pytest.approx(wrong / plain)


def test_additive_has_its_own_error() -> None:
    assert Calibrated(Additive()).fit(screen_of(6), seed=0).held_out.ratio == pytest.approx(1)


@pytest.mark.parametrize("base", [Additive(), ScaledAdditive(), SMALL])
@pytest.mark.parametrize("doubles", [0, 1, 2, 5])
def test_few_doubles(base: Surrogate, doubles: int) -> None:
    fitted = Calibrated(base).fit(screen_of(doubles), seed=0)
    many = [Perturbation.parse(label(parts)) for parts in [(0,), (0, 1), (2, 5), (1, 2, 3)]]
    posterior = fitted.predict(fitted.vocabulary.batch(many))
    assert finite(posterior)
    assert fitted.laws[SEEN_DOUBLE].temperature > 0
    if doubles < 2:
        assert fitted.selection is None
        assert fitted.held_out.conditions == 0
        assert fitted.held_out.ratio != fitted.held_out.ratio  # nan: there is nothing to compare
        assert fitted.law(SEEN_DOUBLE).support == 0
    else:
        assert fitted.selection.choice == LawChoice()
        assert fitted.held_out.conditions == fitted.law(SEEN_DOUBLE).support == doubles


def test_a_model_that_does_not_factorise_gives_the_same_laws() -> None:
    screen = screen_of(FEWEST_TO_CHOOSE - 1, noise=1.0)
    fast, slow = Calibrated(SMALL).fit(screen, seed=0), Calibrated(Streamed(SMALL)).fit(screen, seed=0)
    assert slow.selection.log_score == pytest.approx(fast.selection.log_score, abs=1e-4)
    assert slow.held_out.ratio == pytest.approx(fast.held_out.ratio)
    assert_same(slow, fast, rtol=0.01, atol=1e-5)


@pytest.mark.parametrize("probes", [2, 3])
def test_candidates_are_predicted_alike_with_and_without_factors(screen: Screen, probes: int) -> None:
    rows = torch.tensor([8, 11, 20])
    kept = torch.tensor([row for row in range(len(screen)) if row not in rows.tolist()])
    fast, slow = (
        hold_out(
            screen,
            Split(kept, rows),
            base.fit(screen.rows(kept), seed=0),
            StandardResiduals.of(screen.effects[rows], torch.ones(3, dtype=torch.float64)),
            candidates=6000,
            probes=probes,
            seed=0,
        ).fold
        for base in (SMALL, Streamed(SMALL))
    )
    assert len(fast.truth) == probes
    torch.testing.assert_close(fast.predictions, slow.predictions)
    torch.testing.assert_close(fast.scale, slow.scale)
    held = [tuple(ids) for ids in screen.batch.genes[rows].tolist()]
    taken = rows[[held.index(tuple(ids)) for ids in fast.parts[fast.truth].tolist()]]
    assert torch.equal(fast.measured, screen.effects[taken])


@pytest.mark.parametrize("few", [0, 1, 100])
@pytest.mark.parametrize("base", [Additive(), SMALL])
@pytest.mark.parametrize("entries", [2, 7])
def test_fewer_candidates_are_predicted_as_all_are(
    monkeypatch: pytest.MonkeyPatch, screen: Screen, base: Surrogate, few: int, entries: int
) -> None:
    monkeypatch.setattr(cross_fitting, "_COMPARED", 3)
    monkeypatch.setattr(cross_fitting, "_ENTRIES", entries)
    monkeypatch.setattr(cross_fitting, "_FEW", few)
    rows = torch.tensor([8, 11])
    kept = torch.tensor([row for row in range(len(screen)) if row not in rows.tolist()])
    fitted = base.fit(screen.rows(kept), seed=0)
    standard = StandardResiduals.of(screen.effects[rows], torch.ones(2, dtype=torch.float64))
    trial = hold_out(screen, Split(kept, rows), fitted, standard, candidates=6000, probes=2, seed=0)
    fewer = trial.fewer
    assert fewer is not None
    assert torch.equal(fewer.measured, trial.fold.measured)
    probes = trial.fold.parts[trial.fold.truth]
    held = [screen.batch.genes.tolist().index(pair) for pair in probes.tolist()]
    pairs, truth = candidate_pairs(screen, torch.tensor(held), 3, 0, entries=entries)
    posterior = fitted.predict(fitted.vocabulary.dosed(pairs))
    torch.testing.assert_close(fewer.predictions, posterior.mean)
    torch.testing.assert_close(fewer.scale, posterior.scale)
    assert torch.equal(fewer.singles()[fewer.parts], screen.effects[screen.single_rows[pairs]])
    assert torch.equal(fewer.truth, truth)
    assert (fewer.atoms is fewer.singles) == isinstance(base, Additive)


@pytest.mark.parametrize("folds", [2, 3, 4])
def test_folds_are_judged_by_fits_that_saw_neither(folds: int) -> None:
    screen = screen_of(10)
    whole = Calibrated(SMALL, folds=folds)
    parts, tests = whole.parts(screen, seed=1), whole.tests(screen, seed=1)
    fits = [(SMALL.fit(screen.rows(rows), seed=1),) for rows in parts]
    (found,) = CrossFits.several(fits, tests)
    assert found.every is not None
    torch.testing.assert_close(found.every.measured, torch.cat([effects for _, effects in tests]))
    pairs = left_out(folds)
    for fold, others in enumerate(found.nested):
        turn = [(fold + step) % folds for step in range(1, folds)]
        unseen = [tuple(sorted((fold, other))) if folds > 2 else (other,) for other in turn]
        means = [
            fits[pairs.index(each)][0].predict(tests[other][0]).mean
            for each, other in zip(unseen, turn, strict=True)
        ]
        torch.testing.assert_close(others.mean, torch.cat(means))
        torch.testing.assert_close(others.measured, torch.cat([tests[other][1] for other in turn]))
        assert torch.equal(others.batch.genes, torch.cat([tests[other][0].genes for other in turn]))
        assert torch.equal(found.tests[fold][1], tests[fold][1])


def test_a_model_without_factors_cannot_give_them() -> None:
    fitted = Calibrated(Streamed()).fit(screen_of(5), seed=0)
    assert finite(fitted.predict(fitted.vocabulary.dosed(every_pair(7))))
    with pytest.raises(TypeError, match="Predicting does not factorise"):
        fitted.pair_factors()
    with pytest.raises(TypeError, match="Predicting does not factorise"):
        fitted.pair_scale()


@pytest.mark.parametrize("base", [Additive(), SMALL])
def test_parts_never_measured_alone(base: Surrogate) -> None:
    together = [*pairs_of(6, 8), (0, 6), (6, 7), (1, 2, 7)]
    screen = planted_screen(alone=range(6), together=together, bend=0.5)
    fitted = Calibrated(base).fit(screen, seed=0)
    assert fitted.law(SEEN_DOUBLE).support == 8  # the other combinations are of other classes
    assert fitted.measured_alone.tolist() == [True] * 6 + [False] * 2
    many = [Perturbation.parse(label(parts)) for parts in [(6,), (0, 6), (6, 7), (0, 1)]]
    assert finite(fitted.predict(fitted.vocabulary.batch(many)))


def test_one_single_alone_still_gives_a_wide_law() -> None:
    # No double of two seen parts: the law can only come from the size of the one single effect.
    screen = planted_screen(alone=[0], together=[(0, 1), (0, 2), (1, 2)])
    law = Calibrated(Additive()).fit(screen, seed=0).law(SEEN_DOUBLE)
    assert float(law.covariance.variance.mean()) > 0.01 * float(screen.effects[0].square().mean())


@pytest.mark.parametrize("doubles", [0, 1])
def test_predictions_never_held_out_are_not_as_sure_as_measurements(doubles: int) -> None:
    screen = screen_of(doubles, standard_error=0.01)
    fitted = Calibrated(Additive()).fit(screen, seed=0)
    assert fitted.law(SEEN_SINGLE).origin == "standard errors"
    assert fitted.law(SEEN_DOUBLE).origin == BORROWED
    raw = screen.effects[:7].var(0, unbiased=False)
    lent = public_law().ratio * (raw + raw.mean())
    torch.testing.assert_close(fitted.law(SEEN_DOUBLE).covariance.variance, lent)
    torch.testing.assert_close(fitted.law(SEEN_SINGLE).covariance.variance, torch.full_like(raw, 2e-4))


def test_seen_singles_borrow_without_standard_errors() -> None:
    fitted = Calibrated(Additive()).fit(screen_of(5), seed=0)
    assert fitted.law(SEEN_SINGLE) is fitted.laws[SEEN_DOUBLE]


def test_several_contexts_are_refused(screen: Screen) -> None:
    mixed = replace(screen, contexts=("K562",) * 10 + ("RPE1",) * (len(screen) - 10))
    with pytest.raises(DataError, match="2 contexts"):
        Calibrated(Streamed()).fit(mixed, seed=0)


@pytest.mark.parametrize("wrong", [{"folds": 1}, {"folds": 0}, {"candidates": 0}])
def test_settings_that_cannot_work_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match=next(iter(wrong))):
        Calibrated(Additive(), **wrong)


@pytest.mark.parametrize("count", [3, 10, 100])
def test_candidates_are_the_truth_and_other_pairs_of_seen_entries(count: int) -> None:
    together = [*pairs_of(9, 12), (0, 9)]
    screen = planted_screen(alone=range(9), together=together)
    rows = torch.tensor([9, 12, 15])
    pairs, truth = candidate_pairs(screen, rows, count, 0)
    assert torch.equal(pairs[truth], screen.batch.genes[rows][:, :2])
    assert bool((pairs[:, 0] < pairs[:, 1]).all())
    assert len(torch.unique(pairs, dim=0)) == len(pairs)
    assert int(pairs.max()) < 9
    assert len(truth) < len(pairs) <= count + len(truth)
    if count == 100:
        assert {tuple(pair) for pair in pairs.tolist()} == set(combinations(range(9), 2))
    assert torch.equal(pairs, candidate_pairs(screen, rows, count, 0)[0])


def test_few_entries_beside_those_of_the_held_out_pairs_make_candidates() -> None:
    screen = planted_screen(alone=range(30), together=[*pairs_of(9, 12), (0, 9)])
    rows = torch.tensor([30, 33, 36])
    pairs, truth = candidate_pairs(screen, rows, 1000, 0, entries=5)
    held, made = screen.batch.genes[rows][:, :2], pairs.unique()
    assert torch.equal(pairs[truth], held)
    assert bool(torch.isin(held, made).all())
    assert len(made) == len(held.unique()) + 5
    assert len(pairs) == math.comb(len(made), 2)
    assert torch.equal(
        candidate_pairs(screen, rows, 1000, 0, entries=30)[0], candidate_pairs(screen, rows, 1000, 0)[0]
    )


def test_error_models_of_many_candidates_are_compared_among_some(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, fits = screen_of(FEWEST_TO_CHOOSE, noise=1.0), []
    for compared in (10, 1000):
        monkeypatch.setattr(cross_fitting, "_COMPARED", compared)
        fits.append(Calibrated(Additive()).fit(screen, seed=0))
    some, every = fits
    assert some.selection.support == every.selection.support
    assert some.promise.mean == pytest.approx(every.promise.mean, abs=0.3)


def test_fewer_candidates_than_pairs_can_be_fitted() -> None:
    fitted = Calibrated(Additive(), candidates=5).fit(screen_of(10, noise=1.0), seed=0)
    assert fitted.selection.support == 10
    assert -3 < fitted.selection.log_score <= 0
