from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from strategies.screens import normal
from torch import Tensor

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.data.io.cells import CONTROL, read_cells
from surrogates.evaluation.cell_scores import (
    CELL_METRICS,
    HeldOutCells,
    Predicted,
    between_halves,
    differential_weights,
    e_distance,
    judged_prediction,
    wasserstein_columns,
)

VALUES = st.floats(0, 4, width=32)


def held_out(control: Tensor, treated: Tensor) -> HeldOutCells:
    axes = PrincipalAxes.of(torch.cat([control, treated]), 5)
    own = torch.arange(control.shape[1]) == 1
    return HeldOutCells.of(control, treated, own=own, axes=axes, pseudocount=1.0)


def world() -> tuple[Tensor, Tensor]:
    control, treated = 2 + normal(40, 30, seed=0).abs(), 2 + normal(50, 30, seed=1).abs()
    treated[:, :6] += 3
    return control, treated


def score(cells: Tensor, of: HeldOutCells) -> dict[str, float]:
    return dict(zip(CELL_METRICS, judged_prediction(of, Predicted.cells(cells))[0].tolist(), strict=True))


@given(hnp.arrays(np.float64, (5, 3), elements=VALUES), hnp.arrays(np.float64, (8, 3), elements=VALUES))
def test_wasserstein_distances_are_those_of_scipy(one: np.ndarray, other: np.ndarray) -> None:
    found = wasserstein_columns(torch.from_numpy(one), torch.from_numpy(other))
    wanted = [stats.wasserstein_distance(x, y) for x, y in zip(one.T, other.T, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_an_e_distance_is_a_mean_over_pairs() -> None:
    one, other = normal(4, 3, seed=0), normal(6, 3, seed=1) + 1
    apart = [[float((x - y).norm()) for y in other] for x in one]
    within = [np.mean([float((x - y).norm()) for x in each for y in each]) for each in (one, other)]
    assert float(e_distance(one, other)) == pytest.approx(2 * np.mean(apart) - sum(within))
    assert float(e_distance(one, one)) == pytest.approx(0, abs=1e-12)


def test_weights_are_scaled_squares_of_welchs_statistic() -> None:
    treated, control = normal(12, 7, seed=0) + torch.arange(7) / 4, normal(9, 7, seed=1)
    size = np.abs(stats.ttest_ind(treated, control, equal_var=False).statistic)
    scaled = ((size - size.min()) / (size.max() - size.min())) ** 2
    np.testing.assert_allclose(differential_weights(treated, control), scaled / scaled.sum(), atol=1e-12)
    alike = torch.ones(3, 4).double()
    torch.testing.assert_close(differential_weights(alike, alike), torch.full((4,), 0.25).double())


def test_the_truth_scores_best_and_no_change_as_by_definition() -> None:
    control, treated = world()
    judged = held_out(control, treated)
    assert judged.changed.tolist() == [True] * 6 + [False] * 24
    exact = score(control + treated.mean(0) - control.mean(0), judged)
    none = score(control, judged)
    assert exact["average_precision"] == 1.0
    assert none["average_precision"] == pytest.approx(0.2)
    for metric in ("relative_squared_error", "weighted_squared_error", "i_mae"):
        assert exact[metric] == pytest.approx(0, abs=1e-12)
    assert (none["relative_squared_error"], none["weighted_squared_error"]) == pytest.approx((1, 1))
    kept = torch.arange(30) != 1  # without the readout that is intervened upon
    assert none["i_mae"] == pytest.approx(float((treated.mean(0) - control.mean(0)).abs()[kept].mean()))
    assert exact["pearson"] == pytest.approx(1)
    assert score(treated, judged)["e_distance"] == pytest.approx(0, abs=1e-9)
    assert exact["e_distance"] < none["e_distance"] / 4


def test_the_other_half_is_a_floor() -> None:
    control, treated = world()
    judged = held_out(control, treated)
    halves, errors = between_halves(judged, splits=5, generator=torch.Generator().manual_seed(0))
    found = dict(zip(CELL_METRICS, halves.tolist(), strict=True))
    assert 0 < found["e_distance"] < score(control, judged)["e_distance"] / 4
    assert found["relative_squared_error"] < 0.1
    assert errors.shape == (30,)


@pytest.mark.real_data
def test_two_factors_find_the_response_of_a_held_out_type(real_data: Callable[[str], Path]) -> None:
    cells = read_cells(real_data("kang2018_pbmc") / "cells.h5ad")
    (stimulus,) = cells.treatments
    train = cells.without(stimulus, "NK")
    control, treated = cells.of(CONTROL, "NK"), cells.of(stimulus, "NK")
    own, axes = torch.zeros(len(cells.readouts), dtype=torch.bool), PrincipalAxes.of(control.double(), 5)
    judged = HeldOutCells.of(control, treated, own=own, axes=axes, pseudocount=1.0)
    assert int(judged.changed.sum()) == 30
    predicted = TwoFactorCells().fit(train, seed=0).predict(control, stimulus)
    assert score(predicted, judged)["average_precision"] == pytest.approx(0.665, abs=0.005)
    assert score(control, judged)["average_precision"] == pytest.approx(30 / 6998)
