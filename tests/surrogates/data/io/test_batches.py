"""Batches: rows are compared with the controls of their own, and what cannot be told from a batch is named."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.pseudobulk.effects import screen_of_cells
from surrogates.data.io.readers import read_screen
from surrogates.data.screen import Screen
from surrogates.errors import DataError

STATED = Dialect(batch_col="plate")
LABELS = np.array(["ctrl", "A", "B", "A+B"])


def wells(seed: int, number: int = 96) -> tuple[np.ndarray, pd.DataFrame]:
    """Rows of four labels in three plates of two lines; a plate shifts all that is in it."""
    draw = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {
            "condition": LABELS[np.arange(number) % 4],
            "plate": draw.permutation(np.arange(number) // 4 % 3).astype(str),
            "cell_line": np.array(["k", "j"])[np.arange(number) // 12 % 2],
        }
    )
    return draw.normal(size=(number, 5)), obs


def screen(values: object, obs: pd.DataFrame, stated: Dialect = STATED, *, most: int = 16) -> Screen:
    return screen_of_cells(values, design_of(obs, stated), [f"g{n}" for n in range(5)], {}, most=most)  # type: ignore[arg-type]


def by_hand(values: np.ndarray, obs: pd.DataFrame, label: str, line: str) -> tuple[np.ndarray, np.ndarray]:
    """The estimator, one batch after another."""
    here = (obs["cell_line"] == line).to_numpy()
    control, own = here & (obs["condition"] == "ctrl").to_numpy(), here & (obs["condition"] == label).to_numpy()
    plates = [p for p in sorted(set(obs["plate"])) if (control & (obs["plate"] == p).to_numpy()).any()]
    apart, about, free, noise, total = [], 0.0, 0, 0.0, 0
    for plate in plates:
        beside, cells = (values[each & (obs["plate"] == plate).to_numpy()] for each in (control, own))
        apart.append(cells - beside.mean(axis=0))
        about, free = about + ((beside - beside.mean(axis=0)) ** 2).sum(axis=0), free + len(beside) - 1
        noise, total = noise + len(cells) ** 2 / len(beside), total + len(cells)
    differences = np.concatenate(apart)
    squared = differences.var(axis=0, ddof=1) / total + about / free * noise / total**2
    return differences.mean(axis=0), np.sqrt(squared)


@pytest.mark.parametrize("store", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@given(seed=st.integers(0, 30), chunk=st.integers(5, 120))
@settings(max_examples=8)
def test_cells_are_compared_with_the_controls_of_their_batch(store: type, seed: int, chunk: int) -> None:
    values, obs = wells(seed)
    found = screen(store(values), obs, most=chunk)
    assert found.standard_errors is not None
    for row, (label, line) in enumerate(zip(found.labels, found.contexts, strict=True)):
        effect, error = by_hand(values, obs, label, line)
        np.testing.assert_allclose(found.effects[row], effect, atol=1e-9)
        np.testing.assert_allclose(found.standard_errors[row], error, atol=1e-9)


@given(seed=st.integers(0, 30), shifts=st.lists(st.floats(-50, 50), min_size=3, max_size=3))
@settings(max_examples=10)
def test_no_shift_of_a_batch_enters_effects_or_errors(seed: int, shifts: list[float]) -> None:
    values, obs = wells(seed)
    moved = values + np.array(shifts)[obs["plate"].astype(int)][:, None]
    one, other = screen(values, obs), screen(moved, obs)
    assert one.standard_errors is not None
    assert other.standard_errors is not None
    np.testing.assert_allclose(one.effects, other.effects, atol=1e-9)
    np.testing.assert_allclose(one.standard_errors, other.standard_errors, atol=1e-6)


def test_standard_errors_are_those_of_the_estimator() -> None:
    obs, draw = wells(5)[1], np.random.default_rng(0)
    readouts = [f"g{number}" for number in range(4000)]  # so many draws of one experiment
    values = draw.normal(size=(96, 4000)) + 3 * draw.normal(size=(3, 4000))[obs["plate"].astype(int)]
    found = screen_of_cells(values, design_of(obs, STATED), readouts, {})
    assert found.standard_errors is not None
    np.testing.assert_allclose(found.standard_errors.mean(dim=1), found.effects.std(dim=1), rtol=0.08)


def test_rows_of_a_batch_without_controls_are_left_out_and_counted() -> None:
    values, obs = wells(1)
    bare = (obs["plate"] == "2") & (obs["condition"] == "ctrl")
    obs, values = obs[~bare].reset_index(drop=True), values[~bare]
    design = design_of(obs, STATED)
    said = [why for why in design.left_out if "without controls (2)" in why]
    assert design.left_out[said[0]] == int((obs["plate"] == "2").sum())
    kept = obs["plate"] != "2"
    one, other = (each.in_canonical_order() for each in (screen(values, obs), screen(values[kept], obs[kept])))
    np.testing.assert_allclose(one.effects, other.effects, atol=1e-12)
    lost = pd.DataFrame({"condition": ["ctrl", "A", "A", "B", "B"], "plate": ["1", "2", "2", "3", "3"]})
    with pytest.raises(DataError, match="no batch of 'plate' holds controls beside"):
        design_of(lost, STATED)


def test_rows_without_a_batch_are_left_out_and_counted() -> None:
    _, obs = wells(1)
    obs.loc[:3, "plate"] = None
    assert design_of(obs, STATED).left_out["without a batch in 'plate'"] == 4


def test_what_cannot_be_told_from_its_batch_is_named() -> None:
    obs = pd.DataFrame({"gene": np.repeat(["ctrl", "A", "B", "C"], 12), "lane": ["x", "y"] * 24})
    obs.loc[obs["gene"] == "A", "lane"] = "z"
    obs.loc[obs["gene"] == "B", "lane"] = "y"
    apart, alone, pooled = (next(n for n in design_of(obs, Dialect()).notes if text in n) for text in (
        "confounded with 'lane'", "in one value of 'lane' alone", "'lane' varies inside of"))  # fmt: skip
    assert "A (z) in batches without controls" in apart
    assert "--batch-col lane" in apart
    assert "B (y) in one value" in alone
    assert "--batch-col lane" in pooled
    stated = design_of(obs, Dialect(batch_col="lane"))
    assert any("A (z)" in note for note in stated.notes)
    assert not any("B (y)" in note or "pooled" in note for note in stated.notes)


def test_names_of_samples_are_no_batches() -> None:
    obs = pd.DataFrame({"gene": np.repeat(["ctrl", "A", "B"], 8), "sample": np.repeat(["s1", "s2", "s3"], 8)})
    assert not design_of(obs, Dialect()).notes


def test_a_table_is_read_as_its_differences_within_batches() -> None:
    labels = ["A", "B", "A+B", "ctrl"]
    true = pd.DataFrame(np.random.default_rng(0).normal(size=(4, 6)), index=labels, columns=list("uvwxyz"))
    true.loc["ctrl"] = 0.0
    table = pd.concat([(true + shift).assign(set=name) for name, shift in (("p", 0.0), ("q", 5.0))])
    table = table.rename_axis("gene").reset_index()
    with pytest.raises(DataError, match="several values of 'set'"):
        read_screen(table)
    found = read_screen(table, batch_col="set")
    assert found.standard_errors is not None
    np.testing.assert_allclose(found.to_frame().loc[labels[:3]], true.loc[labels[:3]], atol=1e-9)
    np.testing.assert_allclose(found.standard_errors, 0.0, atol=1e-9)
    assert "control rows of the same batch" in found.provenance["rows"]
    assert len(read_screen(table[table["gene"] != "ctrl"], batch_col="set")) == 3
