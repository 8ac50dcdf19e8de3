from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import gene, normal, pairs_of, plans, planted_screen

from surrogates.data.catalogue import open_dataset
from surrogates.data.descriptors import Descriptors
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import LatentSum
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.latent import LatentAdditive, decoder_only
from surrogates.models.latent_sum import FittedLatentSum, decoded_departure, network_of
from surrogates.models.training import Layers, Schedule
from surrogates.models.wrappers.ensemble import Residual
from surrogates.testing import check_pair_factors, check_surrogate, probe_batch

QUICK = LatentAdditive(latent=8, hidden=(16,), schedule=Schedule(epochs=8, batch=16, rate=5e-3))
SCREEN = planted_screen(alone=range(8), together=pairs_of(9, 20), readouts=6, bend=0.5)


def check_latent_sum(fitted: FittedLatentSum, screen: Screen) -> None:
    """Rows and networks make all pairs, and zeros among other rows decode to exactly nothing."""
    assert isinstance(fitted, LatentSum)
    check_pair_factors(fitted)
    probe = probe_batch(screen)
    mean = fitted.predict(probe).mean
    assert not bool(mean[probe.order == 0].any())
    assert bool(mean[probe.order > 0].any())


def _line_screen(unseen: int = 3) -> tuple[Screen, Screen, Descriptors]:
    """Single effects that are linear in two numbers known of each target; some targets are left for testing."""
    known = normal(30, 2, seed=5)
    effects = known @ normal(2, 6, seed=6) + 0.02 * normal(30, 6, seed=7)
    names = [gene(number) for number in range(30)]
    screen = Screen.from_labels(effects, [Perturbation.parse(name) for name in names], [*"abcdef"])
    table = pd.DataFrame(known.numpy(), index=names)
    return (
        screen.rows(range(unseen, 30)),
        screen.rows(range(unseen)),
        Descriptors.from_table(table, name="line", kernel="linear"),
    )


@pytest.mark.parametrize(
    "surrogate",
    [
        QUICK,
        replace(QUICK, hidden=(8, 8)),
        replace(QUICK, hidden=()),
        Residual(ScaledAdditive(), QUICK),
        replace(decoder_only(), latent=8, hidden=(8,), schedule=QUICK.schedule),
    ],
    ids=["plain", "two layers", "no hidden layer", "residual", "decoder only"],
)
def test_contract(surrogate: LatentAdditive | Residual) -> None:
    check_surrogate(surrogate, SCREEN)


@settings(max_examples=4)
@given(plan=plans())
def test_latent_sum_on_any_design(plan: dict[str, object]) -> None:
    screen = planted_screen(**plan)  # type: ignore[arg-type]
    check_latent_sum(replace(QUICK, schedule=Schedule(epochs=2)).fit(screen, seed=0), screen)


@settings(max_examples=20)
@given(depth=st.integers(0, 3), seed=st.integers(0, 99))
def test_the_decoder_is_the_difference_of_two_networks(depth: int, seed: int) -> None:
    sizes = (4, *[5] * depth, 3)
    network = Layers.random(sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    biases = tuple(normal(*each.shape, seed=seed + number) for number, each in enumerate(network.biases))
    network = replace(network, biases=biases)
    control, latent = normal(4, seed=seed + 50), normal(7, 4, seed=seed + 51)
    thresholds, state = [], control
    for weight, bias in zip(network.weights, network.biases, strict=True):
        thresholds.append(weight @ state + bias)
        state = thresholds[-1].relu()
    slow = network(control + latent) - network(control[None])
    decoder = replace(network, biases=tuple(thresholds))
    torch.testing.assert_close(decoded_departure(decoder, latent), slow)
    if depth:
        once = network_of(latent, decoder, unit=2.0)
        torch.testing.assert_close(once.decode(once.rows), 2 * slow)


def test_it_learns_effects_and_an_interaction() -> None:
    pairs = pairs_of(8, 28)
    screen = planted_screen(alone=range(8), together=pairs, readouts=6, bend=1.0, noise=0.05)
    held = torch.arange(len(screen)) >= len(screen) - 6
    model = LatentAdditive(
        latent=16, hidden=(64,), dropout=0.0, schedule=Schedule(epochs=120, batch=16, rate=1e-2)
    )
    training, test = screen.rows(torch.nonzero(~held).flatten()), screen.batch.rows(torch.nonzero(held).flatten())
    fitted = model.fit(training, seed=3)
    truth = screen.effects[held]
    assert (fitted.predict(training.batch).mean - training.effects).square().mean() < 0.3
    sums = Additive().fit(training, seed=3).predict(test).mean
    assert (fitted.predict(test).mean - truth).square().sum() < 0.8 * (sums - truth).square().sum()


def test_it_starts_as_the_sum_of_what_was_measured_alone() -> None:
    fitted = replace(QUICK, schedule=Schedule(epochs=1, batch=64, rate=1e-9)).fit(SCREEN, seed=0)
    sums = Additive().fit(SCREEN, seed=0).predict(SCREEN.batch).mean
    torch.testing.assert_close(fitted.predict(SCREEN.batch).mean, sums, atol=1e-5, rtol=0)


def test_descriptors_place_targets_that_were_never_seen() -> None:
    training, test, descriptors = _line_screen()
    model = replace(QUICK, dropout=0.0, hide=0.5, schedule=Schedule(epochs=100, batch=8, rate=2e-2))
    without, described = (
        float((each.fit(training, seed=0).predict(test.batch).mean - test.effects).square().sum())
        for each in (model, replace(model, descriptors=(descriptors,)))
    )
    assert described < 0.2 * without


def test_an_unseen_target_without_descriptor_gets_the_mean_row() -> None:
    training, test, _ = _line_screen()
    fitted = QUICK.fit(training, seed=0)
    rows = fitted.networks[0].rows
    torch.testing.assert_close(rows[:3], rows[3:].mean(0).expand(3, -1), atol=1e-6, rtol=1e-5)
    assert not bool(fitted.measured_alone[:3].any())
    assert len(test) == 3


def test_rows_are_proportional_to_the_dose() -> None:
    labels = ["A@1.0", "A@4", "B", "A@4+B"]
    screen = Screen.from_labels(normal(4, 3, seed=0), [Perturbation.parse(each) for each in labels], [*"xyz"])
    fitted = QUICK.fit(screen, seed=0)
    low, high = (fitted.vocabulary.id(each) for each in ("A", "A@4"))
    rows = fitted.networks[0].rows
    torch.testing.assert_close(4 * rows[low], rows[high], rtol=1e-6, atol=0)


def test_the_variance_is_at_least_that_of_the_residuals() -> None:
    noisy = planted_screen(alone=range(8), together=pairs_of(8, 28), readouts=6, noise=1.0)
    long = replace(QUICK, schedule=Schedule(epochs=80, batch=16, rate=2e-2, patience=80))
    fitted = long.fit(noisy, seed=0)
    residuals = (noisy.effects - fitted.predict(noisy.batch).mean).square().mean(0)
    ratio = fitted.variance / residuals
    assert ratio.min() > 1
    torch.testing.assert_close(ratio, ratio[:1].expand(6))


def test_a_fit_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    one, other = QUICK.fit(SCREEN, seed=1), QUICK.fit(SCREEN, seed=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(one.networks[0].rows, other.networks[0].rows)


def test_effects_that_are_all_zero_are_predicted_as_almost_zero() -> None:
    nothing = replace(SCREEN, effects=torch.zeros_like(SCREEN.effects))
    posterior = replace(QUICK, schedule=Schedule(epochs=60, batch=16, rate=2e-2)).fit(nothing, seed=0)
    assert posterior.predict(SCREEN.batch).mean.abs().max() < 0.2


def test_several_contexts_are_refused() -> None:
    with pytest.raises(DataError, match="2 contexts"):
        QUICK.fit(replace(SCREEN, contexts=("a", *["b"] * (len(SCREEN) - 1))), seed=0)


def test_too_few_conditions_are_refused() -> None:
    with pytest.raises(DataError, match=r"2 condition\(s\) are too few"):
        QUICK.fit(SCREEN.rows([0, 1]), seed=0)


@pytest.mark.parametrize("wrong", [{"latent": 0}, {"hidden": (4, 0)}, {"rank": 0}])
def test_empty_layers_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DataError, match="must be positive"):
        LatentAdditive(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"hide": 1.0}, {"dropout": -0.1}])
def test_impossible_rates_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="hide and dropout"):
        LatentAdditive(**wrong)  # type: ignore[arg-type]


@pytest.mark.real_data
def test_norman_in_sample(real_data: Callable[[str], Path]) -> None:
    real_data("norman2019_expr")
    screen = open_dataset("norman2019_expr")
    fitted = replace(LatentAdditive(), schedule=Schedule(epochs=8, batch=32, rate=2e-3)).fit(screen, seed=0)
    error = (fitted.predict(screen.batch).mean - screen.effects).square().sum()
    assert error < 0.8 * screen.effects.square().sum()
    check_latent_sum(fitted, screen)
