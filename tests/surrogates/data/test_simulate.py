import pytest
import torch

from surrogates.data.perturbation import Perturbation
from surrogates.data.simulate import LinearCausalWorld, Network, SaturatingWorld, singles_and_doubles
from surrogates.errors import DataError

NETWORK = Network(genes=8)
DESIGN = singles_and_doubles(NETWORK, doubles=10, seed=0)


def _parse(*labels: str) -> list[Perturbation]:
    return [Perturbation.parse(label) for label in labels]


def test_linear_effects_solve_their_equation() -> None:
    truth = LinearCausalWorld(NETWORK, strength=2.0).truth(DESIGN)
    torch.testing.assert_close(truth, truth @ NETWORK.edges("") + 2 * NETWORK.inputs(DESIGN))


def test_linear_effects_of_a_chain_by_hand() -> None:
    network = Network(genes=2, parents=1, spectral_radius=0.5)
    there, back = float(network.edges("")[0, 1]), float(network.edges("")[1, 0])
    truth = LinearCausalWorld(network).truth(_parse("G000"))
    expected = torch.tensor([[1.0, there]]).double() / (1 - there * back)
    torch.testing.assert_close(truth, expected)


def test_linear_effects_add_up_and_scale_with_dose() -> None:
    one, other, both, half = LinearCausalWorld(NETWORK).truth(_parse("G001", "G004", "G001+G004", "G001@0.5"))
    torch.testing.assert_close(both, one + other)
    torch.testing.assert_close(half, one / 2)


def test_saturating_effects_solve_their_equation_and_stay_below_the_ceiling() -> None:
    truth = SaturatingWorld(NETWORK, strength=3.0, ceiling=1.2).truth(DESIGN)
    inner = truth @ NETWORK.edges("") + 3 * NETWORK.inputs(DESIGN)
    torch.testing.assert_close(truth, 1.2 * (inner / 1.2).tanh())
    assert truth.abs().max() < 1.2


def test_a_far_ceiling_is_the_linear_world() -> None:
    truth = SaturatingWorld(NETWORK, ceiling=1e6).truth(DESIGN)
    torch.testing.assert_close(truth, LinearCausalWorld(NETWORK).truth(DESIGN))


def test_saturating_effects_do_not_add_up() -> None:
    one, other, both = SaturatingWorld(NETWORK, strength=2.0).truth(_parse("G001", "G004", "G001+G004"))
    assert not torch.allclose(both, one + other, atol=0.05)


def test_an_iteration_that_does_not_settle_is_refused() -> None:
    with pytest.raises(DataError, match="has not settled after 1 steps; raise steps"):
        SaturatingWorld(NETWORK, steps=1).truth(DESIGN)


@pytest.mark.parametrize(
    "world", [LinearCausalWorld(NETWORK), SaturatingWorld(NETWORK)], ids=["linear", "saturating"]
)
def test_a_screen_is_truth_plus_stated_noise(world: LinearCausalWorld | SaturatingWorld) -> None:
    screen = world.screen(DESIGN, seed=0)
    error = screen.effects - world.truth(DESIGN)
    assert float(error.std()) == pytest.approx(0.1, rel=0.2)
    assert screen.standard_errors is not None
    assert (screen.standard_errors == 0.1).all()
    assert screen.labels == tuple(one.label for one in DESIGN)
    torch.testing.assert_close(world.screen(DESIGN, seed=0).effects, screen.effects)
    assert not torch.allclose(world.screen(DESIGN, seed=1).effects, screen.effects)


def test_screens_hold_every_context_and_deal_a_double_to_one_fold() -> None:
    world = LinearCausalWorld(Network(genes=8, contexts=("one", "two")), noise=0.0)
    screen = world.screen(DESIGN, seed=0)
    assert len(screen) == 2 * len(DESIGN)
    torch.testing.assert_close(screen.in_context("two").effects, world.truth(DESIGN, context="two"))
    one, two = (screen.in_context(context).annotations["double_fold"] for context in ("one", "two"))
    assert one.tolist() == two.tolist() == [-1] * 8 + one[8:].tolist()
    assert set(one[8:]) == {0, 1, 2, 3, 4}


def test_a_design_is_all_singles_and_distinct_doubles() -> None:
    assert [one.order for one in DESIGN] == [1] * 8 + [2] * 10
    assert len(set(DESIGN)) == 18
    with pytest.raises(DataError, match="8 genes have 28 pairs, fewer than 29"):
        singles_and_doubles(NETWORK, doubles=29, seed=0)
