import pytest
import torch
from strategies.screens import normal

from surrogates.contrib.causal.design import VIRTUAL, Regression, Sources
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError

LABELS = ["a:knockdown", "b:knockdown", "drug:compound@2", "drug:compound@8", "a:knockdown+drug:compound@2"]


def _screen() -> Screen:
    return Screen.from_labels(
        normal(5, 4, seed=0), [Perturbation.parse(label) for label in LABELS], ["a", "b", "c", "d"]
    )


def test_targets_that_are_readouts_and_regulators_are_nodes_and_others_are_virtual() -> None:
    sources = Sources.of(_screen(), regulators=("d",), variable=50, targets=())
    assert sources.names == ("a", "b", "d", "drug")
    assert sources.columns.tolist() == [0, 1, 3, VIRTUAL]
    assert sources.inputs(_screen().batch).tolist() == [
        [-1, 0, 0, 0],
        [0, -1, 0, 0],
        [0, 0, 0, 0.25],
        [0, 0, 0, 1],
        [-1, 0, 0, 0.25],
    ]


def test_without_regulators_the_most_variable_readouts_are_nodes() -> None:
    screen = _screen()
    widest = screen.readouts[int(screen.effects.square().mean(0).argmax())]
    assert set(Sources.of(screen, regulators=(), variable=1, targets=()).names) == {"a", "b", "drug", widest}


def test_an_unknown_regulator_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="'dd': did you mean 'd'"):
        Sources.of(_screen(), regulators=("dd",), variable=0, targets=())


def _regression() -> Regression:
    screen = _screen()
    sources = Sources.of(screen, regulators=("d",), variable=0, targets=())
    return Regression(screen.effects, sources.inputs(screen.batch), sources.columns, sources.known)


def test_own_readouts_are_left_out_of_the_loss() -> None:
    assert _regression().weights.tolist() == [[0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]]


def test_the_strength_is_what_other_nodes_do_not_explain() -> None:
    problem = _regression()
    edges = torch.zeros(4, 4, dtype=torch.float64)
    edges[1, 0] = 0.5  # b acts on a
    unexplained = problem.effects[:, 0] - 0.5 * problem.effects[:, 1]
    a = float(-(unexplained[0] + unexplained[4]) / 2)
    b = float(-problem.effects[1, 1])
    strength = problem.strengths(edges)
    assert strength[:2].tolist() == pytest.approx([a, b])  # two values are never far from their median
    assert strength[2:].tolist() == pytest.approx([(a + b) / 2, 1.0])


def test_a_strength_far_from_the_others_is_brought_near() -> None:
    inputs = torch.eye(9, dtype=torch.float64)
    strengths = torch.tensor([1.0, 1.1, 0.9, 1.05, 0.95, 1.02, 0.98, 1.0, 9.0], dtype=torch.float64)
    problem = Regression(torch.diag(strengths), inputs, torch.arange(9), torch.zeros(9, dtype=torch.bool))
    found = problem.strengths(torch.zeros(9, 9, dtype=torch.float64))
    assert 1.1 < float(found[8]) < 1.4
    torch.testing.assert_close(found[:8], strengths[:8])


def test_an_idle_condition_stands_for_each_node_never_acted_on() -> None:
    problem = _regression()
    widened = problem.with_idle_conditions(0.25)
    assert len(widened.effects) == 6  # d was never acted on
    assert widened.inputs[5].tolist() == [0, 0, 0.5, 0]
    shared = float(problem.strengths(torch.zeros(4, 4, dtype=torch.float64))[2])
    assert widened.effects[5].tolist() == pytest.approx([0, 0, 0, 0.5 * shared])
    assert widened.weights[5].tolist() == [1, 1, 1, 0]


def test_taking_readouts_keeps_the_nodes() -> None:
    problem = _regression()
    some = problem.with_readouts(torch.tensor([0, 1, 3]))
    assert some.columns.tolist() == [0, 1, 2, VIRTUAL]
    torch.testing.assert_close(some.values, problem.values)
