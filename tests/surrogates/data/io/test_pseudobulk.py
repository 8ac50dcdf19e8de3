from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.pseudobulk.effects import screen_of_cells
from surrogates.data.io.pseudobulk.sums import sum_cells
from surrogates.data.screen import Screen
from surrogates.errors import DataError

LABELS = ("ctrl", "A", "B", "A+B")
STORAGES = (np.asarray, sparse.csr_matrix, sparse.csc_matrix, sparse.csr_array)


def cells(seed: int, n_cells: int = 90, n_readouts: int = 7) -> tuple[np.ndarray, pd.DataFrame]:
    """Log-normalised looking cells; each label occurs in both contexts."""
    draw = np.random.default_rng(seed)
    values = np.log1p(draw.poisson(1.0, (n_cells, n_readouts)))
    rows = np.arange(n_cells)
    obs = {"condition": np.array(LABELS)[rows % 4], "cell_type": np.array(["k", "j"])[rows // 4 % 2]}
    return values, pd.DataFrame(obs).iloc[draw.permutation(n_cells)].reset_index(drop=True)


def screen(values: CellMatrix, obs: pd.DataFrame, *, most: int = 16) -> Screen:
    readouts = [f"g{column}" for column in range(values.shape[1])]
    return screen_of_cells(values, design_of(obs, Dialect()), readouts, {}, most=most)


def oracle(values: np.ndarray, obs: pd.DataFrame, label: str, context: str) -> tuple[np.ndarray, np.ndarray]:
    here = obs["cell_type"] == context
    treated, control = (values[here & (obs["condition"] == each)] for each in (label, "ctrl"))
    errors = [part.var(axis=0, ddof=1) / len(part) for part in (treated, control)]
    return treated.mean(axis=0) - control.mean(axis=0), np.sqrt(sum(errors))


@pytest.mark.parametrize("store", STORAGES)
@pytest.mark.parametrize("chunk", [1, 16, 1000])
def test_any_storage_and_chunk_agrees_with_the_whole_matrix(
    store: Callable[[np.ndarray], CellMatrix], chunk: int
) -> None:
    values, obs = cells(seed=3)
    found = screen(store(values), obs, most=chunk)
    assert found.standard_errors is not None
    assert set(found.labels) == {"A", "B", "A+B"}
    for row, (label, context) in enumerate(zip(found.labels, found.contexts, strict=True)):
        effect, error = oracle(values, obs, label, context)
        np.testing.assert_allclose(found.effects[row], effect, atol=1e-12)
        np.testing.assert_allclose(found.standard_errors[row], error, atol=1e-9)


@given(
    hnp.arrays(np.float32, (23, 3), elements=st.floats(0, 16, width=32)),
    hnp.arrays(np.int64, 23, elements=st.integers(-1, 3)),
    st.integers(1, 30),
)
def test_sums_agree_with_numpy(values: np.ndarray, codes: np.ndarray, chunk: int) -> None:
    sums = sum_cells(values, codes, 4, most=chunk)
    exact = values.astype(np.float64)
    for code in range(4):
        mine = exact[codes == code]
        assert sums.count[code] == len(mine)
        np.testing.assert_allclose(sums.total[code], mine.sum(axis=0), rtol=1e-12)
        np.testing.assert_allclose(sums.square[code], (mine**2).sum(axis=0), rtol=1e-12)


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_array])
@pytest.mark.parametrize("kind", ["uint8", "int8", "bool", "uint64", "float32"])
def test_a_place_that_is_stored_twice_counts_twice(form: Callable[..., CellMatrix], kind: str) -> None:
    values = np.array([1, 100, 0, 100, 1, 127]).astype(kind)
    places, starts = np.array([2, 0, 1, 0, 2, 1]), np.array([0, 5, 5, 6])
    found = sum_cells(form((values, places, starts), shape=(3, 3)), np.zeros(3, dtype=np.int64), 1)
    lines, dense = np.repeat(np.arange(3), np.diff(starts)), np.zeros((3, 3))
    np.add.at(dense, (lines, places) if form is sparse.csr_array else (places, lines), values.astype(float))
    np.testing.assert_array_equal(found.total, [dense.sum(axis=0)])
    np.testing.assert_array_equal(found.square, [(dense**2).sum(axis=0)])


@pytest.mark.parametrize("most", [2, 9])
def test_small_integers_are_joined_without_overflow(most: int) -> None:
    values, places, starts = np.array([1, 2, 200, 100], np.uint8), [0, 1, 3, 3], [0, 1, 2, 4]
    sums = sum_cells(sparse.csr_array((values, places, starts), shape=(3, 4)), np.zeros(3, int), 1, most=most)
    assert sums.total.tolist() == [[1.0, 2.0, 0.0, 300.0]]


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_cells_does_not_matter(seed: int) -> None:
    values, obs = cells(seed)
    order = np.random.default_rng(seed).permutation(len(values))
    first, second = screen(values, obs), screen(values[order], obs.iloc[order].reset_index(drop=True))
    keys = [sorted(range(len(one)), key=lambda r, o=one: (o.labels[r], o.contexts[r])) for one in (first, second)]
    torch.testing.assert_close(first.effects[keys[0]], second.effects[keys[1]])
    torch.testing.assert_close(first.standard_errors[keys[0]], second.standard_errors[keys[1]])  # type: ignore[index]


def test_what_is_dropped_is_named() -> None:
    values, obs = cells(seed=1)
    values[:, 2] = 0
    obs.loc[len(obs)] = ["C", "k"]
    found = screen(np.vstack([values, values[:1]]), obs)
    assert "C" not in found.labels
    assert "g2" not in found.readouts
    assert found.provenance["dropped conditions"] == "C (fewer than 2 cells)"
    assert found.provenance["dropped readouts"] == "1 that never change"


def test_cells_of_another_mode_are_counted() -> None:
    values, obs = cells(seed=1)
    obs["perturbation_type"] = np.where(obs["cell_type"] == "k", "CRISPRa", "CRISPRi")
    design = design_of(obs, Dialect(mode="activation"))
    found = screen_of_cells(values, design, [f"g{column}" for column in range(7)], {})
    assert set(found.contexts) == {"k"}
    assert design.left_out == {"of another mode": (obs["cell_type"] == "j").sum()}


def test_cells_without_control_are_refused_with_their_labels() -> None:
    values, obs = cells(seed=1)
    kept = obs["condition"] != "ctrl"
    with pytest.raises(
        DataError, match=r"no control among the cells; their labels are 'A', 'A\+B', 'B'\. .*reference_key="
    ):
        screen(values[kept], obs[kept].reset_index(drop=True))


@pytest.mark.parametrize(
    ("controls", "message"), [(0, "no control cells in context.s. 'j'"), (1, "fewer than 2 control")]
)
def test_a_context_without_controls_is_refused(controls: int, message: str) -> None:
    values, obs = cells(seed=1)
    lone = obs.index[(obs["condition"] == "ctrl") & (obs["cell_type"] == "j")]
    kept = ~obs.index.isin(lone[controls:])
    with pytest.raises(DataError, match=message):
        screen(values[kept], obs[kept].reset_index(drop=True))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    values, obs = cells(seed=1)
    values[5, 3] = value
    with pytest.raises(DataError, match="NaN or infinite values, first in readout number 3"):
        screen(values, obs)
