import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from strategies.screens import normal

from benchmarks.forward.differential import differential_readouts
from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.data.io.cells import CONTROL, read_cells


@pytest.fixture(scope="module")
def kang() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "forward" / "kang.py"))


def test_weights_are_the_counts_of_drawn_cells(kang: dict[str, Any]) -> None:
    weights = kang["weights"](7, 400, torch.Generator().manual_seed(0))
    torch.testing.assert_close(weights[0], torch.full((7,), 1 / 7).double())
    torch.testing.assert_close(weights.sum(1), torch.ones(401).double())
    counts = weights[1:] * 7
    torch.testing.assert_close(counts, counts.round())
    # A cell is drawn 7 times with probability 1/7 each: the counts have mean one and variance 6/7.
    assert float(counts.mean()) == pytest.approx(1)
    assert float(counts.var()) == pytest.approx(6 / 7, rel=0.1)


def test_the_truth_scores_best_and_differences_are_paired(kang: dict[str, Any]) -> None:
    control, treated = normal(20, 30, seed=0).abs(), normal(25, 30, seed=1).abs()
    treated[:, :6] += 2
    changed = torch.arange(30) < 6
    held_out = kang["HeldOut"]("T", control, treated, changed, PrincipalAxes.of(torch.cat([control, treated]), 5))
    exact = kang["Predicted"].of(control + treated.mean(0) - control.mean(0))
    none = kang["Predicted"].of(control)
    predictions = {"two_factor": none, **dict.fromkeys(kang["FORMS"], none), "latent_shift": exact}
    values = kang["scores"](held_out, predictions, samples=30, seed=0, pseudocount=1.0)
    assert float(values["latent_shift", "average_precision"][0]) == 1.0
    assert float(values["two_factor", "average_precision"][0]) == pytest.approx(0.2)
    assert float(values["latent_shift", "relative_squared_error"][0]) == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(values["two_factor", "relative_squared_error"], torch.ones(31).double())
    assert float(values["latent_shift", "pearson"][0]) == pytest.approx(1)
    more = kang["with_differences"](values)["latent_shift - two_factor", "average_precision"]
    torch.testing.assert_close(more, torch.full((31,), 0.8).double(), atol=0.1, rtol=0)
    row = next(row for row in kang["rows_of"](values, "T", n=45) if row.metric == "precision_at_75")
    assert row.low <= row.value <= row.high <= 1


def test_measured_cells_are_no_distance_from_themselves_and_halves_score_well(kang: dict[str, Any]) -> None:
    control, treated = normal(20, 6, seed=0).abs(), normal(26, 6, seed=1).abs() + 2
    held_out = kang["HeldOut"]("T", control, treated, torch.arange(6) < 3, PrincipalAxes.of(control, 4))
    uniform = torch.full((1, 26), 1 / 26, dtype=torch.float64), torch.full((1, 20), 1 / 20, dtype=torch.float64)
    exact = kang["_judged"](held_out, kang["Predicted"].of(treated), uniform[0], uniform[::-1], 1.0)
    assert float(exact["e_distance"]) == pytest.approx(0, abs=1e-9)
    x, y = (held_out.axes.coordinates(each) * held_out.axes.scale for each in (control, treated))
    apart = 2 * torch.cdist(x, y).mean() - torch.cdist(x, x).mean() - torch.cdist(y, y).mean()
    none = kang["_judged"](held_out, kang["Predicted"].of(control), uniform[1], uniform[::-1], 1.0)
    torch.testing.assert_close(none["e_distance"][0], apart)
    halves = kang["between_halves"](held_out, seed=0, pseudocount=1.0)
    assert 0 < float(halves["other_half", "e_distance"][0]) < float(apart) / 4
    assert float(halves["other_half", "relative_squared_error"][0]) < 0.1


@pytest.mark.real_data
def test_two_factor_finds_the_response_of_a_held_out_type(
    kang: dict[str, Any], real_data: Callable[[str], Path]
) -> None:
    cells = read_cells(real_data("kang2018_pbmc") / "cells.h5ad")
    (stimulus,) = cells.treatments
    control, treated = cells.of(CONTROL, "NK"), cells.of(stimulus, "NK")
    axes = PrincipalAxes.of(cells.without(stimulus, "NK").values.double(), 50)
    held_out = kang["HeldOut"]("NK", control, treated, differential_readouts(treated, control), axes)
    predicted = TwoFactorCells().fit(cells.without(stimulus, "NK"), seed=0).predict(control, stimulus)
    predictions = {"two_factor": kang["Predicted"].of(predicted), "no_change": kang["Predicted"].of(control)}
    values = kang["scores"](held_out, predictions, samples=1, seed=0, pseudocount=1.0)
    assert int(held_out.changed.sum()) == 30
    assert float(values["no_change", "average_precision"][0]) == pytest.approx(30 / 6998)
    assert float(values["two_factor", "average_precision"][0]) == pytest.approx(0.665, abs=0.005)
