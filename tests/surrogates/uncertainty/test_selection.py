import math
from dataclasses import replace

import pytest
import torch
from strategies.screens import normal
from torch import Tensor
from torch.distributions import MultivariateNormal

from surrogates.uncertainty import selection
from surrogates.uncertainty.residuals import ErrorLaw, LawChoice, StandardResiduals
from surrogates.uncertainty.selection import (
    COEFFICIENT_VARIANCES,
    FEWEST_TO_CHOOSE,
    SHRINKAGES,
    TAILS,
    HeldOutFold,
    Selection,
    _score,
    _Trial,
    best_temperature,
    pooled_residuals,
    select_law,
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
    order = torch.randperm(len(PAIRS), generator=torch.Generator().manual_seed(seed))[:count]
    weights = 1 + scatter * normal(count, V, seed=seed + 1)
    measured = (MARKS[order] * weights) @ singles + noise * normal(count, G, seed=seed + 2)
    measured += factor_noise * normal(count, 3, seed=seed + 3) @ normal(3, G, seed=seed + 4)
    return [
        HeldOutFold(
            measured=measured[fold::folds],
            truth=order[fold::folds],
            atoms=singles,
            weights=MARKS,
            scale=1 + (PAIRS.sum(1) % 3) / 4.0,
            parts=PAIRS,
            singles=singles,
            probed=torch.arange(len(order[fold::folds])),
        )
        for fold in range(folds)
    ]


def dense_log_densities(fold: HeldOutFold, law: ErrorLaw) -> Tensor:
    """Log density of each probed row under each candidate, each from its own dense covariance."""
    sigma = law.covariance.diagonal.diag() + law.covariance.loadings @ law.covariance.loadings.T
    predictions = fold.weights @ fold.atoms + law.offset
    columns = []
    for number, parts in enumerate(fold.parts):
        rows = fold.singles[parts]
        full = fold.scale[number] * sigma + law.coefficient_variance * rows.T @ rows
        columns.append(MultivariateNormal(predictions[number], full).log_prob(fold.measured[fold.probed]))
    return torch.stack(columns, dim=1)


def law_of_others(folds: list[HeldOutFold], left_out: int, choice: LawChoice) -> ErrorLaw:
    """The law of all folds but one, from the definition of a residual."""
    others = folds[:left_out] + folds[left_out + 1 :]
    return StandardResiduals.of(
        torch.cat([each.measured - each.weights[each.truth] @ each.atoms for each in others]),
        torch.cat([each.scale[each.truth] for each in others]),
    ).law(
        choice,
    )


def score(folds: list[HeldOutFold], choices: list[LawChoice]) -> list[Selection]:
    trials = [_Trial(fold, pooled_residuals([each for each in folds if each is not fold])) for fold in folds]
    return _score(trials, choices)


def dense_score(folds: list[HeldOutFold], choice: LawChoice, temperature: float) -> float:
    """Mean log probability of the truth, each fold under the law of the other folds; all of it dense."""
    total = 0.0
    for number, fold in enumerate(folds):
        densities = dense_log_densities(fold, law_of_others(folds, number, choice))
        probabilities = (temperature * densities).log_softmax(1)
        total += float(probabilities[torch.arange(len(fold.probed)), fold.truth[fold.probed]].sum())
    return total / sum(len(fold.probed) for fold in folds)


@pytest.mark.parametrize("choice", [LawChoice(0, 0.5), LawChoice(5, 0.1, 0.03)])
def test_the_score_is_the_mean_log_probability_under_laws_of_the_other_folds(choice: LawChoice) -> None:
    folds = folds_of(24, factor_noise=1.0, scatter=0.2)
    found = score(folds, [choice])[0]
    assert found.log_score == pytest.approx(dense_score(folds, choice, found.temperature), abs=1e-8)
    assert found.support == 24


def test_only_probed_rows_are_scored_but_all_lend_their_residuals() -> None:
    folds = [replace(fold, probed=torch.tensor([4, 1])) for fold in folds_of(24, factor_noise=1.0, scatter=0.2)]
    choice = LawChoice(5, 0.1, 0.03)
    found = score(folds, [choice])[0]
    assert found.log_score == pytest.approx(dense_score(folds, choice, found.temperature), abs=1e-8)
    assert found.support == 8


def test_the_law_of_a_fold_does_not_see_the_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    folds = folds_of(24, factor_noise=1.0)
    changed = [replace(folds[0], measured=folds[0].measured + 3 * normal(*folds[0].measured.shape, seed=9))]
    changed += folds[1:]
    choice = LawChoice(5, 0.1)
    caught: list[list[ErrorLaw]] = []

    def spy(trials: list[_Trial], choices: list[LawChoice]) -> list[Selection]:
        caught.append([trial.others.law(choice) for trial in trials])
        return [Selection(each, 1.0, 0.0, 24) for each in choices]

    monkeypatch.setattr(selection, "_score", spy)
    select_law(folds)
    before = caught[0]
    caught.clear()
    select_law(changed)
    after = caught[0]
    assert torch.equal(before[0].offset, after[0].offset)
    assert torch.equal(before[0].covariance.diagonal, after[0].covariance.diagonal)
    assert torch.equal(before[0].covariance.loadings, after[0].covariance.loadings)
    for one, other in zip(before[1:], after[1:], strict=True):
        assert not torch.allclose(one.covariance.variance, other.covariance.variance)


def test_strong_factor_noise_is_answered_with_factors() -> None:
    folds = folds_of(60, factor_noise=2.0)
    chosen = select_law(folds)
    assert chosen.choice.rank > 0
    without = score(
        folds, [LawChoice(0, each, tau2) for each in SHRINKAGES for tau2 in COEFFICIENT_VARIANCES[::2]]
    )
    assert chosen.log_score > max(each.log_score for each in without) + 0.1


def test_scattered_coefficients_are_answered_with_their_variance() -> None:
    folds = folds_of(60, scatter=0.6)
    chosen = select_law(folds)
    assert chosen.choice.coefficient_variance >= 0.03
    without = score(folds, [replace(chosen.choice, coefficient_variance=0.0)])[0]
    assert chosen.log_score > without.log_score + 0.1


def test_exact_coefficients_get_little_variance() -> None:
    assert select_law(folds_of(60, noise=1.5)).choice.coefficient_variance <= 0.01


def test_no_single_change_improves_what_was_chosen() -> None:
    folds = folds_of(40, factor_noise=1.0, scatter=0.3)
    chosen = select_law(folds)
    one = chosen.choice
    neighbours = [replace(one, rank=rank) for rank in (0, 5, 10, 20)]
    neighbours += [replace(one, shrinkage=each) for each in SHRINKAGES]
    neighbours += [replace(one, coefficient_variance=each) for each in COEFFICIENT_VARIANCES]
    neighbours += [replace(one, tails=each) for each in TAILS]
    assert chosen.log_score >= max(each.log_score for each in score(folds, neighbours)) - 1e-9


def test_no_choice_is_scored_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[LawChoice] = []

    def spy(trials: list[_Trial], choices: list[LawChoice]) -> list[Selection]:
        tried.extend(choices)
        return _score(trials, choices)

    monkeypatch.setattr(selection, "_score", spy)
    select_law(folds_of(40, factor_noise=1.0, scatter=0.3))
    assert len(tried) == len(set(tried)) > 20


def test_one_readout_has_no_factors() -> None:
    folds = [
        replace(fold, measured=fold.measured[:, :1], atoms=fold.atoms[:, :1], singles=fold.singles[:, :1])
        for fold in folds_of(20)
    ]
    chosen = select_law(folds)
    assert chosen.choice.rank == 0
    assert -math.log(len(PAIRS)) - 0.05 < chosen.log_score < 0


def test_equal_folds_give_equal_selections() -> None:
    assert select_law(folds_of(20, scatter=0.3)) == select_law(folds_of(20, scatter=0.3))


def test_the_order_of_rows_and_folds_does_not_matter() -> None:
    folds = folds_of(20, factor_noise=1.0)
    shuffled = []
    for fold in reversed(folds):
        order = torch.arange(len(fold.truth)).flip(0)
        shuffled.append(replace(fold, measured=fold.measured[order], truth=fold.truth[order]))
    first, second = select_law(folds), select_law(shuffled)
    assert first.choice == second.choice
    assert first.log_score == pytest.approx(second.log_score, abs=1e-4)
    assert first.temperature == pytest.approx(second.temperature, rel=0.05)


@pytest.mark.parametrize("count", [2, 5, FEWEST_TO_CHOOSE - 1])
def test_few_combinations_only_set_the_temperature(count: int) -> None:
    folds = folds_of(count, folds=min(count, 4), factor_noise=2.0)
    chosen = select_law(folds)
    assert chosen.choice == LawChoice()
    assert chosen.support == count
    laws = [law_of_others(folds, number, LawChoice()) for number in range(len(folds))]
    densities = [dense_log_densities(fold, law) for fold, law in zip(folds, laws, strict=True)]
    temperature, log_score = best_temperature(densities, [fold.truth for fold in folds])
    assert chosen.temperature == pytest.approx(temperature, rel=1e-4)
    assert chosen.log_score == pytest.approx(log_score, abs=1e-6)


@pytest.mark.parametrize("planted", [0.02, 0.3, 1.0])
def test_the_temperature_of_a_planted_likelihood_is_recovered(planted: float) -> None:
    densities = normal(3000, 30, seed=1) * 2 / planted
    truth = torch.distributions.Categorical(logits=planted * densities)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = truth.sample()
    found, log_score = best_temperature([densities[:1000], densities[1000:]], [drawn[:1000], drawn[1000:]])
    assert found == pytest.approx(planted, rel=0.1)
    best = max(
        float((power * densities).log_softmax(1).gather(1, drawn[:, None]).mean())
        for power in (planted / 1.3, planted, planted * 1.3)
    )
    assert log_score >= best - 1e-4


def test_a_likelihood_that_knows_nothing_is_switched_off() -> None:
    densities = 100 * normal(300, 20, seed=1)
    temperature, log_score = best_temperature([densities], [torch.zeros(300, dtype=torch.int64)])
    assert temperature < 0.002
    assert log_score == pytest.approx(-math.log(20), abs=0.02)
