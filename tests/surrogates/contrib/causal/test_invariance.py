"""Invariant causal prediction: its tests against scipy on residuals, its level over worlds, and its refusals."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from strategies.screens import normal

from benchmarks.forward.invariance import acyclic_cells, tally
from surrogates.contrib.causal.design import Sources
from surrogates.contrib.causal.invariance import Invariance, ResidualMoments, refuse_cycles, subsets
from surrogates.contrib.causal.model import Causal
from surrogates.data.io.cells import Cells
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError


@pytest.mark.parametrize("environments", [2, 3])
def test_p_values_are_those_of_tests_on_the_residuals(environments: int) -> None:
    values, label = normal(60, 4, seed=0), torch.arange(60) % environments
    values[label == 1] *= 1.4
    sets = subsets(3)
    found = ResidualMoments.of(values, label).p_values(sets)
    for chosen, p_value in zip(sets.tolist(), found.tolist(), strict=True):
        x = np.column_stack([np.ones(60), values[:, 1:].numpy()[:, chosen]])
        y = values[:, 0].numpy()
        left = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
        each = []
        for at in range(environments):
            inside, outside = left[label.numpy() == at], left[label.numpy() != at]
            ratio, freedom = inside.var(ddof=1) / outside.var(ddof=1), (len(inside) - 1, len(outside) - 1)
            each.append(stats.ttest_ind(inside, outside, equal_var=False).pvalue)
            each.append(2 * min(stats.f.cdf(ratio, *freedom), stats.f.sf(ratio, *freedom)))
        tests = 2 if environments == 2 else len(each)
        assert p_value == pytest.approx(min(1.0, tests * min(each)), rel=1e-4)


def test_false_parents_are_rarer_than_the_level_and_true_ones_are_found() -> None:
    counts = [
        tally(*acyclic_cells(genes=8, cells=60, acted=4, shift=1.0, seed=seed), Invariance()) for seed in range(24)
    ]
    assert sum(each.wrong for each in counts) <= 0.07 * sum(each.genes for each in counts)
    assert sum(each.found for each in counts) >= 0.2 * sum(each.parents for each in counts)


def test_the_parents_are_the_only_ones_that_may_act() -> None:
    cells, _ = acyclic_cells(genes=6, cells=200, acted=5, shift=2.0, seed=0)  # a path
    graph = Invariance().graph(cells)
    assert graph
    means = torch.stack([cells.values[cells.codes == code].mean(0) for code in range(6)])
    screen = Screen.from_labels(means[1:] - means[0], list(cells.perturbations[1:]), list(cells.readouts))
    fitted = Causal(variable=0, parents=graph, steps=5).fit(screen, seed=0)
    named = dict(graph)
    for column, readout in enumerate(screen.readouts):
        acting = {fitted.sources.names[int(at)] for at in fitted.edges[:, column].nonzero().flatten()}
        assert acting <= set(named.get(readout, screen.readouts))
    with pytest.raises(UnknownNameError, match="readout among the parents 'nobody'"):
        Causal(parents=(("G00", ("nobody",)),)).fit(screen, seed=0)


def test_compounds_act_on_readouts_with_stated_parents_too() -> None:
    labels = [Perturbation.parse(each) for each in ("a:knockdown", "b:knockdown", "drug:compound@1")]
    screen = Screen.from_labels(normal(3, 3, seed=0), labels, list("abc"))
    sources = Sources.of(screen, regulators=(), variable=0, targets=(), parents=(("c", ("a",)),))
    allowed = sources.allowed((("c", ("a",)),), screen.readouts)
    assert allowed is not None
    assert sources.names == ("a", "b", "drug")
    assert allowed.T.tolist() == [[True] * 3, [True] * 3, [True, False, True]]


def test_a_graph_with_cycles_is_named() -> None:
    with pytest.raises(DataError, match="the parents form a cycle, 'a' -> 'b' -> 'a'"):
        refuse_cycles((("a", ("b",)), ("b", ("a",)), ("c", ("a",))))


def test_cells_that_say_nothing_of_invariance_are_refused() -> None:
    cells, _ = acyclic_cells(genes=4, cells=20, acted=2, shift=1.0, seed=0)
    with pytest.raises(UnknownNameError, match="readout 'G9'"):
        Invariance().parents(cells, "G9")
    alone = cells.rows(torch.arange(20))
    with pytest.raises(DataError, match="is seen in 1 environment where it is not acted on"):
        Invariance().parents(alone, "G00")
    few = cells.rows(torch.arange(42))
    kept = next(name for name in cells.readouts if Perturbation.parse(name) not in cells.perturbations)
    with pytest.raises(DataError, match=r"2 cells of .* are too few to compare spreads"):
        Invariance().parents(few, kept)
    with pytest.raises(DataError, match="most 40 must be"):
        replace(Invariance(), most=40)


def test_at_most_so_many_genes_are_kept_by_the_lasso() -> None:
    values = normal(90, 30, seed=0)
    values[:, 0] = values[:, 5] + values[:, 6] + 0.1 * values[:, 0]
    names = tuple(f"r{number}" for number in range(30))
    cells = Cells(values, torch.arange(90) % 3, (Perturbation(),) * 3, ("a", "b", "c"), names)
    found = Invariance(most=4).parents(cells, "r0")
    assert len(found.candidates) == 4
    assert {"r5", "r6"} <= set(found.candidates)
    assert found.accepted == 16  # contexts that do not differ leave every set
    assert not found.parents


def test_a_readout_that_never_varies_has_no_parents() -> None:
    values = normal(20, 10, seed=0)
    values[:, 3] = 0.0
    conditions = (Perturbation(), Perturbation.parse("G1"))
    names = tuple(f"G{at}" for at in range(10))
    cells = Cells(values, torch.arange(20) % 2, conditions, ("", ""), names)
    assert Invariance().parents(cells, "G3").parents == ()
