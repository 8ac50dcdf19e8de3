import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from strategies.screens import normal

from surrogates.errors import DataError
from surrogates.evaluation.differential import (
    delogged,
    differential_readouts,
    log2_fold_change,
    rank_sum_p_values,
)

COUNTS = st.integers(0, 3)


def slow_p_value(treated: np.ndarray, control: np.ndarray) -> float:
    """The normal approximation, written out: ranks, variance less that of ties, half a rank for continuity."""
    n, m = len(treated), len(control)
    both = np.concatenate([treated, control])
    ranks = np.array([(both < value).sum() + ((both == value).sum() + 1) / 2 for value in both])
    u = ranks[:n].sum() - n * (n + 1) / 2
    ties = sum(float((both == value).sum()) ** 3 - (both == value).sum() for value in np.unique(both))
    variance = n * m / 12 * ((n + m + 1) - ties / ((n + m) * (n + m - 1)))
    if variance == 0:
        return 1.0
    z = max(abs(u - n * m / 2) - 0.5, -0.5) / variance**0.5
    return float(min(2 * stats.norm.sf(z), 1.0))


@given(hnp.arrays(np.float64, (9, 4), elements=COUNTS), hnp.arrays(np.float64, (7, 4), elements=COUNTS))
def test_p_values_are_those_of_the_written_out_test(treated: np.ndarray, control: np.ndarray) -> None:
    found = rank_sum_p_values(torch.from_numpy(treated), torch.from_numpy(control))
    wanted = [slow_p_value(one, other) for one, other in zip(treated.T, control.T, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-9)


def test_many_readouts_are_tested_in_parts() -> None:
    treated, control = normal(12, 1100, seed=0) + 0.5, normal(9, 1100, seed=1)
    treated[:, 600] = control[:, 600] = 2.0
    found = rank_sum_p_values(treated, control)
    assert float(found[600]) == 1.0
    for column in (0, 511, 512, 1099):
        one = stats.mannwhitneyu(treated[:, column], control[:, column], method="asymptotic")
        assert float(found[column]) == pytest.approx(one.pvalue)


def test_shifted_readouts_are_found_and_false_ones_are_rare() -> None:
    treated, control = normal(60, 400, seed=0), normal(50, 400, seed=1)
    treated[:, :40] += 2.0
    found = differential_readouts(treated, control)
    assert int(found[:40].sum()) == 40
    assert int(found[40:].sum()) <= 6
    assert not bool(differential_readouts(control, control).any())


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_the_correction_is_that_of_the_step_up_procedure(p_values: list[float]) -> None:
    level, n = 0.05, len(p_values)
    adjusted = stats.false_discovery_control(p_values)
    passing = [rank for rank, p in enumerate(sorted(p_values), start=1) if p * n / rank < level]
    assert int((adjusted < level).sum()) == max(passing, default=0)


def test_cells_without_rank_are_refused() -> None:
    with pytest.raises(DataError, match="0 treated and 3 control cells"):
        rank_sum_p_values(normal(0, 2, seed=0), normal(3, 2, seed=0))
    with pytest.raises(DataError, match="NaN"):
        rank_sum_p_values(torch.full((2, 2), torch.nan), torch.ones(3, 2))


def test_fold_changes_are_of_means_of_counts() -> None:
    counts = torch.tensor([[0.0, 4.0, 7.0], [2.0, 8.0, 7.0]]).double()
    found = delogged(counts.log1p())
    torch.testing.assert_close(found, counts)
    change = log2_fold_change(found.mean(0), torch.tensor([0.0, 13.0, 7.0]).double(), pseudocount=1.0)
    torch.testing.assert_close(change, torch.tensor([1.0, -1.0, 0.0]).double())
    assert float(delogged(torch.tensor([[-3.0]]))) == 0.0
    with pytest.raises(DataError, match=r"pseudocount 0\.0 is not positive"):
        log2_fold_change(found, found, pseudocount=0.0)
