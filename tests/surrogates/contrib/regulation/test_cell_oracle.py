"""Shifts along a known network: strengths against a textbook ridge, rounds by hand, a planted network."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from strategies.screens import normal

from surrogates.contrib.regulation import cell_oracle
from surrogates.contrib.regulation.cell_oracle import CellOracle, Propagation
from surrogates.contrib.regulation.network import regulations_among, regulations_from
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.entries import MeasuredEntries
from surrogates.models.kernel import KernelRidge

GENES = tuple(f"T{number:02d}" for number in range(24))  # factors, each acting on readouts of its own
READOUTS = (*GENES, *(f"R{number:02d}" for number in range(36)))
NETWORK = tuple((gene, READOUTS[24 + (3 * at + each) % 36]) for at, gene in enumerate(GENES) for each in range(6))


def screen() -> Screen:
    """Single activations of factors whose other readouts follow a sparse network, two steps long."""
    edges = torch.zeros(60, 60, dtype=torch.float64)
    for source, target in NETWORK:
        edges[READOUTS.index(source), READOUTS.index(target)] = 0.8
    state = torch.eye(60, dtype=torch.float64)[:24] + 0.1 * normal(24, 60, seed=1) * (torch.arange(60) < 24)
    effects = state @ (torch.eye(60, dtype=torch.float64) + edges) + 0.05 * normal(24, 60, seed=0)
    return Screen.from_labels(effects, [Perturbation.parse(gene) for gene in GENES], list(READOUTS))


def propagation(oracle: CellOracle, given: Screen) -> Propagation:
    return Propagation.of(oracle, MeasuredEntries.of(given), seed=0)


def test_strengths_are_those_of_a_ridge_without_the_own_perturbations(monkeypatch: pytest.MonkeyPatch) -> None:
    network = (*NETWORK, ("T01", "T00"), ("T02", "T00"))
    learner = propagation(CellOracle(network, bags=1, penalty=2.0), screen())
    monkeypatch.setattr(torch, "randint", lambda _, size, **__: torch.arange(size[0]))  # every condition once
    effects = normal(24, 60, seed=3)
    found = learner.edges(effects, torch.arange(24))
    for target in ("T00", "R00", "R04"):
        parents = sorted(READOUTS.index(source) for source, other in network if other == target)
        column, kept = READOUTS.index(target), [row for row in range(24) if READOUTS[row] != target]
        ridge = Ridge(alpha=2.0 * float(effects.square().mean()), fit_intercept=False)
        expected = ridge.fit(effects[kept][:, parents], effects[kept, column]).coef_
        at = torch.searchsorted(learner.nodes, torch.tensor(parents))
        assert found[at, column].tolist() == pytest.approx(expected.tolist())
        assert int((found[:, column] != 0).sum()) == len(parents)
    monkeypatch.setattr(cell_oracle, "_NUMBERS", 1)  # large screens: few genes at once, and the same strengths
    torch.testing.assert_close(learner.edges(effects, torch.arange(24)), found)


def test_three_rounds_follow_all_ways_of_three_steps_with_the_first_gene_held() -> None:
    chain = (("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("b", "a"))
    given = Screen.from_labels(normal(3, 5, seed=0), [Perturbation.parse(each) for each in "abc"], list("abcde"))
    learner = propagation(CellOracle(chain), given)
    edges = torch.zeros(4, 5, dtype=torch.float64)
    for source, target in chain:
        edges["abcd".index(source), "abcde".index(target)] = 0.5
    passed = learner.passed_on(edges, torch.tensor([0]), torch.tensor([2.0], dtype=torch.float64))
    assert passed.tolist() == [[0.0, 1.0, 0.5, 0.25, 0.0]]  # no way to e in three steps, and a is held


def test_a_planted_network_predicts_factors_never_perturbed() -> None:
    given = screen()
    train = given.rows(range(3, 24))
    fitted = CellOracle(NETWORK, penalty=1.0).fit(train, seed=0)
    unseen = given.batch.rows(slice(0, 3))
    errors = [
        float((each.fit(train, seed=0).predict(unseen).mean - given.effects[:3]).square().sum())
        for each in (CellOracle(NETWORK, penalty=1.0), KernelRidge(descriptors=()))
    ]
    assert errors[0] < 0.8 * errors[1]
    assert fitted.trust > 0.3
    assert torch.equal(fitted.predict(train.batch).mean, train.effects)


def test_without_a_network_the_prior_is_left() -> None:
    train = screen().rows(range(3, 24))
    batch = screen().batch
    alone = CellOracle(()).fit(train, seed=0).predict(batch).mean
    torch.testing.assert_close(alone, KernelRidge(descriptors=()).fit(train, seed=0).predict(batch).mean)


def test_networks_are_read_and_refused() -> None:
    table = pd.DataFrame({"source": ["a", "a", "b"], "target": ["b", "b", "c"]})
    assert regulations_from(table) == (("a", "b"), ("b", "c"))
    with pytest.raises(DataError, match="'target' is missing"):
        regulations_from(table[["source"]])
    with pytest.raises(DataError, match="row 2 of the network lacks a name"):
        regulations_from(table.assign(source=["a", None, "b"]))
    with pytest.raises(DataError, match="must be positive"):
        replace(CellOracle(), rounds=0)


def test_collectri_links_readouts_under_any_of_their_names(real_data: Callable[[str], Path]) -> None:
    real_data("gene_features")
    assert ("PU.1", "CSF1R") in regulations_among(["PU.1", "CSF1R", "KLF1"])
    assert regulations_among(["no gene"]) == ()
