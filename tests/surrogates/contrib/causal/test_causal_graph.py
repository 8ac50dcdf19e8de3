import math

import pytest
import torch
from strategies.screens import normal

from benchmarks.causal_matching.graphs import scale_free_edges
from surrogates.contrib.causal.design import VIRTUAL, Sources
from surrogates.contrib.causal.graph import edge_table, paths, stability
from surrogates.contrib.causal.model import Causal, FittedCausal
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, UnknownNameError


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
            torch.tensor([0, 3]),
            torch.tensor([-1.0, 1.0]),
        ),
        edges=edges,
        inputs=torch.tensor([-2.0, 1.0], dtype=torch.float64),
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
    assert all(math.isnan(each) for each in table["frequency"])
    often = torch.zeros(4, 4, dtype=torch.float64)
    often[0, 2] = 0.9
    assert edge_table(fitted, often).loc[0, ["target", "frequency"]].tolist() == ["c", 0.9]
    with pytest.raises(DataError, match="frequencies of shape"):
        edge_table(fitted, often[:2])


def test_true_edges_are_found_more_often() -> None:
    genes = 25
    edges = scale_free_edges(genes, seed=1)
    names = tuple(f"G{number:02d}" for number in range(genes))
    truth = -1.5 * torch.linalg.inv(torch.eye(genes, dtype=torch.float64) - edges)
    vocabulary = Vocabulary(tuple(Intervention(name, "knockdown") for name in names))
    screen = Screen.from_labels(
        truth + 0.05 * normal(genes, genes, seed=0),
        [vocabulary.perturbation([number]) for number in range(genes)],
        names,
    )
    frequency = stability(Causal(), screen, penalty=0.5, draws=10, seed=0)
    torch.testing.assert_close(frequency, stability(Causal(), screen, penalty=0.5, draws=10, seed=0))
    assert bool(((frequency >= 0) & (frequency <= 1)).all())
    strong = edges.abs() > 0.3
    assert float(frequency[strong].mean()) > 2 * float(frequency[edges == 0].mean())
    with pytest.raises(DataError, match="0 draws"):
        stability(Causal(), screen, penalty=0.5, draws=0, seed=0)
