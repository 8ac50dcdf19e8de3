from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from strategies.cells import AB, A, B, planted
from strategies.screens import normal
from torch import Tensor

from surrogates.artefact import Origin, load_cells, save_fitted
from surrogates.contrib.cells.additive_autoencoder import (
    AdditiveAutoencoder,
    FittedAdditiveAutoencoder,
    cpa,
    cpa_without_adversary,
    sams_vae,
    trvae,
)
from surrogates.contrib.cells.additive_networks import Adversary, DoseCurves, MaskedRows, Masks
from surrogates.contrib.cells.discrepancy import WIDTHS, mean_discrepancy
from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import FittedCells
from surrogates.models.training import Layers, Schedule, gaussian_divergence, train

SIZES: dict[str, Any] = {"components": 8, "hidden": (32,), "latent": 8, "dropout": 0.0}
BRIEF = Schedule(epochs=2, batch=64)
SYSTEMS = [cpa(), cpa_without_adversary(), sams_vae(), trvae()]


def _small(model: AdditiveAutoencoder, schedule: Schedule) -> AdditiveAutoencoder:
    return replace(model, schedule=schedule, **SIZES)


@pytest.fixture(scope="module")
def fitted() -> FittedAdditiveAutoencoder:
    """Fitted without the treated cells of one context."""
    model = _small(cpa_without_adversary(), Schedule(40, 64, 0.005))
    return model.fit(planted()[0].without(A, "N").without(B, "N"), seed=0)


# --- closed forms ----------------------------------------------------------------------------------------------


def test_the_divergence_of_masked_rows_is_that_of_the_distributions() -> None:
    logits, mean, log_variance = (normal(3, 4, seed=seed) for seed in range(3))
    rows = MaskedRows(Masks(prior=0.2), logits, mean, log_variance)
    on = torch.sigmoid(logits)
    of_masks = torch.distributions.kl_divergence(
        torch.distributions.Bernoulli(on), torch.distributions.Bernoulli(torch.full_like(on, 0.2))
    )
    of_rows = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, (log_variance / 2).exp()),
        torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean)),
    )
    torch.testing.assert_close(gaussian_divergence(mean, log_variance), of_rows)
    torch.testing.assert_close(rows.divergence(), (of_masks + on * of_rows).sum())


def test_sampled_masks_are_on_as_often_as_they_say_and_have_the_expected_mean() -> None:
    logits, mean = torch.linspace(-2, 2, 6)[None].double(), normal(1, 6, seed=0)
    rows = MaskedRows(
        Masks(), logits.expand(20000, 6), mean.expand(20000, 6), torch.full((20000, 6), -8.0).double()
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = rows.sampled()
    torch.testing.assert_close((drawn != 0).double().mean(0), torch.sigmoid(logits)[0], atol=0.02, rtol=0)
    torch.testing.assert_close(drawn.mean(0), rows.expected()[0], atol=0.02, rtol=0.05)


def test_without_data_masks_are_as_sparse_as_the_prior() -> None:
    rows = MaskedRows.start(Masks(prior=0.15), 2, 3, generator=torch.Generator().manual_seed(0))
    train(rows.parameters, lambda _: rows.divergence(), rows=1, schedule=Schedule(150, 1, 0.2, decay=0.0), seed=0)
    torch.testing.assert_close(torch.sigmoid(rows.logits), torch.full((2, 3), 0.15), atol=0.01, rtol=0)
    torch.testing.assert_close(rows.log_variance, torch.zeros(2, 3), atol=0.05, rtol=0)


@given(groups=st.lists(st.integers(0, 3), min_size=2, max_size=12), seed=st.integers(0, 9))
def test_the_discrepancy_is_the_double_sum_over_pairs(groups: list[int], seed: int) -> None:
    rows, names = normal(len(groups), 3, seed=seed), sorted(set(groups))
    unit = torch.cdist(rows, rows).square().mean()

    def kernel(x: Float[Tensor, "h"], y: Float[Tensor, "h"]) -> float:
        return sum(float((-(x - y).square().sum() / (width * unit)).exp()) for width in WIDTHS) / len(WIDTHS)

    def mean(one: int, other: int) -> float:
        found = [
            kernel(x, y)
            for x, of_x in zip(rows, groups, strict=True)
            for y, of_y in zip(rows, groups, strict=True)
            if (of_x, of_y) == (one, other)
        ]
        return sum(found) / len(found)

    apart = [
        mean(one, one) + mean(other, other) - 2 * mean(one, other)
        for one in names
        for other in names
        if one < other
    ]
    wanted = sum(apart) / len(apart) if apart else 0.0
    assert float(mean_discrepancy(rows, torch.tensor(groups))) == pytest.approx(wanted, abs=1e-9)


def test_doses_rise_from_nothing_to_one_at_the_largest() -> None:
    curves = DoseCurves(*(torch.tensor(each).double() for each in ([0.3, -1.0], [0.2, -2.0], [10.0, 1.0])))
    doses = torch.linspace(0, 10, 11)[:, None].expand(-1, 2).double()
    found = curves(doses)
    torch.testing.assert_close(found[0], torch.zeros(2).double())
    torch.testing.assert_close(torch.stack([found[10, 0], found[1, 1]]), torch.ones(2).double())
    assert bool((found[1:] > found[:-1]).all())


def test_an_adversary_removes_the_covariate_and_keeps_the_rest() -> None:
    context = torch.arange(200) % 2
    x = torch.stack([2.0 * context - 1, normal(200, seed=1).float()], dim=1) + 0.3 * normal(200, 2, seed=2).float()
    nothing = torch.zeros(200, 1, dtype=torch.bool)
    encoder = Layers((torch.eye(2),), (torch.zeros(2),))
    opponents = Adversary(hidden=(16,), rate=0.01).start(2, 1, 2, generator=torch.Generator().manual_seed(0))

    def gap() -> float:
        state = encoder(x)
        return float((state[context == 1].mean(0) - state[context == 0].mean(0)).norm())

    def loss(rows: Tensor) -> Tensor:
        state = encoder(x[rows])
        return (state - x[rows]).square().mean() + opponents.loss(state, nothing[rows], context[rows])

    assert gap() > 1.9
    train(encoder.parameters, loss, rows=200, schedule=Schedule(150, 200, 0.02, decay=0.0), seed=0)
    assert gap() < 0.3
    assert float(torch.corrcoef(torch.stack([encoder(x)[:, 1], x[:, 1]]))[0, 1]) > 0.95


# --- cells -----------------------------------------------------------------------------------------------------


def _missed(model: FittedAdditiveAutoencoder) -> list[float]:
    """How much of the planted effects is missed in the context without treated cells."""
    cells, effects = planted()
    control = cells.of(CONTROL, "N")
    errors = [
        model.predict(control, what).mean(0) - control.mean(0) - effect
        for what, effect in zip((A, B), effects, strict=True)
    ]
    return [float(e.square().sum() / effect.square().sum()) for e, effect in zip(errors, effects, strict=True)]


def test_planted_effects_are_found_in_a_new_context(fitted: FittedAdditiveAutoencoder) -> None:
    assert max(_missed(fitted)) < 0.3
    assert max(_missed(replace(fitted, keep_remainder=False))) < 0.5


def test_an_adversary_finds_effects_that_the_state_would_keep() -> None:
    train_on = planted()[0].without(A, "N").without(B, "N")
    model = _small(replace(cpa(), adversary=Adversary(steps=1)), Schedule(40, 200, 0.005))
    assert max(_missed(model.fit(train_on, seed=0))) < 0.5
    assert min(_missed(replace(model, adversary=None).fit(train_on, seed=0))) > 0.8


def _saturating() -> tuple[Cells, Float[Tensor, "g"]]:
    """Cells whose states add up, and whose readouts saturate; the mean of the combination, which is left out."""
    spread, decoder = 0.3 * normal(400, 2, seed=0), normal(2, 12, seed=1)
    moves = {CONTROL: (0.0, 0.0), A: (1.5, 0.5), B: (1.0, 1.0), Perturbation.parse("C"): (0.5, 1.5)}
    moves |= {Perturbation.parse(each): move for each, move in (("A+C", (2.0, 2.0)), ("B+C", (1.5, 2.5)))}

    def seen(move: tuple[float, float]) -> Float[Tensor, "n g"]:
        return torch.tanh((spread + torch.tensor(move).double()) @ decoder)

    values = torch.cat([seen(move)[70 * number % 300 :][:60] for number, move in enumerate(moves.values())])
    codes = torch.arange(len(moves)).repeat_interleave(60)
    names = tuple(f"r{number}" for number in range(12))
    return Cells(values, codes, (*moves,), ("",) * len(moves), names), seen((2.5, 1.5)).mean(0)


def test_a_combination_that_adds_up_in_the_latent_space_is_predicted_better_than_by_adding_shifts() -> None:
    cells, truth = _saturating()
    control = cells.of(CONTROL, "")
    model = _small(replace(cpa_without_adversary(), encoded="control", rate=0.0), Schedule(40, 32, 0.01))

    def error(fitted: FittedCells) -> float:
        return float((fitted.predict(control, AB).mean(0) - truth).square().sum())

    assert error(model.fit(cells, seed=0)) < 0.5 * error(TwoFactorCells().fit(cells, seed=0))


@pytest.mark.parametrize("model", SYSTEMS, ids=["cpa", "cpa_without_adversary", "sams_vae", "trvae"])
def test_the_seed_fixes_everything_the_order_nothing_and_files_keep_it(
    model: AdditiveAutoencoder, tmp_path: Path
) -> None:
    cells, brief = planted(each=6)[0], _small(model, BRIEF)
    shuffled = cells.rows(torch.randperm(len(cells), generator=torch.Generator().manual_seed(1)))
    state = torch.get_rng_state()
    one, other, third = (brief.fit(each, seed=seed) for each, seed in ((cells, 4), (shuffled, 4), (cells, 5)))
    assert torch.equal(torch.get_rng_state(), state)
    control = cells.of(CONTROL, "K")
    predicted = one.predict(control, AB)
    assert predicted.dtype == torch.float64
    assert torch.equal(predicted, other.predict(control, AB))
    assert not torch.allclose(predicted, third.predict(control, AB))
    torch.testing.assert_close(torch.cat([one.predict(cell[None], AB) for cell in control]), predicted)
    assert torch.equal(one.predict(control, CONTROL), control)
    save_fitted(one, tmp_path / "cells", origin=Origin("hash", {}, "", 0))
    assert torch.equal(load_cells(tmp_path / "cells").predict(control, AB), predicted)


def test_the_network_of_sums_gives_what_cells_are_predicted_to_become(fitted: FittedAdditiveAutoencoder) -> None:
    profile = planted()[0].of(CONTROL, "K")[0]
    network = fitted.latent_network(profile, AB.interventions)
    assert len(network.weights) == 0
    received = network.rows.sum(0)
    hidden = (received + network.thresholds[0]).relu() - network.thresholds[0].relu()
    torch.testing.assert_close(network.output @ hidden, fitted.predict(profile[None], AB)[0] - profile)


def test_what_a_model_does_not_know_or_cannot_train_is_refused(fitted: FittedAdditiveAutoencoder) -> None:
    cells = planted(each=6)[0]
    with pytest.raises(UnknownNameError, match="unknown perturbation 'C'"):
        fitted.predict(cells.of(CONTROL, "K"), Perturbation((Intervention("C"),)))
    with pytest.raises(DataError, match="29 readouts for a model of 30"):
        fitted.predict(cells.of(CONTROL, "K")[:, 1:], A)
    brief = _small(cpa_without_adversary(), BRIEF)
    with pytest.raises(DataError, match="no context has both control and treated cells"):
        brief.fit(cells.rows(torch.nonzero(cells.codes % 3 > 0).flatten()), seed=0)
    with pytest.raises(DataError, match="lower the step size"):
        replace(brief, schedule=Schedule(epochs=30, rate=1e12)).fit(cells, seed=0)


@pytest.mark.parametrize(
    "change",
    [{"latent": 0}, {"hidden": ()}, {"held_out": 1.0}, {"dropout": 1.0}, {"rate": -1.0}, {"masks": Masks()}],
    ids=lambda change: next(iter(change)),
)
def test_bad_configurations_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(change))):
        replace(AdditiveAutoencoder(), **change)
    with pytest.raises(DataError, match="prior"):
        Masks(prior=1.0)
    with pytest.raises(DataError, match="weight"):
        Adversary(weight=0.0)
