from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp
from strategies.screens import normal, plans, planted_screen

from surrogates.contrib.dynamics import (
    FittedSaturatingDynamics,
    SaturatingDynamics,
    SaturatingNetworks,
    dose_design,
)
from surrogates.data.catalogue import open_dataset
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.evaluation.metrics import pearson_rows
from surrogates.models.baselines import Additive
from surrogates.models.training import Schedule
from surrogates.testing import check_surrogate

QUICK = SaturatingDynamics(restarts=2, step=1.0, schedule=Schedule(epochs=8, batch=64, rate=0.01, decay=0.0))


def _dosed_screen() -> Screen:
    """Two targets at several doses, one of them together with a third that is never given alone."""
    labels = ["A@0.5", "A@1", "A@2", "B@1", "B@3", "A@0.5+B@1", "B@1+C@4"]
    effects = normal(len(labels), 5, seed=0)
    return Screen.from_labels(effects, [Perturbation.parse(label) for label in labels], ["A", *"vwxy"])


def _batch(fitted: FittedSaturatingDynamics, *labels: str) -> PerturbationBatch:
    return fitted.vocabulary.batch([Perturbation.parse(label) for label in labels])


def _networks(**changes: float) -> SaturatingNetworks:
    return replace(
        SaturatingNetworks(
            edges=0.3 * normal(2, 4, 4, seed=1),
            gain=1 + normal(2, 4, seed=2).square(),
            decay=1 + normal(2, 4, seed=3).abs(),
            horizon=3.0,
            step=0.1,
        ),
        **changes,
    )


@pytest.mark.parametrize("own", [True, False], ids=["targets are readouts", "targets are none"])
def test_contract(own: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    network = Network(genes=6)
    screen = (
        SaturatingWorld(network).screen(singles_and_doubles(network, doubles=8, seed=0), seed=0)
        if own
        else planted_screen(alone=range(5), together=[(0, 1), (1, 2), (0, 5)], readouts=4)
    )
    check_surrogate(QUICK, screen)


@settings(max_examples=3)
@given(plan=plans())
def test_contract_of_predictions_on_any_design(plan: dict[str, object]) -> None:
    screen = planted_screen(**plan)  # type: ignore[arg-type]
    fitted = replace(QUICK, schedule=Schedule(epochs=2)).fit(screen, seed=1)
    posterior = fitted.predict(screen.batch)
    assert torch.isfinite(posterior.mean).all()
    assert (posterior.scale >= 1).all()
    control = _batch(fitted, "", screen.labels[0])
    assert fitted.predict(control).mean[0].tolist() == [0.0] * len(screen.readouts)
    assert fitted.predict(control).scale[0] == 1


def test_networks_follow_the_differential_equation() -> None:
    networks, inputs = _networks(), normal(2, 3, 4, seed=4)
    states = networks.settle(inputs)
    for member in range(2):
        edges, gain, decay = (each[member].numpy() for each in (networks.edges, networks.gain, networks.decay))
        for row in range(3):
            pushed = inputs[member, row].numpy()
            slow = solve_ivp(
                lambda _, x: gain * np.tanh(edges @ x + pushed) - decay * x,  # noqa: B023 - called at once
                (0, 3),
                np.zeros(4),
                rtol=1e-9,
                atol=1e-9,
            )
            np.testing.assert_allclose(states[member, row].numpy(), slow.y[:, -1], atol=2e-5)


def test_a_late_horizon_is_a_steady_state_and_the_default_step_suffices() -> None:
    inputs = normal(2, 3, 4, seed=4)
    late = _networks(horizon=40.0)
    state = late.settle(inputs)
    slope = late.gain[:, None] * torch.tanh(state @ late.edges.mT + inputs) - late.decay[:, None] * state
    assert float(slope.abs().max()) < 1e-6
    default = SaturatingDynamics()
    coarse = _networks(horizon=default.horizon, step=default.step).settle(inputs)
    fine = _networks(horizon=default.horizon, step=0.01).settle(inputs)
    torch.testing.assert_close(coarse, fine, atol=0.02, rtol=0)


def test_it_learns_a_saturating_world_better_than_sums() -> None:
    network = Network(genes=8)
    world = SaturatingWorld(network, strength=2.0, noise=0.02)
    pairs = singles_and_doubles(network, doubles=28, seed=1)
    screen, truth = world.screen(pairs[:24], seed=0), world.truth(pairs[24:])
    model = SaturatingDynamics(restarts=2, step=1.0, schedule=Schedule(epochs=60, rate=0.02, decay=0.0))
    dynamic, additive = (
        float((each.fit(screen, seed=0).predict(screen.vocabulary.batch(pairs[24:])).mean - truth).square().sum())
        for each in (model, Additive())
    )
    assert dynamic < 0.5 * additive


def test_the_posterior_is_the_mean_and_the_spread_of_the_members() -> None:
    screen = _dosed_screen()
    fitted = QUICK.fit(screen, seed=0)
    members, posterior = fitted.members(screen.batch), fitted.predict(screen.batch)
    torch.testing.assert_close(posterior.mean, (members[0] + members[1]) / 2)
    spread = ((members[0] - members[1]) / 2).square().sum(1)
    torch.testing.assert_close(posterior.variance.sum(1), fitted.variance.sum() + spread)


def test_a_dose_scales_the_input_of_its_target() -> None:
    fitted = QUICK.fit(_dosed_screen(), seed=0)
    low, high = (fitted.vocabulary.id(label) for label in ("B@1", "B@3"))
    assert torch.equal(fitted.inputs[:, low], fitted.inputs[:, high])  # per unit of dose
    batch = _batch(fitted, "B@3")
    twice = PerturbationBatch(torch.full_like(batch.genes, low), batch.dose)
    torch.testing.assert_close(fitted.predict(twice).mean, fitted.predict(batch).mean)


def test_doses_beyond_the_trained_ones_are_predicted_and_flagged() -> None:
    fitted = QUICK.fit(_dosed_screen(), seed=0)
    batch = _batch(fitted, "A@2", "A@0.5+B@1", "B@1+C@4", "")
    assert fitted.outside_trained_range(batch).tolist() == [False] * 4
    beyond = PerturbationBatch(batch.genes, 1.5 * batch.dose)
    assert fitted.outside_trained_range(beyond).tolist() == [True, False, True, False]
    assert torch.isfinite(fitted.predict(beyond).mean).all()


def test_targets_that_were_never_trained() -> None:
    screen = _dosed_screen()
    without = screen.rows([row for row, label in enumerate(screen.labels) if "B" not in label])
    without = replace(without, readouts=("v0", *screen.readouts[1:]))
    fitted = QUICK.fit(without, seed=0)
    trained, unseen, other = (fitted.vocabulary.id(label) for label in ("A@2", "B@3", "C@4"))
    torch.testing.assert_close(fitted.inputs[:, unseen] * 3, fitted.inputs[:, trained] * 2)  # the mean of one
    torch.testing.assert_close(fitted.inputs[:, other] * 4, fitted.inputs[:, trained] * 2)
    assert fitted.outside_trained_range(_batch(fitted, "B@1", "A@2")).tolist() == [True, False]


def test_a_target_that_is_a_readout_acts_on_itself_alone() -> None:
    network = Network(genes=5)
    screen = SaturatingWorld(network).screen(singles_and_doubles(network, doubles=4, seed=0), seed=0)
    kept = [row for row, label in enumerate(screen.labels) if network.names[4] not in label]
    fitted = QUICK.fit(screen.rows(kept), seed=0)
    off_diagonal = fitted.inputs * (1 - torch.eye(5, dtype=torch.float64))
    assert not bool(off_diagonal.any())
    strengths = fitted.inputs.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(strengths[:, 4], strengths[:, :4].mean(1))
    assert fitted.predict(_batch(fitted, network.names[4])).mean.abs().max() > 0


def test_a_target_held_out_by_a_member_gets_its_mean_input() -> None:
    screen = planted_screen(alone=range(6), together=[], readouts=3)
    fitted = replace(QUICK, restarts=6).fit(screen, seed=0)  # six folds of one single each
    for inputs in fitted.inputs:
        is_mean = [
            torch.allclose(inputs[entry], inputs[[other for other in range(6) if other != entry]].mean(0))
            for entry in range(6)
        ]
        assert sum(is_mean) == 1


def test_the_penalty_thins_the_edges() -> None:
    network = Network(genes=6)
    screen = SaturatingWorld(network).screen(singles_and_doubles(network, doubles=8, seed=0), seed=0)
    schedule = Schedule(epochs=20, rate=0.02, decay=0.0, patience=60)
    sizes = [
        float(replace(QUICK, penalty=penalty, schedule=schedule).fit(screen, seed=0).networks.edges.abs().mean())
        for penalty in (0.0, 0.3)
    ]
    assert sizes[1] < 0.5 * sizes[0]


def test_the_variance_is_that_of_held_out_perturbations() -> None:
    screen = planted_screen(alone=range(6), together=[(0, 1), (2, 3), (4, 5)], readouts=3, noise=0.5)
    fitted = QUICK.fit(screen, seed=0)
    in_sample = (screen.effects - fitted.predict(screen.batch).mean).square().mean(0)
    assert fitted.variance.sum() > in_sample.sum()


def test_effects_that_are_all_zero_are_predicted_as_zero() -> None:
    screen = planted_screen(alone=range(4), together=[(0, 1)], readouts=3)
    nothing = replace(screen, effects=torch.zeros_like(screen.effects))
    posterior = QUICK.fit(nothing, seed=0).predict(screen.batch)
    assert not bool(posterior.mean.any())
    assert (posterior.variance > 0).all()


@given(doses=st.lists(st.floats(0.1, 10), min_size=4, max_size=4))
def test_the_dose_design_places_each_dose(doses: list[float]) -> None:
    genes = torch.tensor([[0, 2], [1, -1]])
    dose = torch.tensor(doses, dtype=torch.float64).reshape(2, 2) * (genes >= 0)
    design = dose_design(PerturbationBatch(genes, dose), 3)
    assert design.tolist() == [[doses[0], 0, doses[1]], [0, doses[2], 0]]


def test_too_many_readouts_are_refused() -> None:
    screen = planted_screen(alone=range(4), together=[], readouts=12)
    with pytest.raises(DataError, match=r"12 readouts are too many .* take at most 11"):
        replace(QUICK, most_readouts=11).fit(screen, seed=0)


def test_too_few_conditions_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 condition\(s\) are too few"):
        QUICK.fit(planted_screen(alone=range(4), together=[], readouts=3).rows([0, 1]), seed=0)


def test_several_contexts_are_refused() -> None:
    screen = planted_screen(alone=range(4), together=[], readouts=3)
    with pytest.raises(DataError, match="2 contexts"):
        QUICK.fit(replace(screen, contexts=("a", "a", "b", "b")), seed=0)


@pytest.mark.parametrize("wrong", [{"restarts": 0}, {"step": 0.0}, {"step": 7.0}, {"penalty": -1.0}])
def test_settings_that_train_nothing_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="saturating dynamics need"):
        SaturatingDynamics(**wrong)  # type: ignore[arg-type]


@pytest.mark.real_data
def test_an_unseen_drug_of_the_melanoma_screen(real_data: Callable[[str], Path]) -> None:
    real_data("cellbox_skmel133")
    screen = open_dataset("cellbox_skmel133")
    held = torch.tensor(["Tm" in label for label in screen.labels])
    training = screen.rows(torch.nonzero(~held).flatten())
    model = replace(SaturatingDynamics(), restarts=2, schedule=replace(SaturatingDynamics().schedule, epochs=15))
    test = screen.batch.rows(torch.nonzero(held).flatten())
    fitted = model.fit(training, seed=0)
    truth = screen.effects[held].flatten()[None]
    correlation = pearson_rows(fitted.predict(test).mean.flatten()[None], truth)
    assert float(correlation) > 0.6
    assert fitted.outside_trained_range(test).all()
