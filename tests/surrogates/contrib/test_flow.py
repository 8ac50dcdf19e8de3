"""Cells moved along learnt velocity fields, alone and under sets of targets."""

import math
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from strategies.cells import AB, CONTEXTS, A, B, planted
from strategies.screens import normal

from surrogates.artefact import Origin, load_cells, save_fitted
from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.discrepancy import discrepancy
from surrogates.contrib.cells.flow import EmbeddedTargets, FittedFlow, FlowMatching
from surrogates.contrib.cells.flow_networks import MaskedAttention, ReadoutGraph, SetEncoder, Velocity
from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.contrib.cells.transport import transport_plan
from surrogates.data.descriptors import Descriptors
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.training import Layers, Schedule, placed

QUICK = FlowMatching(
    components=8, hidden=(48,), pairs=64, schedule=Schedule(epochs=40, batch=4, rate=5e-3, annealing=0.95)
)


def random_layers(*sizes: int) -> Layers:
    return Layers.random(sizes, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def linear_flow(weight: torch.Tensor, *, solver: str, steps: int) -> FittedFlow:
    """A flow of two readouts with dx/dt = W x, whatever is done."""
    axes = PrincipalAxes(torch.zeros(2).double(), torch.eye(2).double(), 1.0)
    clocked = torch.nn.functional.pad(weight, (0, 7 + 1))  # neither time nor condition matters
    velocity = Velocity(Layers((clocked,), (torch.zeros(2).double(),)), None)
    encoder = SetEncoder(random_layers(2, 1), torch.zeros(1).double(), random_layers(1, 1))
    targets = EmbeddedTargets(("A",), torch.ones(1, 1).double(), (1.0, 1.0))
    return FittedFlow(("x", "y"), axes, targets, encoder, velocity, solver, steps)


def test_steps_converge_to_the_exact_solution_at_the_order_of_the_solver() -> None:
    weight = torch.tensor([[0.2, -1.0], [1.0, 0.2]]).double()
    cells = normal(300, 2, seed=0)
    exact = cells @ torch.linalg.matrix_exp(weight).T
    for solver, order in (("euler", 1), ("midpoint", 2)):
        error = [
            float((linear_flow(weight, solver=solver, steps=steps).predict(cells, A) - exact).norm())
            for steps in (20, 40)
        ]
        assert error[0] / error[1] == pytest.approx(2**order, rel=0.1)


def test_the_condition_of_a_set_knows_no_order_and_no_empty_slots() -> None:
    encoder = SetEncoder(random_layers(4, 6), normal(6, 1, seed=1)[:, 0], random_layers(6, 3))
    parts = normal(3, 4, seed=2)
    every = torch.stack([parts[list(order)] for order in permutations(range(3))])
    found = encoder(every, torch.ones(6, 3, dtype=torch.bool))
    torch.testing.assert_close(found, found[:1].expand(6, -1))
    padded = torch.cat([parts, 99 * normal(2, 4, seed=3)])[None]
    present = torch.tensor([[True, True, True, False, False]])
    torch.testing.assert_close(encoder(padded, present), found[:1])
    assert not torch.allclose(encoder(parts[None, :2], torch.ones(1, 2, dtype=torch.bool)), found[:1])


def test_the_discrepancy_is_that_of_the_slow_sum() -> None:
    one, other = normal(10, 3, seed=0).reshape(2, 5, 3), normal(8, 3, seed=1).reshape(2, 4, 3)

    def mean(x: torch.Tensor, y: torch.Tensor) -> float:
        each = [
            math.exp(-float((a - b).square().sum()) / (2 * (w * 1.5) ** 2)) for a in x for b in y for w in widths
        ]
        return sum(each) / len(each)

    widths = (0.25, 0.5, 1.0, 2.0, 4.0)
    expected = [mean(x, x) + mean(y, y) - 2 * mean(x, y) for x, y in zip(one, other, strict=True)]
    torch.testing.assert_close(discrepancy(one, other, 1.5), torch.tensor(expected).double())
    torch.testing.assert_close(discrepancy(one, one.flip(1), 1.5), torch.zeros(2).double())


def test_readouts_see_their_neighbours_only() -> None:
    cells, _ = planted(each=6)
    axes = PrincipalAxes.of(cells.values.double(), 30)
    graph = ReadoutGraph(edges=(("r0", "r1"), ("r1", "r2"), ("elsewhere", "r3")), width=4)
    network = MaskedAttention.random(graph, cells, axes, condition=2, generator=torch.Generator().manual_seed(0))
    network = placed(network, device="cpu", dtype=torch.float64)
    network = replace(network, readouts=torch.eye(3).double(), output=torch.eye(3).double())
    slopes = torch.autograd.functional.jacobian(
        lambda state: network(state[None], torch.tensor([[0.3]]).double(), torch.ones(1, 2).double())[0],
        normal(1, 3, seed=0)[0],
    )
    expected = torch.tensor([[True, False, False], [True, True, False], [False, True, True]])
    assert torch.equal(slopes.abs() > 1e-12, expected)


def test_readouts_attend_to_those_with_which_they_correlate() -> None:
    cells, _ = planted(each=6)
    found = ReadoutGraph(neighbours=3).among(cells, [4, 7, 1, 20, 9])
    parts = [cells.of(CONTROL, context)[:, [4, 7, 1, 20, 9]] for context in CONTEXTS]
    strength = torch.cat([part - part.mean(0) for part in parts]).T.corrcoef().abs().fill_diagonal_(2)
    for row in range(5):
        assert set(found[row].nonzero().flatten().tolist()) == set(strength[row].topk(4).indices.tolist())
    with pytest.raises(
        DataError, match=r"none of 1 edges, the first \('TP53', 'r1'\), is between two of 30 readouts"
    ):
        ReadoutGraph(edges=(("TP53", "r1"),)).eligible(cells.readouts)
    with pytest.raises(DataError, match=r"none of 1 edges, the first \('r1', 'r1'\)"):  # an edge to itself is none
        ReadoutGraph(edges=(("r1", "r1"),)).eligible(cells.readouts)
    with pytest.raises(DataError, match="no edge is between two of the 5 readouts that have tokens; allow more"):
        ReadoutGraph(edges=(("r0", "r1"),)).among(cells, [4, 7, 1, 20, 9])


def test_a_gaussian_is_carried_to_another() -> None:
    """Between N(0, I) and N(m, S S) the optimal map is x -> S x + m, and straight paths carry it."""
    widen, move = torch.diag(torch.tensor([2.0, 0.5])).double(), torch.tensor([1.0, -1.0]).double()
    cells, _ = planted(each=200, readouts=2)
    x, y = normal(200, 2, seed=5), normal(200, 2, seed=6) @ widen + move
    two = cells.rows(torch.nonzero(cells.codes < 2).flatten())
    model = replace(QUICK, components=2, pairs=256, noise=0.0)
    found = model.fit(replace(two, values=torch.cat([x, y])), seed=0).predict(x, A)
    expected = x @ widen + move
    assert float((found - expected).square().sum() / (expected - x).square().sum()) < 0.06


@pytest.mark.parametrize("graph", [None, ReadoutGraph(readouts=15, width=4)])
def test_planted_effects_are_found_in_a_new_context(graph: ReadoutGraph | None) -> None:
    cells, effects = planted(each=20)
    control = cells.of(CONTROL, "N")
    model = replace(QUICK, graph=graph, discrepancy_weight=0.0 if graph is None else 1.0)
    fitted = model.fit(cells.without(A, "N").without(B, "N"), seed=0)
    for what, effect in ((A, effects[0]), (B, effects[1])):
        error = fitted.predict(control, what).mean(0) - control.mean(0) - effect
        assert float(error.square().sum() / effect.square().sum()) < 0.2


@pytest.mark.parametrize("graph", [None, ReadoutGraph(readouts=6, width=2)])
def test_the_seed_fixes_everything_and_a_file_keeps_it(graph: ReadoutGraph | None, tmp_path: Path) -> None:
    cells, _ = planted(each=5)
    model = replace(QUICK, graph=graph, discrepancy_weight=1.0, schedule=Schedule(epochs=1))
    state = torch.get_rng_state()
    one, other = (model.fit(cells, seed=seed) for seed in (4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    control = cells.of(CONTROL, "K")
    predicted = one.predict(control, AB)
    assert not torch.allclose(predicted, other.predict(control, AB))
    save_fitted(one, tmp_path / "model", origin=Origin("0", {}, repr(model), 4))
    assert torch.equal(load_cells(tmp_path / "model").predict(control, AB), predicted)


def described_world(targets: int, *, seed: int) -> tuple[Cells, Descriptors, dict[Perturbation, torch.Tensor]]:
    """Cells whose effects are linear in two descriptors of each target; singles, some pairs, and their effects."""
    vectors, law = normal(targets, 2, seed=seed), 2 * normal(2, 12, seed=seed + 1)
    names = [f"T{number}" for number in range(targets)]
    table = Descriptors("planted", "linear", tuple(names), vectors)
    pairs = [(one, one + 1) for one in range(targets - 1)] + [(one, one + 2) for one in range(targets - 2)]
    sets = [(one,) for one in range(targets)] + pairs
    effects = {
        Perturbation.parse("+".join(names[one] for one in each)): vectors[list(each)].sum(0) @ law for each in sets
    }
    moves = [torch.zeros(12).double(), *effects.values()]
    values = [0.3 * normal(12, 12, seed=100 + number) + move for number, move in enumerate(moves)]
    conditions = (CONTROL, *effects)
    codes = torch.repeat_interleave(torch.arange(len(conditions)), 12)
    readouts = tuple(f"r{number}" for number in range(12))
    return Cells(torch.cat(values), codes, conditions, ("",) * len(conditions), readouts), table, effects


def test_an_unseen_target_is_predicted_by_its_vector_alone_and_in_a_pair() -> None:
    cells, table, effects = described_world(16, seed=3)
    hidden = {what for what in effects if "T5" in what.targets}
    seen = cells
    for what in hidden:
        seen = seen.without(what, "")
    control = cells.of(CONTROL, "")
    fitted = replace(QUICK, embeddings=table, schedule=Schedule(60, 8, rate=5e-3, annealing=0.95)).fit(
        seen, seed=0
    )
    error = [
        (fitted.predict(control, what).mean(0) - control.mean(0) - effects[what]).square().sum() for what in hidden
    ]
    assert len(hidden) == 5
    assert float(sum(error) / sum(effects[what].square().sum() for what in hidden)) < 0.3
    with pytest.raises(UnknownNameError, match="unknown perturbation 'T5'"):
        TwoFactorCells().fit(seen, seed=0).predict(control, Perturbation.parse("T5"))


def test_pairs_follow_the_masses_of_the_plan() -> None:
    cells, _ = planted(each=7)
    ordered = cells.without(A, "K").in_canonical_order()
    axes = PrincipalAxes.of(ordered.values.double(), 4)
    model, drawn = replace(QUICK, pairs=4096), torch.Generator().manual_seed(0)
    pairs = model._pairs(ordered, A, ("L",), axes, drawn).transpose(1, 2).reshape(-1, 2, 4)
    start, end = (axes.coordinates(ordered.of(what, "L").double()) for what in (CONTROL, A))
    plan = transport_plan(start, end)
    counts = torch.zeros_like(plan)
    nearest = [torch.cdist(pairs[:, side].double(), each).argmin(1) for side, each in enumerate((start, end))]
    for one, other in zip(*nearest, strict=True):
        counts[one, other] += 1 / len(pairs)
    torch.testing.assert_close(counts, plan, atol=2 / 4096, rtol=0)


def test_what_was_not_trained_on_is_refused() -> None:
    cells, table, _ = described_world(4, seed=0)
    control = cells.of(CONTROL, "")
    brief = replace(QUICK, schedule=Schedule(epochs=1))
    fitted = brief.fit(cells, seed=0)
    with pytest.raises(UnknownNameError, match="unknown perturbation 'T9'"):
        fitted.predict(control, Perturbation.parse("T1+T9"))
    with pytest.raises(DataError, match=r"dose 2 of 'T1' lies outside of those .* 1 to 1; take one among them"):
        fitted.predict(control, Perturbation.parse("T1@2"))
    few = Descriptors("few", "linear", table.symbols[:2], table.vectors[:2])
    with pytest.raises(DataError, match="2 of 4 targets have no vector in 'few', T2, T3 among them"):
        replace(brief, embeddings=few).fit(cells, seed=0)
    with pytest.raises(DataError, match="the training loss became"):
        replace(QUICK, schedule=Schedule(epochs=40, rate=1e20)).fit(cells, seed=0)


@pytest.mark.parametrize("change", [{"components": 0}, {"hidden": (0,)}, {"noise": -1.0}])
def test_sizes_that_train_nothing_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=next(iter(change))):
        replace(FlowMatching(), **change)
    with pytest.raises(DataError, match="neighbours=0"):
        ReadoutGraph(neighbours=0)
