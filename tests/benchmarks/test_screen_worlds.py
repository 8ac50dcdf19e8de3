import pytest
import torch

from benchmarks.forward.worlds import FAMILIES, ComplexFamily, NetworkFamily
from surrogates.data.simulate import Network, SaturatingWorld
from surrogates.errors import DataError

FEW = ComplexFamily(readouts=60, genes=8, doubles=20)
PLAIN = NetworkFamily(genes=8, doubles=20, network=24, silent=5, rare=6, activity=0.3)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_screen_is_its_truth_plus_the_noise_that_it_states(name: str) -> None:
    family = FAMILIES[name]
    screen, truth = family.draw(seed=3), family.truth(seed=3)
    assert screen.standard_errors is not None
    ratio = (screen.effects - truth) / screen.standard_errors
    assert float(ratio.mean()) == pytest.approx(0, abs=0.05)
    assert float(ratio.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_seed_fixes_a_screen_and_another_gives_another(name: str) -> None:
    family = FAMILIES[name]
    screen = family.draw(seed=1)
    torch.testing.assert_close(screen.effects, family.draw(seed=1).effects, rtol=0, atol=0)
    assert not torch.allclose(screen.effects, family.draw(seed=2).effects)
    assert screen.provenance["seed"] == "1"


@pytest.mark.parametrize("family", [FEW, PLAIN])
def test_all_genes_are_measured_alone_and_pairs_once(family: ComplexFamily | NetworkFamily) -> None:
    screen = family.draw(seed=0)
    assert screen.batch.order.tolist() == [1] * 8 + [2] * 20
    assert bool((screen.single_rows >= 0).all())
    assert len(set(screen.labels)) == 28


def test_genes_of_a_complex_are_near_interchangeable_alone() -> None:
    singles = ComplexFamily().truth(seed=0)[:28]
    cosines = torch.corrcoef(singles)
    assert float(cosines.min()) > 0.97
    assert float((singles.norm(dim=1) / 40).std()) < 0.15


def test_without_what_pairs_do_a_complex_is_additive_but_for_its_axes() -> None:
    family = ComplexFamily(readouts=60, genes=8, doubles=20, scatter=0.0, diffuse=0.0, rare=0.0, together=0.0)
    truth, batch = family.truth(seed=0), family.draw(seed=0).batch
    singles = truth[:8]
    rest = truth[8:] - singles[batch.genes[8:, :2]].sum(1)
    values = torch.linalg.svdvals(rest)
    assert float(values[1] / values[0]) < 1e-9  # what is lost is lost along the common axis
    assert float(values[0]) > 0


def test_pairs_interact_strongly_on_few_readouts() -> None:
    quiet = ComplexFamily(readouts=200, genes=8, doubles=20, diffuse=0.0, rare=0.0).truth(seed=0)
    truth = ComplexFamily(readouts=200, genes=8, doubles=20, diffuse=0.0, rare=0.05).truth(seed=0)
    touched = (truth - quiet).abs()[8:] > 1e-9
    assert float(touched.double().mean()) == pytest.approx(0.05, abs=0.01)
    torch.testing.assert_close(truth[:8], quiet[:8])


def test_network_readouts_are_those_of_the_saturating_world() -> None:
    world = SaturatingWorld(Network(genes=24, spectral_radius=0.8, seed=5), ceiling=1.0)
    screen = PLAIN.draw(seed=5)
    expected = world.truth([screen.perturbation(row) for row in range(len(screen))])
    torch.testing.assert_close(PLAIN.truth(seed=5)[:, :24], expected)
    assert float(expected.abs().max()) < 1


def test_silent_readouts_never_move_and_rare_ones_rarely_by_their_strength() -> None:
    family = NetworkFamily(silent=10, rare=40)
    beside = family.truth(seed=0)[:, 60:]
    assert not bool(beside[:, :10].any())
    rare = beside[:, 10:]
    assert set(rare.unique().tolist()) == {-3.0, 0.0, 3.0}
    assert float((rare != 0).double().mean()) == pytest.approx(0.03, abs=0.005)
    assert family.draw(seed=0).effects[:, 60:70].abs().max() < 0.02


def test_a_family_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(DataError, match="6 pairs, fewer than 7 doubles"):
        ComplexFamily(genes=4, doubles=7)
    with pytest.raises(DataError, match="network of 5 genes has no 6"):
        NetworkFamily(genes=6, network=5)
    with pytest.raises(DataError, match="no two axes"):
        ComplexFamily(readouts=1)
