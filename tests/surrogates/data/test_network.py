import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrogates.data.perturbation import Perturbation
from surrogates.data.simulate import Network
from surrogates.errors import DataError, UnknownNameError


@given(genes=st.integers(3, 20), parents=st.integers(1, 2), radius=st.floats(0.1, 0.95), seed=st.integers(0, 99))
def test_edges_have_the_stated_radius_parents_and_no_loops(
    genes: int, parents: int, radius: float, seed: int
) -> None:
    edges = Network(genes=genes, parents=parents, spectral_radius=radius, seed=seed).edges("")
    assert float(torch.linalg.eigvals(edges).abs().max()) == pytest.approx(radius)
    assert ((edges != 0).sum(0) == parents).all()
    assert (edges.diagonal() == 0).all()


def test_contexts_share_edges_but_not_weights() -> None:
    network = Network(contexts=("one", "two"))
    one, two = network.edges("one"), network.edges("two")
    torch.testing.assert_close(one, Network().edges(""))
    assert ((one != 0) == (two != 0)).all()
    assert not torch.allclose(one, two)
    with pytest.raises(UnknownNameError, match="unknown context 'tow'"):
        network.edges("tow")


def test_inputs_are_signed_doses() -> None:
    labels = ("", "G000@0.5+G002", "G001:knockdown")
    inputs = Network(genes=3, parents=1).inputs([Perturbation.parse(label) for label in labels])
    assert inputs.tolist() == [[0, 0, 0], [0.5, 0, 1], [0, -1, 0]]


def test_an_unknown_gene_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown gene 'G9'"):
        Network().inputs([Perturbation.parse("G9")])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"genes": 3, "parents": 3}, "3 parents per gene do not fit 3 genes"),
        ({"spectral_radius": 1.0}, r"spectral radius 1\.0 is not between"),
        ({"contexts": ("a", "a")}, "not distinct names"),
        ({"contexts": ()}, "not distinct names"),
    ],
)
def test_impossible_networks_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Network(**settings)  # type: ignore[arg-type]
