"""Graph networks from effects to what was perturbed: layers against loops, planted causes named, refusals."""

from dataclasses import replace

import pytest
import torch
from strategies.screens import normal

from surrogates.contrib.regulation.inverse_network import Convolutions, InverseNetwork
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.training import Schedule

FACTORS = tuple(f"T{number}" for number in range(8))
READOUTS = tuple(f"R{number:02d}" for number in range(24))
NETWORK = tuple((factor, READOUTS[(3 * at + each) % 24]) for at, factor in enumerate(FACTORS) for each in range(4))
QUICK = InverseNetwork(NETWORK, width=8, schedule=Schedule(epochs=60, batch=16, rate=2e-2, patience=60))


def screen(*, seed: int = 0) -> Screen:
    """Factors that are no readouts, alone and in all pairs but one; each moves what it regulates."""
    pairs = [f"{one}+{other}" for at, one in enumerate(FACTORS) for other in FACTORS[at + 1 :]]
    labels = [Perturbation.parse(each) for each in (*FACTORS, *pairs)]
    effects = 0.1 * normal(len(labels), 24, seed=seed)
    for row, label in enumerate(labels):
        for source, target in NETWORK:
            effects[row, READOUTS.index(target)] += float(source in label.targets)
    return Screen.from_labels(effects, labels, list(READOUTS))


def test_layers_add_up_along_edges_and_cut_edges_carry_nothing() -> None:
    layers = Convolutions.random(4, 3, torch.Generator().manual_seed(0))
    edges = torch.tensor([[0, 1, 2, 0], [1, 2, 0, 2]])
    inputs, cut = normal(2, 4, seed=0).float(), torch.tensor([[0.0, 0, 1, 0], [0, 0, 0, 0.5]])
    found = layers(inputs, edges, cut=cut)
    for row in range(2):
        state = [float(inputs[row, node]) * layers.values + layers.positions[node] for node in range(4)]
        every = [state]
        for own, along in zip(layers.own, layers.along, strict=True):
            following = []
            for node in range(4):
                into = [int(source) for source, target in edges.T.tolist() if target == node]
                gathered = sum((state[source] for source in into), torch.zeros(3)) / max(len(into), 1)
                following.append((state[node] @ own + (1 - cut[row, node]) * gathered @ along).relu())
            state = following
            every.append(state)
        for node in range(4):
            expected = layers.readout(torch.cat([each[node] for each in every])[None])[0, 0]
            torch.testing.assert_close(found[row, node], expected)


def test_factors_behind_doubles_never_seen_are_named() -> None:
    given = screen()
    held = torch.arange(len(given)) % 5 == 4
    held[:8] = False
    fitted = QUICK.fit(given.rows(torch.nonzero(~held).flatten()), seed=0)
    scores = fitted.scores(given.effects[held])
    true = given.batch.genes[held][:, :2]
    ranks = (scores[:, None, :] >= scores.gather(1, true)[:, :, None]).sum(2)
    assert float((ranks <= 2).double().mean()) > 0.7  # of 8: a quarter by chance
    first = fitted.name(given.effects[held][0], count=2)
    assert first == fitted.name(given.effects[held][0], count=8)[:2]
    again = QUICK.fit(given.rows(torch.nonzero(~held).flatten()), seed=0)
    assert torch.equal(again.scores(given.effects[held]), scores)


def test_screens_without_a_network_and_small_ones_are_refused() -> None:
    with pytest.raises(DataError, match="no regulation is known between the genes"):
        replace(QUICK, network=(("a", "b"),)).fit(screen(), seed=0)
    with pytest.raises(DataError, match="9 conditions are too few"):
        QUICK.fit(screen().rows(range(9)), seed=0)
    with pytest.raises(DataError, match="width 0 must be positive"):
        InverseNetwork(width=0)
    with pytest.raises(DataError, match=r"became nan|became inf|never finite"):
        replace(QUICK, schedule=Schedule(epochs=9, batch=16, rate=1e30)).fit(screen(), seed=0)


def test_a_network_without_readouts_is_refused() -> None:
    with pytest.raises(DataError, match="none of 8 genes of the network and targets of the screen is a readout"):
        InverseNetwork((("T0", "T1"),)).fit(screen(), seed=0)
