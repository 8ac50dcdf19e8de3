"""Counts are seen, and normalised as scanpy does."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from surrogates.data.io.counts import LogNormalised, holds_counts, log_layers
from surrogates.data.io.notes import COUNTS
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
