from dataclasses import replace
from functools import cache

import pytest
import torch
from strategies.artefacts import tensors_of
from strategies.screens import gene, label, normal, pairs_of
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import surrogate_name
from surrogates.models.baselines import Additive, NoChange, ScaledAdditive
from surrogates.models.directions import EffectProducts
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import Automatic, best_with_experts, calibrated, with_unseen
from surrogates.models.wrappers.calibrated import Calibrated, Expert, FittedCalibrated
from surrogates.models.wrappers.cross_fitting import HeldOutPredictions
from surrogates.models.wrappers.denoised import Denoised
from surrogates.models.wrappers.public_law import BORROWED, public_law
from surrogates.models.wrappers.shrinkage import Shrinkage
from surrogates.models.wrappers.stacked import FittedStacked
from surrogates.testing import check_pair_factors, check_predictions

GENES, DOUBLES, READOUTS = 8, 22, 5
SMALL = Interaction(components=4, leading=2)
BASES = (Additive(), ScaledAdditive(), Interaction())


def world(own: float, *, scale: float, noise: float) -> Screen:
    """In combinations each gene does ``scale`` times what it does alone, and something of its own."""
    alone, together = normal(GENES, READOUTS, seed=0), own * normal(GENES, READOUTS, seed=1)
    pairs = pairs_of(GENES, DOUBLES)
    doubles = torch.stack([scale * alone[[i, j]].sum(0) + together[[i, j]].sum(0) for i, j in pairs])
    effects = torch.cat([alone, doubles + noise * normal(DOUBLES, READOUTS, seed=2)])
    labels = [*(gene(each) for each in range(GENES)), *(label(pair) for pair in pairs)]
    return Screen.from_labels(
        effects, [Perturbation.parse(each) for each in labels], [f"r{each}" for each in range(READOUTS)]
    )


@cache
def own_effects() -> Screen:
    return world(1.0, scale=0.8, noise=0.5)


@cache
def scaled() -> Screen:
    return world(0.0, scale=0.4, noise=0.3)


@cache
def fit(name: str, number: int) -> FittedCalibrated:
    """One of the surrogates between which the default chooses."""
    screen = {"own": own_effects, "scaled": scaled}[name]()
    return Calibrated(BASES[number]).fit(screen, seed=0)


def test_what_was_fitted_before_is_not_fitted_again() -> None:
    known = {Calibrated(BASES[number]): fit("own", number) for number in (0, 2)}
    default = Automatic(BASES, unseen=None)
    anew, reused = (tensors_of(default.fit(own_effects(), seed=0, known=each)) for each in ({}, known))
    assert len(anew) == len(reused) > 5
    assert all(torch.equal(one, other) for one, other in zip(anew, reused, strict=True))
    only = Automatic(BASES[:1], unseen=None).fit(own_effects(), seed=0, known=known)
    assert only.base is fit("own", 0).base


def log_score(fitted: FittedCalibrated) -> float:
    assert fitted.selection is not None
    return fitted.selection.log_score


def names(fitted: FittedCalibrated) -> dict[str, float]:
    return {expert.fitted.name: expert.weight for expert in fitted.experts} or {fitted.name: 1.0}


def test_own_effects_ask_for_interactions() -> None:
    chosen = best_with_experts([fit("own", number) for number in range(3)])
    scores = [log_score(fit("own", number)) for number in range(3)]
    assert chosen.name == "Interaction"
    assert log_score(chosen) == scores[2] > max(scores[:2]) + 0.5
    assert names(chosen)["Interaction"] > 0.9


def test_scaled_sums_ask_for_nothing_more() -> None:
    chosen = best_with_experts([fit("scaled", number) for number in range(3)])
    assert chosen.name == "ScaledAdditive"
    assert chosen.held_out.model < 0.5 * fit("scaled", 0).held_out.model


def test_the_choice_is_the_fit_of_the_chosen_surrogate_bit_for_bit() -> None:
    chosen, again = (Automatic((ScaledAdditive(), SMALL)).fit(own_effects(), seed=1) for _ in range(2))
    alone = Calibrated(SMALL).fit(own_effects(), seed=1)
    batch = chosen.vocabulary.dosed(torch.combinations(torch.arange(GENES), 2))
    for other in (again, alone):
        assert chosen.selection == other.selection
        assert torch.equal(chosen.predict(batch).mean, other.predict(batch).mean)
        assert torch.equal(chosen.predict(batch).variance, other.predict(batch).variance)


def test_a_shared_shrinkage_is_chosen_once_and_changes_no_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = own_effects()
    strengths = {"components": (2, 3), "noise": (1.0, 6.0)}
    bases = (
        Additive(),
        Denoised(ScaledAdditive(), **strengths),
        Denoised(SMALL, **strengths),
        Denoised(ScaledAdditive(), components=(2,)),
    )
    alone = [Calibrated(base).fit(screen, seed=2) for base in bases]
    chosen: list[Shrinkage] = []
    choose = Denoised.shrinkage

    def spy(self: Denoised, screen: Screen, *, seed: int, products: EffectProducts | None = None) -> Shrinkage:
        chosen.append(choose(self, screen, seed=seed, products=products))
        return chosen[-1]

    monkeypatch.setattr(Denoised, "shrinkage", spy)
    together = list(calibrated(bases, screen, seed=2))
    assert len(chosen) == 32  # for the whole, without each fold and each pair of folds, by two sets of strengths
    assert any(each.noise > 0 for each in chosen)
    batch = screen.vocabulary.dosed(torch.combinations(torch.arange(GENES), 2))
    for one, other in zip(alone, together, strict=True):
        assert one.name == other.name
        assert one.selection == other.selection
        assert one.held_out == other.held_out
        for mine, theirs in zip((one, *one.cross), (other, *other.cross), strict=True):
            mine, theirs = getattr(mine, "fitted", mine), getattr(theirs, "fitted", theirs)  # noqa: PLW2901
            assert torch.equal(mine.predict(batch).mean, theirs.predict(batch).mean)
            assert torch.equal(mine.predict(batch).variance, theirs.predict(batch).variance)


def varied(
    fit: FittedCalibrated, *, gain: float = 0.0, scatter: float = 0.0, error: float = 1.0
) -> FittedCalibrated:
    """The same fit with other scores of held-out truths, and residuals of another size; its cross-fits too."""
    promise = fit.promise
    assert promise is not None
    noise = scatter * normal(len(promise.chosen), 1, seed=5)[:, 0]
    return replace(
        fit,
        promise=replace(promise, chosen=promise.chosen + gain + noise, without=promise.without + gain + noise),
        evidence=shrunk(fit, error),
        cross=tuple(
            replace(each, fitted=replace(each.fitted, evidence=shrunk(each.fitted, error)))  # type: ignore[type-var, arg-type]
            for each in fit.cross
        ),
    )


def shrunk(fit: FittedCalibrated, error: float) -> dict[int, HeldOutPredictions]:
    known = fit.evidence[SEEN_DOUBLE]
    return {SEEN_DOUBLE: replace(known, mean=known.measured - error * known.residuals)}


@pytest.mark.parametrize(("error", "taken"), [(1.0, False), (0.7, True), (1.3, False)])
def test_the_simpler_predicts_unless_another_has_a_clearly_smaller_error(
    error: float,
    taken: bool,  # noqa: FBT001 - pytest passes it by name
) -> None:
    simple = fit("scaled", 1)
    other = varied(simple, error=error, gain=-1.0)
    chosen = best_with_experts(iter([simple, other]))
    assert torch.equal(chosen.evidence[SEEN_DOUBLE].mean, (other if taken else simple).evidence[SEEN_DOUBLE].mean)


@pytest.mark.parametrize(
    ("changes", "share"),
    [
        ({"gain": 0.5}, 0.5),
        ({"gain": 0.01}, 0.0),  # nobody minds one per cent of a probability
        ({"gain": 0.0, "scatter": 0.1}, 0.0),  # might be noise
        ({"gain": -0.5}, 0.0),
    ],
)
def test_the_simplest_names_alone_unless_the_pool_is_clearly_better(
    changes: dict[str, float], share: float
) -> None:
    simple = fit("scaled", 1)
    chosen = best_with_experts([simple, replace(varied(simple, **changes), name="other")])
    assert names(chosen).get("other", 0.0) >= share
    assert (names(chosen).get("other", 0.0) > 0) == (share > 0)


def test_a_fold_has_no_say_in_the_model_that_it_judges() -> None:
    simple = fit("scaled", 1)
    assert simple.promise is not None
    # The other names the truths of the first fold superbly, and no others: to choose it there would be to peek.
    first = simple.promise.fold == 0
    gain = torch.where(first, 9.0, -0.05)
    other = replace(
        simple,
        name="other",
        promise=replace(
            simple.promise, chosen=simple.promise.chosen + gain, without=simple.promise.without + gain
        ),
        cross=tuple(replace(each, fitted=replace(each.fitted, name="other")) for each in simple.cross),  # type: ignore[type-var]
    )
    chosen = best_with_experts([simple, other])
    assert chosen.promise is not None
    judge = chosen.cross[0].fitted
    assert isinstance(judge, FittedCalibrated)
    assert judge.name == "ScaledAdditive"
    assert names(chosen)["other"] > 0.5
    assert names(judge) == {"ScaledAdditive": 1.0}
    torch.testing.assert_close(chosen.promise.log_probability[first], simple.promise.log_probability[first])


def test_the_experts_are_the_fits_weighed_by_what_they_gave_to_held_out_truths() -> None:
    fits = [fit("scaled", number) for number in range(3)]
    chosen = best_with_experts(fits)
    assert chosen.promise is not None
    assert len(chosen.experts) > 1
    by_name = {each.name: each for each in fits}
    for expert in chosen.experts:
        assert expert.fitted.base is by_name[expert.fitted.name].base
        assert (expert.fitted.cross, expert.fitted.evidence, expert.fitted.experts) == ((), {}, ())
    assert sum(expert.weight for expert in chosen.experts) == pytest.approx(1)
    assert chosen.promise.mean > max(each.promise.mean for each in fits if each.promise) - 0.1
    probabilities = [expert.weight * scores_of(by_name[expert.fitted.name]).exp() for expert in chosen.experts]
    torch.testing.assert_close(chosen.promise.chosen, torch.stack(probabilities).sum(0).log())


@pytest.mark.parametrize("weight", [0.0, -0.5, float("nan"), float("inf")])
def test_an_expert_without_weight_is_refused(weight: float) -> None:
    with pytest.raises(DataError, match=f"an expert of weight {weight} is none"):
        Expert(weight, fit("own", 2))


def scores_of(fitted: FittedCalibrated) -> Tensor:
    assert fitted.promise is not None
    return fitted.promise.chosen


def test_a_fit_that_speaks_alone_needs_no_experts() -> None:
    assert best_with_experts([fit("own", 2)]).experts == ()


def test_without_held_out_doubles_sums_shrink_as_in_public_screens() -> None:
    singles = scaled().rows(range(GENES))
    chosen = Automatic((Additive(), ScaledAdditive(), SMALL)).fit(singles, seed=0)
    assert chosen.selection is None
    assert chosen.name == "BorrowedSum"
    batch = singles.vocabulary.dosed(torch.tensor([[0, 1], [2, -1]]))
    mean = torch.stack([public_law().scale * singles.effects[:2].sum(0), singles.effects[2]])
    torch.testing.assert_close(chosen.predict(batch).mean, mean)
    assert chosen.law(34).origin == BORROWED
    # Who names one surrogate gets its predictions.
    assert Automatic((SMALL,)).fit(singles, seed=0).name == "Interaction"


def test_without_entries_that_were_not_measured_nothing_is_learnt_of_them() -> None:
    cheap = Automatic((Additive(),), unseen=(NoChange(),))
    assert cheap.fit(own_effects(), seed=0).laws.keys() == {34}
    hidden = own_effects().rows([row for row in range(GENES + DOUBLES) if row != 0])
    assert 33 in cheap.fit(hidden, seed=0).laws


def test_what_is_not_asked_for_is_not_learnt_and_changes_nothing_else() -> None:
    hidden = own_effects().rows([row for row in range(GENES + DOUBLES) if row != 0])
    whole = Automatic((Additive(), ScaledAdditive()), unseen=(NoChange(),)).fit(hidden, seed=0)
    seen = Automatic((Additive(), ScaledAdditive()), unseen=None).fit(hidden, seed=0)
    assert 33 in whole.laws
    assert seen.laws.keys() == {34}
    assert (seen.name, seen.selection) == (whole.name, whole.selection)
    known = hidden.batch.rows(
        torch.nonzero((hidden.batch.order == 2) & (hidden.batch.genes != 0).all(1)).flatten()
    )
    one, other = seen.predict(known), whole.predict(known)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.variance, other.variance)


def test_the_candidates_of_the_default_start_with_the_simplest() -> None:
    assert [surrogate_name(base) for base in Automatic().bases] == [
        "Additive",
        "Denoised(ScaledAdditive)",
        "Denoised(Interaction)",
    ]
    with pytest.raises(DataError, match="no surrogate"):
        Automatic(()).fit(scaled(), seed=0)


def test_unseen_parts_get_predictions_and_laws_of_their_own() -> None:
    screen = own_effects()
    plain = fit("own", 2)
    whole = with_unseen(plain, (Additive(), NoChange()), screen, seed=0)
    assert isinstance(whole.base, FittedStacked)
    assert {16, 33} <= set(whole.laws) - set(plain.laws)
    assert whole.laws[16].origin == "single, unseen"
    assert whole.laws[16].support == GENES
    measured = screen.batch
    assert torch.equal(whole.predict(measured).mean, plain.predict(measured).mean)
    torch.testing.assert_close(whole.predict(measured).variance, plain.predict(measured).variance)
    check_predictions(whole, screen)
    check_pair_factors(whole.base)


def test_the_unseen_are_predicted_by_what_was_held_out() -> None:
    hidden = own_effects().rows([row for row in range(GENES + DOUBLES) if row != 0])
    whole = with_unseen(Calibrated(Additive()).fit(hidden, seed=0), (Additive(), NoChange()), hidden, seed=0)
    assert isinstance(whole.base, FittedStacked)
    unknown = whole.vocabulary.dosed(torch.tensor([[0, -1], [0, 3]]))
    assert not bool(whole.measured_alone[0])
    nothing = whole.base.weights(16).weights
    assert nothing[0] == 0  # what predicts seen parts has no say
    mean = whole.predict(unknown).mean - torch.stack([whole.law(16).offset, whole.law(33).offset])
    additive = whole.base.members[1].predict(unknown).mean
    torch.testing.assert_close(mean[0], nothing[1] * additive[0])


def test_too_few_targets_leave_the_fit_as_it_is() -> None:
    few = scaled().rows([0, 1, 2, GENES])
    plain = Calibrated(Additive()).fit(few, seed=0)
    assert with_unseen(plain, (Additive(), NoChange()), few, seed=0) is plain
