import dataclasses
from dataclasses import replace

import pytest
import torch
from jaxtyping import Float
from strategies.screens import normal, planted_screen
from torch import Tensor

from benchmarks.causal_matching.graphs import scale_free_edges
from surrogates.contrib.causal.model import Causal, FittedCausal
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import LinearCausalWorld, Network, SaturatingWorld, singles_and_doubles
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.baselines import Additive
from surrogates.testing import check_surrogate

QUICK = Causal(steps=6)
GENES = 30
NAMES = [f"G{number:02d}" for number in range(GENES)]


def _truth(edges: Float[Tensor, "g g"]) -> Float[Tensor, "g g"]:
    return -1.5 * torch.linalg.inv(torch.eye(len(edges), dtype=torch.float64) - edges)


def _singles(*, seed: int, noise: float = 0.05, edges: Float[Tensor, "g g"] | None = None) -> Screen:
    truth = _truth(scale_free_edges(GENES, seed=seed) if edges is None else edges)
    return Screen.from_labels(
        truth + noise * normal(GENES, GENES, seed=seed + 1),
        [Perturbation.parse(f"{name}:knockdown") for name in NAMES],
        NAMES,
        standard_errors=torch.full_like(truth, noise),
    )


def _off(rows: Float[Tensor, "v g"]) -> Float[Tensor, "v g"]:
    return rows * (1 - torch.eye(len(rows), dtype=rows.dtype))


@pytest.fixture(scope="module")
def fitted() -> FittedCausal:
    return Causal().fit(_singles(seed=3), seed=0)


@pytest.mark.parametrize("errors", [None, 0.3])
def test_contract_with_virtual_nodes(errors: float | None) -> None:
    screen = planted_screen(
        alone=range(5), together=[(0, 1), (2, 3), (1, 4), (2, 5)], readouts=5, standard_error=errors
    )
    check_surrogate(QUICK, screen)


@pytest.mark.parametrize("world", [LinearCausalWorld, SaturatingWorld])
def test_contract_where_targets_are_readouts(world: type[LinearCausalWorld | SaturatingWorld]) -> None:
    network = Network(genes=6)
    screen = world(network).screen(singles_and_doubles(network, doubles=12, seed=0), seed=0)
    check_surrogate(QUICK, screen.rows(range(1, len(screen))))
    check_surrogate(QUICK, replace(screen, standard_errors=None))


def test_seen_effects_are_freed_of_noise_and_edges_are_found(fitted: FittedCausal) -> None:
    edges = scale_free_edges(GENES, seed=3)
    truth, measured = _off(_truth(edges)), _off(_singles(seed=3).effects)
    error = (_off(fitted.rows) - truth).square().sum() / (measured - truth).square().sum()
    assert float(error) < 0.5
    strongest = fitted.edges.abs().flatten().argsort(descending=True)[:30]
    assert int((edges.flatten()[strongest] != 0).sum()) >= 27
    assert fitted.residual_weight < 0.3


def test_nodes_never_acted_on_are_predicted_from_the_variation_that_others_cause() -> None:
    # Every fifth gene of a chain of hubs is hidden; what it does is seen when its own regulator is knocked down.
    errors = []
    for seed in (1, 3):
        screen = _singles(seed=seed, noise=0.02)
        hidden = torch.arange(0, GENES, 5)
        seen = [row for row in range(GENES) if row % 5]
        fitted = Causal(steps=40).fit(screen.rows(seen), seed=0)
        truth = _off(_truth(scale_free_edges(GENES, seed=seed)))[hidden]
        errors.append(float((_off(fitted.rows)[hidden] - truth).square().sum() / truth.square().sum()))
        assert not fitted.measured_alone[hidden].any()
        own = fitted.rows[hidden, hidden]
        assert float((own + 1.5).abs().max()) < 0.6  # the shared strength, whatever the trust
    assert sum(errors) / len(errors) < 0.9


def test_effects_without_structure_are_not_trusted() -> None:
    noise = 0.5 * normal(GENES, GENES, seed=0)
    noise.fill_diagonal_(-2.0)
    names = NAMES
    screen = Screen.from_labels(
        noise, [Perturbation.parse(f"{name}:knockdown") for name in names], names,
        standard_errors=torch.full_like(noise, 0.5),
    )  # fmt: skip
    fitted = QUICK.fit(screen.rows(range(24)), seed=0)
    hidden = fitted.rows[24:].clone()
    hidden[torch.arange(6), torch.arange(24, 30)] = 0
    assert float(hidden.square().mean()) < 0.02  # against 0.25 of the noise
    assert fitted.residual_weight < 0.2


def test_without_replicates_or_combinations_seen_singles_are_as_measured() -> None:
    screen = replace(_singles(seed=2), standard_errors=None)
    fitted = QUICK.fit(screen, seed=0)
    assert fitted.residual_weight == 1.0
    torch.testing.assert_close(fitted.predict(screen.batch).mean, screen.effects)


def test_a_screen_of_compounds_is_least_squares_on_doses() -> None:
    one, two = torch.tensor([1.0, 2.0, -1.0]).double(), torch.tensor([0.5, -0.5, 3.0]).double()
    rows = {"D@1": one / 4, "D@4": one, "E": two, "D@4+E": one + two}
    screen = Screen.from_labels(
        torch.stack([*rows.values()]),
        [Perturbation.parse(label, mode="compound") for label in rows],
        ["x", "y", "z"],
    )
    fitted = Causal(variable=0).fit(screen, seed=0)
    assert fitted.sources.names == ("D", "E")
    torch.testing.assert_close(fitted.rows, torch.stack([one / 4, one, two]))


def test_an_unseen_target_that_is_no_readout_gets_the_mean_of_the_others() -> None:
    screen = planted_screen(alone=range(8), together=[(0, 1)])
    fitted = QUICK.fit(screen.rows(range(1, 8)), seed=0)
    torch.testing.assert_close(fitted.rows[0], fitted.rows[1:].mean(0))


def test_all_zero_effects_are_predicted_as_none() -> None:
    screen = planted_screen(alone=range(6), together=[(0, 1)])
    silent = replace(screen, effects=torch.zeros_like(screen.effects))
    fitted = QUICK.fit(silent, seed=0)
    assert not fitted.rows.any()
    assert not fitted.edges.any()
    assert bool((fitted.predict(silent.batch).variance > 0).all())


def test_one_condition_is_predicted_as_measured_and_the_rest_as_none() -> None:
    screen = replace(_singles(seed=2), standard_errors=None).rows([4])
    fitted = QUICK.fit(screen, seed=0)
    torch.testing.assert_close(fitted.rows[4], screen.effects[0])
    others = fitted.rows[[row for row in range(GENES) if row != 4]]
    own = [row for row in range(GENES) if row != 4]
    others[torch.arange(len(own)), own] = 0
    assert not others.any()
    assert fitted.trust == 0.0


def test_fewer_conditions_than_parameters_give_finite_predictions() -> None:
    fitted = QUICK.fit(_singles(seed=2).rows(range(4)), seed=0)
    assert bool(torch.isfinite(fitted.rows).all())


def test_an_unknown_regulator_and_a_bad_configuration_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="readout among the regulators 'G99'"):
        Causal(regulators=("G99",)).fit(_singles(seed=2), seed=0)
    with pytest.raises(DataError, match="steps -1"):
        Causal(steps=-1)


def test_several_contexts_are_refused() -> None:
    screen = _singles(seed=2)
    with pytest.raises(DataError, match="2 contexts"):
        QUICK.fit(replace(screen, contexts=("one", *["two"] * (GENES - 1))), seed=0)


def test_it_is_better_than_additive_on_doubles_of_a_noisy_causal_world(fitted: FittedCausal) -> None:
    truth = _truth(scale_free_edges(GENES, seed=3))
    pairs = torch.combinations(torch.arange(GENES))
    batch = fitted.vocabulary.dosed(pairs)
    off = torch.ones(len(pairs), GENES, dtype=torch.float64).scatter_(1, pairs, 0.0)
    additive = Additive().fit(_singles(seed=3), seed=0)
    expected = truth[pairs].sum(1)
    ours, theirs = (
        float((off * (model.predict(batch).mean - expected)).square().sum()) for model in (fitted, additive)
    )
    assert ours < 0.5 * theirs


def test_the_fitted_value_holds_plain_fields_only(fitted: FittedCausal) -> None:
    allowed = (Tensor, float, tuple)
    for field in dataclasses.fields(fitted):
        value = getattr(fitted, field.name)
        assert isinstance(value, allowed) or dataclasses.is_dataclass(value), field.name
