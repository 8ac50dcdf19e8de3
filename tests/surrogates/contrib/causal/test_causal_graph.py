import pytest
import torch

from surrogates.contrib.causal.design import VIRTUAL, Sources
from surrogates.contrib.causal.model import FittedCausal, edge_table, paths
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import UnknownNameError


@pytest.fixture
def fitted() -> FittedCausal:
    # a -> b -> c -> a is a loop, a -> c a short cut, drug -> b
    edges = torch.zeros(4, 4, dtype=torch.float64)
    edges[0, 1], edges[1, 2], edges[2, 0], edges[0, 2], edges[3, 1] = 0.5, 0.5, 0.2, -0.1, 2.0
    return FittedCausal(
        vocabulary=Vocabulary((Intervention("a", "knockdown"), Intervention("drug", "compound", 3.0))),
        readouts=("a", "b", "c", "d"),
        measured_alone=torch.tensor([True, True]),
        rows=torch.zeros(2, 4, dtype=torch.float64),
        sources=Sources(
            ("a", "b", "c", "drug"),
            torch.tensor([0, 1, 2, VIRTUAL]),
            torch.tensor([[0], [3]]),
            torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
            torch.zeros(4, dtype=torch.bool),
        ),
        edges=edges,
        inputs=torch.tensor([[-2.0], [1.0]], dtype=torch.float64),
        penalty=1.0,
        trust=1.0,
        residual_weight=0.0,
        variance=torch.ones(4, dtype=torch.float64),
    )


def test_paths_by_hand(fitted: FittedCausal) -> None:
    found = paths(fitted, "a", "c")
    assert found["path"].tolist() == ["a → b → c", "a → c"]
    assert found["contribution"].tolist() == pytest.approx([-2 * 0.25, -2 * -0.1])
    # gain of the loops: 1 / (1 - 0.5 * 0.5 * 0.2 - (-0.1) * 0.2)
    total = -2 * (0.25 - 0.1) / (1 - 0.05 + 0.02)
    assert found.attrs["total"] == pytest.approx(total)
    assert found["share"].tolist() == pytest.approx([-0.5 / total, 0.2 / total])


def test_paths_from_a_virtual_node_and_to_the_own_readout(fitted: FittedCausal) -> None:
    assert paths(fitted, "drug@3", "a")["path"].tolist() == ["drug → b → c → a"]
    assert paths(fitted, "a", "a")[["path", "contribution"]].to_numpy().tolist() == [["a", -2.0]]


def test_without_a_path_there_is_no_effect(fitted: FittedCausal) -> None:
    found = paths(fitted, "a", "d")
    assert len(found) == 0
    assert found.attrs["total"] == 0


def test_length_and_number_of_paths_are_limited(fitted: FittedCausal) -> None:
    assert paths(fitted, "a", "c", longest=1)["path"].tolist() == ["a → c"]
    assert paths(fitted, "a", "c", count=1)["path"].tolist() == ["a → b → c"]


def test_unknown_names_are_refused(fitted: FittedCausal) -> None:
    with pytest.raises(UnknownNameError, match="'e'"):
        paths(fitted, "e", "a")
    with pytest.raises(UnknownNameError, match="readout 'e'"):
        paths(fitted, "a", "e")


def test_the_edge_table_lists_every_edge_strongest_first(fitted: FittedCausal) -> None:
    table = edge_table(fitted)
    assert table[["source", "target", "weight"]].to_numpy().tolist() == [
        ["drug", "b", 2.0],
        ["a", "b", 0.5],
        ["b", "c", 0.5],
        ["c", "a", 0.2],
        ["a", "c", -0.1],
    ]
