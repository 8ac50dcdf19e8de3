"""GEARS and scLAMBDA forms: contracts, planted worlds, and what they are made of against slow forms."""

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import gene, normal, pairs_of, planted_screen

from surrogates.contrib.embedded.gears import Gears, convolution
from surrogates.contrib.embedded.sclambda import ScLambda, mutual_information, opposed
from surrogates.data.descriptors import Descriptors
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.baselines import Additive
from surrogates.models.training import Layers, Schedule, train
from surrogates.testing import check_surrogate

BRIEF = Schedule(epochs=6, batch=16, rate=5e-3)
LONG = Schedule(epochs=60, batch=16, rate=5e-3, patience=60)
SCREEN = planted_screen(alone=range(8), together=pairs_of(9, 20), readouts=6, bend=0.5)


def _table(count: int, *, seed: int = 0) -> Descriptors:
    """Describe the first genes by three numbers each."""
    table = pd.DataFrame(normal(count, 3, seed=seed).numpy(), index=[gene(number) for number in range(count)])
    return Descriptors.from_table(table, name="table", kernel="rbf")


@pytest.mark.parametrize(
    "surrogate",
    [
        Gears(latent=8, hidden=8, schedule=BRIEF),
        Gears(descriptors=(_table(6),), neighbours=2, latent=8, hidden=8, schedule=BRIEF),
        ScLambda(latent=4, hidden=8, schedule=BRIEF),
        ScLambda(descriptors=(_table(6),), latent=4, hidden=8, schedule=BRIEF),
    ],
    ids=["gears", "gears, six genes in the graph", "sclambda", "sclambda, six genes in the table"],
)
def test_contract(surrogate: Gears | ScLambda) -> None:
    check_surrogate(surrogate, SCREEN)


@settings(max_examples=15)
@given(count=st.integers(1, 6), neighbours=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_convolution_is_that_of_a_dense_graph(count: int, neighbours: int, seed: int) -> None:
    table, names = _table(count, seed=seed), tuple(gene(number) for number in range(7))
    alike = torch.zeros(7, 7, dtype=torch.float64)
    apart = torch.cdist(table.vectors, table.vectors)
    length = apart[apart > 0].median() if count > 1 else 1.0
    alike[:count, :count] = (-(apart / length).square() / 2).exp()
    alike.fill_diagonal_(0.0)
    joined = torch.zeros(7, 7, dtype=torch.bool)
    for i in range(7):
        for j in alike[i].argsort(descending=True)[:neighbours].tolist():
            joined[i, j] = joined[j, i] = bool(alike[i, j] > 0)
    dense = torch.where(joined, alike, 0.0) + torch.eye(7)
    slow = dense / (dense.sum(1)[:, None] * dense.sum(1)).sqrt()
    found = convolution(table, names, count=neighbours).to_dense()
    torch.testing.assert_close(found, slow.float())
    assert torch.equal(convolution(None, names, count=2).to_dense(), torch.eye(7))


def _described_world() -> tuple[Screen, Screen, Descriptors]:
    """Effects that follow from three numbers known of each gene; six genes are never given."""
    known, genes = normal(36, 3, seed=1), [gene(number) for number in range(36)]
    effects = (known @ normal(3, 8, seed=2)).relu() + 0.05 * normal(36, 8, seed=3)
    screen = Screen.from_labels(effects, [Perturbation.parse(each) for each in genes], [*"abcdefgh"])
    descriptors = Descriptors.from_table(pd.DataFrame(known.numpy(), index=genes), name="known", kernel="linear")
    return screen.rows(range(6, 36)), screen.rows(range(6)), descriptors


@pytest.mark.parametrize(
    "model",
    [
        lambda table: Gears(descriptors=(replace(table, kernel="rbf"),), neighbours=3, gamma=0.0, schedule=LONG),
        lambda table: ScLambda(descriptors=(table,), schedule=LONG),
    ],
    ids=["gears", "sclambda"],
)
def test_genes_never_given_are_predicted_from_what_is_known_of_them(
    model: Callable[[Descriptors], Gears | ScLambda],
) -> None:
    training, test, descriptors = _described_world()
    found, mean = (
        float((each.fit(training, seed=0).predict(test.batch).mean - test.effects).square().sum())
        for each in (model(descriptors), Additive())
    )
    assert found < 0.8 * mean


def test_the_bound_nears_the_mutual_information_of_normal_variables() -> None:
    correlation = 0.8
    one, noise = normal(2000, 1, seed=0).float(), normal(2000, 1, seed=1).float()
    other = correlation * one + (1 - correlation**2) ** 0.5 * noise
    critic = Layers.random((2, 16, 1), generator=torch.Generator().manual_seed(0))
    schedule = Schedule(epochs=40, batch=500, rate=1e-2, decay=0.0)

    def loss(rows: torch.Tensor) -> torch.Tensor:
        return mutual_information(opposed(critic), one[rows], other[rows])

    before = float(mutual_information(critic, one, other))
    train(critic.parameters, loss, rows=2000, schedule=schedule, seed=0)
    exact = -0.5 * float(torch.tensor(1 - correlation**2).log())
    after = float(mutual_information(critic, one, other))
    assert before < 0.5 * exact < 0.8 * exact < after < 1.15 * exact


@pytest.mark.parametrize("wrong", [{"neighbours": 0}, {"latent": 0}, {"gamma": -1.0}, {"direction": -1.0}])
def test_settings_that_make_no_network_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="is no network; take positive widths"):
        Gears(**wrong)  # type: ignore[arg-type]


def test_one_graph_is_made_of_one_table() -> None:
    with pytest.raises(DataError, match="2 tables make no graph; give one"):
        Gears(descriptors=(_table(3), _table(4)))


@pytest.mark.parametrize("wrong", [{"rank": 0}, {"hidden": 0}, {"information": -1.0}, {"robust": -1.0}])
def test_settings_that_make_no_networks_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="is no network; take positive widths"):
        ScLambda(**wrong)  # type: ignore[arg-type]
