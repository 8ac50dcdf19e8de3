"""Cells moved as transport pairs them: by attention over pairs, and by gradients of convex networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from strategies.cells import AB, A, B, planted
from strategies.screens import normal

from surrogates.artefact import Origin, load_cells, save_fitted
from surrogates.contrib.cells import transport
from surrogates.contrib.cells.convex_transport import ConvexNetwork, ConvexTransport
from surrogates.contrib.cells.transport import Pairs, TransportShift, transported
from surrogates.data.io.cells import CONTROL
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import FittedCells
from surrogates.models.training import placed

QUICK = ConvexTransport(components=4, hidden=(16,), steps=150, inner_steps=3, batch=64, rate=2e-2)
MODELS = [pytest.param(TransportShift(components=8), id="attention"), pytest.param(QUICK, id="convex")]


def test_equally_many_cells_are_paired_as_by_an_assignment() -> None:
    source, target = normal(30, 3, seed=0), normal(30, 3, seed=1) + 1
    _, partner = linear_sum_assignment(torch.cdist(source, target).square().numpy())
    torch.testing.assert_close(transported(source, target), target[torch.from_numpy(partner)])


def test_unequal_masses_are_split_and_the_mean_is_that_of_the_target() -> None:
    source, target = normal(7, 2, seed=0), normal(12, 2, seed=1)
    torch.testing.assert_close(transported(source, target).mean(0), target.mean(0))
    torch.testing.assert_close(transported(source, target[:1]), target[:1].expand(7, -1))


def test_a_plan_that_is_not_the_best_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_MOST_ROUNDS", 1)
    with pytest.raises(DataError, match=r"30 cells cannot be paired with 30: numItermax reached.*; pair fewer"):
        transported(normal(30, 3, seed=0), normal(30, 3, seed=1) + 1)


def test_attention_is_the_weighted_mean_over_the_nearest() -> None:
    pairs = Pairs(normal(40, 3, seed=0), normal(40, 3, seed=1))
    for cell in normal(5, 3, seed=2):
        cosines = pairs.cells @ cell / pairs.cells.norm(dim=1) / cell.norm()
        nearest = cosines.argsort(descending=True)[:4]
        weights = cosines[nearest].exp() / cosines[nearest].exp().sum()
        expected = (weights[:, None] * pairs.shifts[nearest]).sum(0)
        torch.testing.assert_close(pairs.attended(cell[None], 0.1)[0], expected)


def test_a_convex_network_is_convex_and_its_gradient_is_that_of_differences() -> None:
    network = ConvexNetwork.random(3, (8, 8), generator=torch.Generator().manual_seed(0))
    network = placed(network, device="cpu", dtype=torch.float64)
    one, other = normal(50, 3, seed=1), normal(50, 3, seed=2)
    middle = network((one + other) / 2)
    assert bool((middle <= (network(one) + network(other)) / 2).all())
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    slopes = torch.stack([(network(one + each) - network(one - each)) / 2e-6 for each in step], dim=1)
    torch.testing.assert_close(network.gradient(one), slopes, atol=1e-6, rtol=1e-5)


def test_the_map_between_gaussians_is_found() -> None:
    """Between N(0, I) and N(m, S S) the optimal map is x -> S x + m."""
    widen = torch.diag(torch.tensor([2.0, 0.5])).double()
    move = torch.tensor([1.0, -1.0]).double()
    cells, _ = planted(each=400, readouts=2)
    x, y = normal(400, 2, seed=5), normal(400, 2, seed=6) @ widen + move
    two = cells.rows(torch.nonzero(cells.codes < 2).flatten())
    model = replace(QUICK, components=2, hidden=(32, 32), steps=400, batch=256).fit(
        replace(two, values=torch.cat([x, y])), seed=0
    )
    expected = x @ widen + move
    error = (model.predict(x, A) - expected).square().sum() / (expected - x).square().sum()
    assert float(error) < 0.08


@pytest.mark.parametrize("model", MODELS)
def test_planted_effects_are_found_in_a_new_context(model: Any) -> None:
    cells, effects = planted()
    control = cells.of(CONTROL, "N")
    fitted = model.fit(cells.without(A, "N").without(B, "N"), seed=0)
    assert isinstance(fitted, FittedCells)
    for what, effect in ((A, effects[0]), (B, effects[1]), (AB, effects.sum(0))):
        error = fitted.predict(control, what).mean(0) - control.mean(0) - effect
        assert float(error.square().sum() / effect.square().sum()) < 0.5
    assert torch.equal(fitted.predict(control, CONTROL), control.double())


@pytest.mark.parametrize("model", MODELS)
def test_the_seed_fixes_everything_the_order_nothing_and_a_file_keeps_it(model: Any, tmp_path: Path) -> None:
    cells, _ = planted(each=6)
    model = replace(model, most=4) if isinstance(model, TransportShift) else replace(model, steps=3)
    state = torch.get_rng_state()
    shuffled = cells.rows(torch.randperm(len(cells), generator=torch.Generator().manual_seed(1)))
    one, other, third = (model.fit(each, seed=seed) for each, seed in ((cells, 4), (shuffled, 4), (cells, 5)))
    assert torch.equal(torch.get_rng_state(), state)
    control = cells.of(CONTROL, "K")
    predicted = one.predict(control, A)
    assert torch.equal(predicted, other.predict(control, A))
    assert not torch.allclose(predicted, third.predict(control, A))
    alone = torch.cat([one.predict(cell[None], A) for cell in control])
    torch.testing.assert_close(alone, predicted, atol=1e-9, rtol=0)
    save_fitted(one, tmp_path / "model", origin=Origin("0", {}, repr(model), 4))
    assert torch.equal(load_cells(tmp_path / "model").predict(control, A), predicted)


@pytest.mark.parametrize("model", MODELS)
def test_what_cannot_be_paired_or_is_unknown_is_refused(model: Any) -> None:
    cells, _ = planted(each=2)
    with pytest.raises(DataError, match="no context has both control and treated cells"):
        model.fit(cells.rows(torch.tensor([0, 1, 6, 7])), seed=0)
    single = TransportShift().fit(cells.rows(torch.tensor([0, 2])), seed=0)  # one cell a condition is a pair
    torch.testing.assert_close(single.predict(cells.values[:1], A), cells.values[2:3])
    with pytest.raises(UnknownNameError, match="unknown perturbation 'C'"):
        single.predict(cells.values[:1], Perturbation.parse("C"))


def test_a_diverging_training_says_so() -> None:
    cells, _ = planted(each=6)
    with pytest.raises(DataError, match="transport map of 'A' diverged in step"):
        replace(QUICK, rate=1e6).fit(cells, seed=0)


@pytest.mark.parametrize("change", [{"components": 0}, {"nearest": 0.0}, {"nearest": 1.5}, {"most": 0}])
def test_sizes_that_pair_nothing_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(change))):
        replace(TransportShift(), **change)


def test_steps_that_train_nothing_are_refused() -> None:
    with pytest.raises(DataError, match="must be positive"):
        ConvexTransport(steps=0)
