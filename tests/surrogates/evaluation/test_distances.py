import math

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.metrics.pairwise import rbf_kernel
from strategies.screens import normal
from torch import Tensor

from surrogates.evaluation import metrics as distances
from surrogates.evaluation.metrics import GAMMAS, energy_distance, maximum_mean_discrepancy


@st.composite
def cells(draw: st.DrawFn, *, readouts: int | None = None) -> tuple[Tensor, Tensor]:
    """Two populations of different size, sometimes with cells in common."""
    g = readouts or draw(st.integers(1, 6))
    n, m, seed = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 1000))
    x, y = normal(n, g, seed=seed), draw(st.floats(-2, 2)) + normal(m, g, seed=seed + 1)
    shared = draw(st.integers(0, min(n, m)))
    y[:shared] = x[:shared]
    return x, y


@given(cells())
def test_energy_distance_agrees_with_the_distances_of_scipy_and_pot(case: tuple[Tensor, Tensor]) -> None:
    x, y = (each.numpy() for each in case)
    between, within, other = (cdist(*pair).mean() for pair in ((x, y), (x, x), (y, y)))
    assert energy_distance(*case) == pytest.approx(2 * between - within - other, abs=1e-10)
    between, within, other = (ot.dist(*pair, metric="euclidean").mean() for pair in ((x, y), (x, x), (y, y)))
    assert energy_distance(*case) == pytest.approx(
        2 * between - within - other, abs=1e-6
    )  # its rounding, not ours


@given(cells(readouts=1))
def test_energy_distance_of_one_readout_is_the_square_of_scipys(case: tuple[Tensor, Tensor]) -> None:
    x, y = (each[:, 0].numpy() for each in case)
    assert energy_distance(*case) == pytest.approx(scipy.stats.energy_distance(x, y) ** 2, abs=1e-10)


@given(cells())
def test_discrepancy_agrees_with_the_kernels_of_scikit_learn_and_pot(case: tuple[Tensor, Tensor]) -> None:
    x, y = (each.numpy() for each in case)
    expected = [
        rbf_kernel(x, gamma=gamma).mean()
        + rbf_kernel(y, gamma=gamma).mean()
        - 2 * rbf_kernel(x, y, gamma=gamma).mean()
        for gamma in GAMMAS
    ]
    assert maximum_mean_discrepancy(*case) == pytest.approx(np.mean(expected), abs=1e-12)
    kernel = [np.exp(-0.3 * ot.dist(*pair)).mean() for pair in ((x, x), (y, y), (x, y))]
    assert maximum_mean_discrepancy(*case, (0.3,)) == pytest.approx(
        kernel[0] + kernel[1] - 2 * kernel[2], abs=1e-12
    )


@given(cells(), st.integers(0, 99))
def test_both_are_symmetric_and_ignore_order_rotation_and_shift(case: tuple[Tensor, Tensor], seed: int) -> None:
    x, y = case
    rotation = torch.linalg.qr(normal(x.shape[1], x.shape[1], seed=seed)).Q
    shift = 100 * normal(x.shape[1], seed=seed)
    for distance in (energy_distance, maximum_mean_discrepancy):
        expected = pytest.approx(distance(x, y), abs=1e-7)
        assert distance(y, x) == expected
        assert distance(x.flip(0) @ rotation + shift, y @ rotation + shift) == expected


@given(cells())
def test_both_are_bounded_and_zero_for_equal_populations(case: tuple[Tensor, Tensor]) -> None:
    x, y = case
    assert energy_distance(x, x) == 0
    assert energy_distance(x, y) >= -1e-9
    assert maximum_mean_discrepancy(y, y) == 0
    assert -1e-12 <= maximum_mean_discrepancy(x, y) <= 2
    assert energy_distance(3 * x, 3 * y) == pytest.approx(3 * energy_distance(x, y), abs=1e-9)


@given(cells())
def test_blocks_of_rows_do_not_show(case: tuple[Tensor, Tensor]) -> None:
    whole = energy_distance(*case), maximum_mean_discrepancy(*case)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distances, "_PAIRS_AT_ONCE", 5)
        assert (energy_distance(*case), maximum_mean_discrepancy(*case)) == pytest.approx(whole, abs=1e-12)


def test_two_points_by_hand() -> None:
    x, y = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    assert energy_distance(x, y) == pytest.approx(10)
    assert maximum_mean_discrepancy(x, y, (0.1,)) == pytest.approx(2 - 2 * math.exp(-2.5))


def test_cells_far_from_the_origin_keep_their_distances() -> None:
    x = normal(30, 4, seed=0)
    assert energy_distance(1e6 + x, 1e6 + x + 1) == pytest.approx(energy_distance(x, x + 1), rel=1e-6)


def test_single_precision_cells_are_compared_in_double() -> None:
    x, y = normal(2, 20, 50, seed=0).float()
    assert energy_distance(x, y) == energy_distance(x.double(), y.double())


def test_a_larger_shift_is_farther_and_a_wider_cloud_is_another_one() -> None:
    x, y = normal(2, 200, 3, seed=0)
    for distance in (energy_distance, maximum_mean_discrepancy):
        assert distance(x, y) < distance(x, y + 0.5) < distance(x, y + 1)
        assert distance(x, 2 * y) > 3 * distance(x, y)
