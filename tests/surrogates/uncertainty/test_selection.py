import math
from dataclasses import replace

import pytest
import torch
from strategies.screens import normal
from torch import Tensor
from torch.distributions import MultivariateNormal

from surrogates.uncertainty import selection as choosing
from surrogates.uncertainty.error_model import ErrorLaw, LawChoice, StandardResiduals
from surrogates.uncertainty.forms import FoldProducts, HeldOutFold, WantedProducts
from surrogates.uncertainty.selection import (
    COEFFICIENT_VARIANCES,
    FEWEST_TO_CHOOSE,
    SHRINKAGES,
    TAILS,
    BehindBest,
    FoldTrial,
    Selection,
    _Scores,
    select_law,
    temper,
)

V, G = 12, 24
PAIRS = torch.combinations(torch.arange(V), 2)
MARKS = torch.zeros(len(PAIRS), V, dtype=torch.float64).scatter_(1, PAIRS, 1.0)


def folds_of(
    count: int,
    *,
    folds: int = 4,
    factor_noise: float = 0.0,
    scatter: float = 0.0,
    noise: float = 0.5,
    seed: int = 0,
) -> list[HeldOutFold]:
    """Doubles that are sums of singles, but for shared factors, scattered coefficients and noise."""
    singles = normal(V, G, seed=seed)
    table = singles.clone
    order = torch.randperm(len(PAIRS), generator=torch.Generator().manual_seed(seed))[:count]
    weights = 1 + scatter * normal(count, V, seed=seed + 1)
    measured = (MARKS[order] * weights) @ singles + noise * normal(count, G, seed=seed + 2)
    measured += factor_noise * normal(count, 3, seed=seed + 3) @ normal(3, G, seed=seed + 4)
    return [
        HeldOutFold(
            measured=measured[fold::folds],
            truth=order[fold::folds],
            atoms=table,
            summed=PAIRS,
            basis=singles[:0],
            products=singles.new_empty(len(PAIRS), 0),
            scale=1 + (PAIRS.sum(1) % 3) / 4.0,
            parts=PAIRS,
            singles=table,
        )
        for fold in range(folds)
    ]


def dense_log_densities(fold: HeldOutFold, law: ErrorLaw) -> Tensor:
    """Log density of each row under each candidate, each from its own dense covariance."""
    sigma = law.covariance.diagonal.diag() + law.covariance.loadings @ law.covariance.loadings.T
    predictions = fold.predictions + law.offset
    columns = []
    for number, parts in enumerate(fold.parts):
        rows = fold.singles()[parts]
        full = fold.scale[number] * sigma + law.coefficient_variance * rows.T @ rows
        columns.append(MultivariateNormal(predictions[number], full).log_prob(fold.measured))
    return torch.stack(columns, dim=1)


def residuals_of(folds: list[HeldOutFold]) -> StandardResiduals:
    """Residuals of some folds, from the definition."""
    return StandardResiduals.of(
        torch.cat([each.measured - each.predictions[each.truth] for each in folds]),
        torch.cat([each.scale[each.truth] for each in folds]),
    )


def trials_of(folds: list[HeldOutFold]) -> list[FoldTrial]:
    """The same model predicts all folds here, so that the residuals of the others need no further fits."""
    return [FoldTrial(fold, residuals_of(folds[:at] + folds[at + 1 :])) for at, fold in enumerate(folds)]


def law_of_others(folds: list[HeldOutFold], left_out: int, choice: LawChoice) -> ErrorLaw:
    """The law of all folds but one."""
    return residuals_of(folds[:left_out] + folds[left_out + 1 :]).law(choice)


def score(folds: list[HeldOutFold], choices: list[LawChoice]) -> list[Selection]:
    scores = _Scores(trials_of(folds))
    return scores.selections(choices, torch.ones(len(scores.fold), dtype=torch.bool))


def select(folds: list[HeldOutFold]) -> Selection:
    return select_law(trials_of(folds)).chosen


def dense_score(folds: list[HeldOutFold], choice: LawChoice, temperature: float) -> float:
    """Mean log probability of the truth, each fold under the law of the other folds; all of it dense."""
    total = 0.0
    for number, fold in enumerate(folds):
        densities = dense_log_densities(fold, law_of_others(folds, number, choice))
        probabilities = (temperature * densities).log_softmax(1)
        total += float(probabilities[torch.arange(len(fold.truth)), fold.truth].sum())
    return total / sum(len(fold.truth) for fold in folds)


@pytest.mark.parametrize("choice", [LawChoice(0, 0.5), LawChoice(5, 0.1, 0.03)])
def test_the_score_is_the_mean_log_probability_under_laws_of_the_other_folds(choice: LawChoice) -> None:
    folds = folds_of(24, factor_noise=1.0, scatter=0.2)
    found = score(folds, [choice])[0]
    assert found.log_score == pytest.approx(dense_score(folds, choice, found.temperature), abs=1e-3)
    assert found.support == 24


def test_what_is_chosen_without_a_fold_has_not_seen_it() -> None:
    folds = folds_of(32, factor_noise=1.0, scatter=0.3)
    trials = trials_of(folds)
    changed = [replace(folds[0], measured=3 * normal(*folds[0].measured.shape, seed=9)), *folds[1:]]
    # The other folds' residuals are as before: they are those of models that never saw the first.
    disturbed = [trials_of(changed)[0], *trials[1:]]
    before, after = select_law(trials), select_law(disturbed)
    assert after.without[0] == before.without[0]
    assert after.chosen.log_score < before.chosen.log_score - 0.1
    others = before.promise.fold != 0
    torch.testing.assert_close(after.promise.without[0][others], before.promise.without[0][others])


def test_the_promise_is_the_score_of_each_fold_under_what_the_others_chose() -> None:
    folds = folds_of(24, factor_noise=1.0, scatter=0.3)
    found = select_law(trials_of(folds))
    expected = []
    for number, (fold, selection) in enumerate(zip(folds, found.without, strict=True)):
        densities = dense_log_densities(fold, law_of_others(folds, number, selection.choice))
        degrees = selection.choice.tails * G
        if math.isfinite(degrees):  # from the normal density back to its quadratic form, then to Student's
            densities = student_from(fold, law_of_others(folds, number, selection.choice), degrees)
        expected += (selection.temperature * densities).log_softmax(1)[torch.arange(6), fold.truth].tolist()
    torch.testing.assert_close(found.promise.log_probability.tolist(), expected, rtol=0, atol=0.01)
    assert found.promise.mean == pytest.approx(sum(expected) / 24, abs=0.005)
    assert found.promise.mean <= found.chosen.log_score + 0.02
    assert torch.equal(found.promise.parts, torch.cat([PAIRS[fold.truth] for fold in folds]))
    assert 0 < found.promise.standard_error < 1


def student_from(fold: HeldOutFold, law: ErrorLaw, degrees: float) -> Tensor:
    """Log density of each row under each candidate by the Student form, from dense covariances."""
    sigma = law.covariance.diagonal.diag() + law.covariance.loadings @ law.covariance.loadings.T
    predictions = fold.predictions + law.offset
    columns = []
    for number, parts in enumerate(fold.parts):
        rows = fold.singles()[parts]
        full = fold.scale[number] * sigma + law.coefficient_variance * rows.T @ rows
        gap = fold.measured - predictions[number]
        quad = (gap @ torch.linalg.inv(full) * gap).sum(1)
        columns.append(-(torch.logdet(full) + (degrees + G) * (quad / degrees).log1p()) / 2)
    return torch.stack(columns, dim=1)


def test_strong_factor_noise_is_answered_with_factors() -> None:
    folds = folds_of(60, factor_noise=2.0)
    chosen = select(folds)
    assert chosen.choice.rank > 0
    without = score(
        folds, [LawChoice(0, each, tau2) for each in SHRINKAGES for tau2 in COEFFICIENT_VARIANCES[::2]]
    )
    assert chosen.log_score > max(each.log_score for each in without) + 0.1


def test_scattered_coefficients_are_answered_with_their_variance() -> None:
    folds = folds_of(60, scatter=0.6)
    chosen = select(folds)
    assert chosen.choice.coefficient_variance >= 0.03
    without = score(folds, [replace(chosen.choice, coefficient_variance=0.0)])[0]
    assert chosen.log_score > without.log_score + 0.1


def test_exact_coefficients_get_little_variance() -> None:
    assert select(folds_of(60, noise=1.5)).choice.coefficient_variance <= 0.01


def test_no_single_change_improves_what_was_chosen() -> None:
    folds = folds_of(40, factor_noise=1.0, scatter=0.3)
    chosen = select(folds)
    one = chosen.choice
    neighbours = [replace(one, rank=rank) for rank in (0, 5, 10, 20)]
    neighbours += [replace(one, shrinkage=each) for each in SHRINKAGES]
    neighbours += [replace(one, coefficient_variance=each) for each in COEFFICIENT_VARIANCES]
    neighbours += [replace(one, tails=each) for each in TAILS]
    assert chosen.log_score >= max(each.log_score for each in score(folds, neighbours)) - 1e-9


def test_no_choice_is_scored_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[LawChoice] = []
    learn = _Scores._learn

    def spy(self: _Scores, choices: list[LawChoice]) -> None:
        tried.extend(choices)
        learn(self, choices)

    monkeypatch.setattr(_Scores, "_learn", spy)
    select(folds_of(40, factor_noise=1.0, scatter=0.3))
    assert len(tried) == len(set(tried)) > 20


def test_rows_are_multiplied_once_for_all_choices_of_a_covariance(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ErrorLaw] = []
    multiply = FoldProducts.of

    def spy(fold: HeldOutFold, law: ErrorLaw, wanted: WantedProducts | None = None) -> FoldProducts:
        made.append(law)
        return multiply(fold, law, wanted)

    monkeypatch.setattr(FoldProducts, "of", spy)
    trials = trials_of(folds_of(40, factor_noise=1.0, scatter=0.3))
    kept, once = select_law(trials), len(made)
    monkeypatch.setattr(choosing, "_NUMBERS", 0)
    assert select_law(trials).chosen == kept.chosen
    assert len(made) > 2 * once


def test_choices_that_are_compared_one_by_one_give_the_same_selection(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = trials_of(folds_of(40, factor_noise=1.0, scatter=0.3))
    kept = select_law(trials)
    monkeypatch.setattr(choosing, "_DENSITIES", 0)
    again = select_law(trials)
    assert (again.chosen, again.without) == (kept.chosen, kept.without)
    assert torch.equal(again.promise.without, kept.promise.without)


def test_error_models_are_compared_among_fewer_candidates_and_tempered_among_all() -> None:
    folds = folds_of(40, factor_noise=1.0, scatter=0.3)
    fewer = []
    for fold in folds:
        kept = torch.cat(
            [fold.truth, torch.arange(len(PAIRS))[~torch.isin(torch.arange(len(PAIRS)), fold.truth)][::2]]
        )
        fewer.append(
            replace(
                fold,
                truth=torch.arange(len(fold.truth)),
                summed=fold.summed[kept],
                products=fold.products[kept],
                scale=fold.scale[kept],
                parts=fold.parts[kept],
            )
        )
    trials = [replace(trial, fewer=some) for trial, some in zip(trials_of(folds), fewer, strict=True)]
    found, among_fewer = select_law(trials), select_law([replace(each, fold=each.fewer) for each in trials])
    assert [each.choice for each in found.without] == [each.choice for each in among_fewer.without]
    among_all = score(folds, [found.chosen.choice])[0]
    assert found.chosen.temperature == pytest.approx(among_all.temperature, rel=1e-3)
    assert found.chosen.log_score == pytest.approx(among_all.log_score, abs=1e-4)
    assert found.chosen.log_score < among_fewer.chosen.log_score
    assert torch.equal(found.promise.parts, torch.cat([PAIRS[fold.truth] for fold in folds]))


def test_one_readout_has_no_factors() -> None:
    folds = [
        replace(
            fold,
            measured=fold.measured[:, :1],
            atoms=fold.atoms()[:, :1].clone,
            basis=fold.basis[:, :1],
            singles=fold.singles()[:, :1].clone,
        )
        for fold in folds_of(20)
    ]
    chosen = select(folds)
    assert chosen.choice.rank == 0
    assert -math.log(len(PAIRS)) - 0.05 < chosen.log_score < 0


def test_equal_folds_give_equal_selections() -> None:
    assert select(folds_of(20, scatter=0.3)) == select(folds_of(20, scatter=0.3))


def test_the_order_of_rows_and_folds_does_not_matter() -> None:
    folds = folds_of(20, factor_noise=1.0)
    shuffled = []
    for fold in reversed(folds):
        order = torch.arange(len(fold.truth)).flip(0)
        shuffled.append(replace(fold, measured=fold.measured[order], truth=fold.truth[order]))
    first, second = select(folds), select(shuffled)
    assert first.choice == second.choice
    assert first.log_score == pytest.approx(second.log_score, abs=1e-4)
    assert first.temperature == pytest.approx(second.temperature, rel=0.05)


@pytest.mark.parametrize("count", [2, 5, FEWEST_TO_CHOOSE - 1])
def test_few_combinations_only_set_the_temperature(count: int) -> None:
    folds = folds_of(count, folds=min(count, 4), factor_noise=2.0)
    chosen = select(folds)
    assert chosen.choice == LawChoice()
    assert chosen.support == count
    laws = [law_of_others(folds, number, LawChoice()) for number in range(len(folds))]
    densities = [dense_log_densities(fold, law) for fold, law in zip(folds, laws, strict=True)]
    temperature, log_score = best_of([2 ** (each / 20) for each in range(-200, 30)], densities, folds)
    assert chosen.temperature == pytest.approx(temperature, rel=0.15)
    assert chosen.log_score == pytest.approx(log_score, abs=5e-3)


def best_of(powers: list[float], densities: list[Tensor], folds: list[HeldOutFold]) -> tuple[float, float]:
    """Try every power."""
    truths = [fold.truth[:, None] for fold in folds]
    scores = [
        float(
            torch.cat(
                [
                    (power * each).log_softmax(1).gather(1, truth)
                    for each, truth in zip(densities, truths, strict=True)
                ]
            ).mean()
        )
        for power in powers
    ]
    best = max(range(len(powers)), key=scores.__getitem__)
    return powers[best], scores[best]


@pytest.mark.parametrize("planted", [0.02, 0.3, 1.0])
def test_the_temperature_of_a_planted_likelihood_is_recovered(planted: float) -> None:
    densities = normal(3000, 30, seed=1) * 2 / planted
    truth = torch.distributions.Categorical(logits=planted * densities)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = truth.sample()
    blocks = [BehindBest.of(densities[:1000], drawn[:1000]), BehindBest.of(densities[1000:], drawn[1000:])]
    tempered = temper(blocks)
    found, log_score = tempered.best(torch.ones(3000, dtype=torch.bool))
    assert found == pytest.approx(planted, rel=0.1)
    best = max(
        float((power * densities).log_softmax(1).gather(1, drawn[:, None]).mean())
        for power in (planted / 1.3, planted, planted * 1.3)
    )
    assert log_score >= best - 1e-3


def test_a_likelihood_that_knows_nothing_is_switched_off() -> None:
    densities = 100 * normal(300, 20, seed=1)
    tempered = temper([BehindBest.of(densities, torch.zeros(300, dtype=torch.int64))])
    temperature, log_score = tempered.best(torch.ones(300, dtype=torch.bool))
    assert temperature < 0.002
    assert log_score == pytest.approx(-math.log(20), abs=0.02)
