from dataclasses import replace
from functools import cache

import pytest
import torch
from strategies.questions import READOUTS, question_model, question_screen, question_space
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.acquisition.acquisition import member_improvement
from inverse_design.acquisition.joint_gain import JointEffects, gene_correlation, joint_effects
from inverse_design.acquisition.quadratic import ErrorAxes
from inverse_design.acquisition.utility import (
    Advance,
    Nearness,
    Utility,
    best_measured,
    shrunk,
    utility_error,
    utility_of,
)
from inverse_design.problem.target import AlignedProfile, ProfileTarget, ScalarTarget, SignatureTarget
from surrogates.models.baselines import Additive
from surrogates.models.wrappers.calibrated import Calibrated
from surrogates.uncertainty.error_model import FactorCovariance

COLUMNS = torch.tensor([4, 0, 2])
TARGET = AlignedProfile(
    COLUMNS,
    question_screen().effects[-1, COLUMNS],
    torch.zeros(3).double(),
    torch.tensor([1.0, 2.0, 0.5]).double(),
)


@cache
def effects() -> JointEffects:
    space = question_space()
    return joint_effects(question_model(), space.take(torch.arange(8)), COLUMNS, question_screen())


def first(readouts: int) -> Utility:
    """The first readout, to look at the draws themselves."""
    return Advance(AlignedProfile.exact(range(readouts), torch.eye(readouts).double()[0]))


def test_draws_have_the_mean_and_variance_of_the_marginal_law() -> None:
    law = effects().marginal()
    belief = effects().believe(first(3), 20_000, seed=1)
    variance = law.variance[:, 0]
    torch.testing.assert_close(belief.mean, law.mean[:, 0], rtol=0.0, atol=0.03)
    torch.testing.assert_close(belief.variance, variance, rtol=0.06, atol=0.0)


def test_the_law_has_the_calibrated_variance_without_that_of_coefficients() -> None:
    posterior = replace(question_model().predict(question_space().take(torch.arange(8))), scatter=None)
    law = effects().marginal()
    torch.testing.assert_close(law.variance.sum(1), posterior.variance[:, COLUMNS].sum(1))


def test_measurement_noise_is_taken_off() -> None:
    noisy = replace(question_screen(), standard_errors=torch.full_like(question_screen().effects, 0.1))
    batch = question_space().take(torch.arange(8))
    less = joint_effects(question_model(), batch, COLUMNS, noisy)
    removed = effects().marginal(), less.marginal()
    total = [law.variance.sum(1) for law in removed]
    torch.testing.assert_close(total[0] - total[1], torch.full((8,), 3 * 0.01).double())


def test_candidates_that_share_a_gene_miss_together() -> None:
    """Pairs 0+1, 0+2 and 3+4 with a correlation of 0.4 per gene, without an error of the model."""
    law = JointEffects(
        torch.zeros(3, 2).double(),
        torch.zeros(0, 3, 2).double(),
        torch.zeros(0, 3, dtype=torch.bool),
        (FactorCovariance(torch.tensor([1.0, 2.0]).double(), torch.tensor([[1.0], [0.5]]).double()),),
        torch.zeros(3, dtype=torch.int64),
        torch.ones(3).double(),
        torch.tensor([[0, 1], [0, 2], [3, 4]]),
        0.4,
    )
    drawn = law.believe(first(2), 20_000, seed=3).joint()
    expected = 2 * torch.tensor([[1.0, 0.4, 0.0], [0.4, 1.0, 0.0], [0.0, 0.0, 1.0]]).double()
    torch.testing.assert_close(drawn.T.cov(), expected, rtol=0.0, atol=0.08)
    some = law.rows(torch.tensor([2, 0]))
    assert some.genes.tolist() == [[3, 4], [0, 1]]


def test_genes_explain_no_more_than_all_of_an_error() -> None:
    """Triples 0+1+2 and 0+1+3 with a correlation of 1/2 per gene: a third for each of three."""
    unit = FactorCovariance(torch.ones(1).double(), torch.zeros(1, 0).double())
    law = JointEffects(
        torch.zeros(2, 1).double(), torch.zeros(0, 2, 1).double(), torch.zeros(0, 2, dtype=torch.bool), (unit,),
        torch.zeros(2, dtype=torch.int64), torch.ones(2).double(), torch.tensor([[0, 1, 2], [0, 1, 3]]), 0.5,
    )  # fmt: skip
    drawn = law.believe(first(1), 20_000, seed=3).joint()
    expected = torch.tensor([[1.0, 2 / 3], [2 / 3, 1.0]]).double()
    torch.testing.assert_close(drawn.T.cov(), expected, rtol=0.0, atol=0.04)


@pytest.mark.parametrize("worth", [Nearness(TARGET), Advance(TARGET)], ids=["distance", "projection"])
def test_single_precision_changes_no_utility_that_matters(worth: Utility) -> None:
    drawn = question_screen().effects[:, COLUMNS]
    assert worth.utility(drawn.float()).dtype == torch.float32
    torch.testing.assert_close(worth.utility(drawn.float()).double(), worth.utility(drawn), rtol=1e-5, atol=1e-6)


def test_the_error_of_the_model_is_the_jackknife_of_the_cross_fits() -> None:
    model, batch = question_model(), question_space().take(torch.arange(8))
    means = torch.stack([fold.fitted.predict(batch).mean[:, COLUMNS] for fold in model.cross])
    k = len(means)
    by_hand = (k - 1) / k * (means - means.mean(0)).square().sum(0)
    torch.testing.assert_close(effects().model_error.square().sum(0), by_hand)
    deviations = effects().leave_one_out() - effects().mean
    torch.testing.assert_close(deviations, means - means.mean(0))


def test_a_model_without_cross_fits_has_no_error_that_is_known() -> None:
    screen = planted_screen(alone=range(5), together=[], readouts=READOUTS)
    model = Calibrated(Additive()).fit(screen, seed=0)
    found = joint_effects(model, screen.vocabulary.dosed(torch.tensor([[0, 1]])), COLUMNS, screen)
    assert float(found.model_error.square().sum()) == 0.0
    assert gene_correlation(model) == 0.0
    assert float(found.spread[0]) == 1.0


def test_errors_that_come_with_genes_are_recognised() -> None:
    """Each gene adds an error of its own in combinations: half of the variance of two pairs that share one."""
    pairs = pairs_of(14, 60)
    screen = planted_screen(alone=range(14), together=pairs, readouts=20, noise=0.02)
    shift = normal(14, 20, seed=5)
    moved = screen.effects.clone()
    moved[14:] = 0.0
    for row, (i, j) in enumerate(pairs):
        moved[14 + row] = moved[i] + moved[j] + shift[i] + shift[j]
    alike = gene_correlation(Calibrated(Additive()).fit(replace(screen, effects=moved), seed=0))
    independent = moved.clone()
    independent[14:] = (
        independent[14:]
        + 2 * normal(60, 20, seed=6)
        - sum(shift[torch.tensor([pair[side] for pair in pairs])] for side in (0, 1))
    )
    apart = gene_correlation(Calibrated(Additive()).fit(replace(screen, effects=independent), seed=0))
    assert alike > 0.3
    assert apart < 0.1


@pytest.mark.parametrize("worth", [Nearness(TARGET), Advance(TARGET)], ids=["distance", "projection"])
def test_improvement_in_closed_form_is_that_of_draws(worth: Utility) -> None:
    utilities = effects().believe(worth, 20_000, seed=2)
    incumbent = float(utilities.mean.max())
    found = worth.improvement(effects().marginal(), incumbent)
    unit = float(utilities.deviation.mean())
    torch.testing.assert_close(
        found.expected / unit, member_improvement(utilities, incumbent).score / unit, rtol=0.0, atol=0.03
    )
    torch.testing.assert_close(
        found.probability, (utilities.joint() > incumbent).double().mean(0), rtol=0.0, atol=0.04
    )


def test_lists_of_one_error_model_are_turned_once_and_valued_as_if_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made, turned, worth = list[FactorCovariance](), ErrorAxes.of, Nearness(TARGET)
    monkeypatch.setattr(ErrorAxes, "of", lambda *found: made.append(found[0]) or turned(*found))
    law, other = effects().marginal(), replace(effects().marginal(), mean=effects().mean + 1)
    worth.improvement(other, -1.0)
    found = worth.improvement(law, -1.0)
    assert len(made) == len(law.covariances)
    torch.testing.assert_close(found.score, Nearness(TARGET).improvement(law, -1.0).score)
    wider = replace(law, covariances=tuple(replace(one, diagonal=4 * one.diagonal) for one in law.covariances))
    torch.testing.assert_close(
        worth.improvement(wider, -1.0).score, Nearness(TARGET).improvement(wider, -1.0).score
    )


def test_each_target_has_its_worth() -> None:
    screen = question_screen()
    for target, name in (
        (ProfileTarget("t", screen.readouts, screen.effects[0]), "distance"),
        (ScalarTarget("r1", "reach", 2.0), "distance"),
        (ScalarTarget("r1", "minimise"), "projection"),
        (SignatureTarget("s", {"r1": 1.0}, {"r2": 2.0}), "projection"),
    ):
        worth = utility_of(target, target.on(screen.readouts))
        assert isinstance(worth, Utility)
        assert worth.name == name
    down = utility_of(ScalarTarget("r1", "minimise"), ScalarTarget("r1", "minimise").on(screen.readouts))
    assert down.utility(torch.tensor([[2.0]]).double()).tolist() == [-2.0]


@pytest.mark.parametrize("worth", [Nearness(TARGET), Advance(TARGET)], ids=["distance", "projection"])
def test_noise_of_a_utility_is_that_of_repeated_measurements(worth: Utility) -> None:
    truth, noise = question_screen().effects[:1, COLUMNS] + 1.0, torch.tensor([[0.04, 0.01, 0.02]]).double()
    readings = truth + noise.sqrt() * normal(20_000, 3, seed=4)
    assert float(worth.variance(truth, noise)) == pytest.approx(float(worth.utility(readings).var()), rel=0.06)
    corrected = worth.without_noise(readings, noise.expand(20_000, 3))
    assert float(corrected.mean()) == pytest.approx(float(worth.utility(truth)), abs=0.01)


@pytest.mark.parametrize(
    "target",
    [
        ScalarTarget("r1", "minimise"),
        ProfileTarget("p", question_screen().readouts, question_screen().effects[-1] + 2.0),
    ],
    ids=["direction", "state"],
)
def test_the_error_of_a_utility_is_that_of_the_median_condition(target: ProfileTarget | ScalarTarget) -> None:
    screen = question_screen().rows([0, 1, 2])
    assert utility_error(target, screen) is None
    errors, draws = torch.linspace(0.1, 0.4, READOUTS).double(), normal(20_000, READOUTS, seed=7)
    aligned = target.on(screen.readouts)
    worth = utility_of(target, aligned)
    spreads = [
        float(worth.utility((effect + errors * draws)[:, aligned.columns]).std()) for effect in screen.effects
    ]
    found = utility_error(target, replace(screen, standard_errors=errors.expand(3, -1).clone()))
    assert found == pytest.approx(sorted(spreads)[1], rel=0.05)


def test_the_incumbent_is_the_best_reading_without_standard_errors() -> None:
    screen = question_screen()
    found = best_measured(Nearness(TARGET), TARGET, screen)
    assert found.label == screen.labels[-1]  # whose own profile is the target
    assert found.measured == found.utility == 0.0


def test_noise_draws_the_incumbent_towards_the_mean() -> None:
    screen = replace(question_screen(), standard_errors=torch.full_like(question_screen().effects, 0.5))
    worth = Advance(TARGET)
    plain, noisy = best_measured(worth, TARGET, question_screen()), best_measured(worth, TARGET, screen)
    assert noisy.utility < noisy.measured == plain.measured
    values = normal(500, seed=1) * 2
    kept, left = shrunk(values + 3 * normal(500, seed=2), torch.full((500,), 9.0).double())
    regression = float((kept * values).sum() / kept.square().sum())
    assert regression == pytest.approx(1.0, abs=0.15)  # the posterior mean is calibrated
    missed = float((kept - values).square().mean())
    assert missed == pytest.approx(float(left.mean()), rel=0.2)  # and so is its variance
