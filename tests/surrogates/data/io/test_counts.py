"""Counts are seen, and normalised as scanpy does."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from surrogates.data.io.counts import holds_counts, log_layers
from surrogates.data.io.notes import COUNTS
from surrogates.data.io.pseudobulk.normalised import LogNormalised
from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

CELLS = np.random.default_rng(3).poisson(4, size=(60, 8)) * np.random.default_rng(4).integers(1, 4, size=(60, 1))
FORMS = [np.asarray, sparse.csr_array, sparse.csc_array]
ALL = (slice(0, 60), slice(0, 8))


@pytest.mark.parametrize("form", FORMS)
def test_cells_are_scaled_to_the_median_total(form: type) -> None:
    normalised = LogNormalised.of(form(CELLS.astype(float)))
    total = CELLS.sum(1, keepdims=True)
    wanted = np.log1p(CELLS / total * np.median(total))
    block = normalised[ALL]
    np.testing.assert_allclose(block.toarray() if sparse.issparse(block) else block, wanted, rtol=1e-12)


@pytest.mark.parametrize("values", [np.log1p(CELLS), CELLS > 4, -CELLS, np.zeros((3, 2))])
@pytest.mark.parametrize("form", FORMS)
def test_only_whole_numbers_are_counts(form: type, values: np.ndarray) -> None:
    assert holds_counts(form(CELLS.astype(float)))
    assert not holds_counts(form(values.astype(float)))


def test_values_below_zero_are_no_counts() -> None:
    with pytest.raises(DataError, match="no counts"):
        LogNormalised.of(-CELLS.astype(float))


def test_files_of_counts_say_so_and_name_the_remedy(tmp_path: Path) -> None:
    obs = pd.DataFrame({"condition": ["A", "B", "C", "ctrl"] * 15}, index=[str(row) for row in range(60)])
    layers = {"lognorm": np.log1p(CELLS), "spliced": CELLS.astype(float)}
    path = tmp_path / "cells.h5ad"
    anndata.AnnData(CELLS.astype(np.float32), obs=obs, layers=layers).write_h5ad(path)
    assert "--layer-key lognorm (layer_key=), or --normalise" in read_screen(path).provenance[COUNTS]
    assert COUNTS not in read_screen(path, layer_key="lognorm").provenance
    found = read_screen(path, normalise=True)
    assert COUNTS not in found.provenance
    assert "median total" in found.provenance["unit"]
    assert log_layers(["spliced", "X_lognorm", "normalized"]) == ["X_lognorm", "normalized"]


def cells(**columns: np.ndarray) -> anndata.AnnData:
    """Counts of cells, those of A a third in size."""
    labels = np.repeat(["ctrl", "A", "B", "A+B", "C"], 15)
    counts = np.random.default_rng(1).poisson(9.0, size=(75, 8)).astype(float)
    counts[labels == "A"] = np.random.default_rng(2).poisson(3.0, size=(15, 8))
    return anndata.AnnData(counts, obs=pd.DataFrame({"gene": labels} | columns, index=[f"{n}" for n in range(75)]))


def sizes(source: anndata.AnnData, **stated: bool) -> list[str]:
    return [note for note in read_screen(source, **stated).notes if "median total" in note]  # type: ignore[arg-type]


def test_conditions_of_small_cells_are_named_where_totals_can_be_seen() -> None:
    source = cells()
    of_counts = [sizes(source), sizes(source, normalise=True)]
    source = cells(total_counts=np.asarray(source.X).sum(1))
    source.X = np.log1p(source.X)
    for said in (*of_counts, sizes(source)):
        assert "of 1 condition(s)" in said[0]
        assert "A (0." in said[0]
    assert not sizes(source[source.obs["gene"] != "A"])
    del source.obs["total_counts"]
    assert not sizes(source)


def test_values_too_large_for_logarithms_are_named() -> None:
    source = cells()
    source.X = source.X * 1000.5
    assert any("no logarithms" in note and "--normalise" in note for note in read_screen(source).notes)
    source.X = np.log1p(source.X)
    assert not any("no logarithms" in note for note in read_screen(source).notes)


def test_shallow_counts_are_counts() -> None:
    assert holds_counts(np.array([[0.0, 1.0], [2.0, 0.0]]))
