"""Files of cells are what they are said to be, and read as any other."""

from pathlib import Path

import anndata
import numpy as np
import pytest

from benchmarks.timing import cell_costs
from benchmarks.timing.cell_costs import CellFile, labelled
from surrogates.data.io.readers import read_screen


def test_a_block_of_cells_is_stored_again_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_costs, "_CHUNK", 500)
    monkeypatch.setattr(cell_costs, "_DRAWN", 100)
    path = tmp_path / "cells.h5ad"
    CellFile(300, 60, stored=20).write(path)
    labelled(path, 4)
    cells = anndata.read_h5ad(path)
    values = cells.X.toarray()
    assert values.shape == (300, 60)
    assert np.array_equal(values[:100], values[200:])
    assert 12 < (values > 0).sum(axis=1).mean() < 24
    screen = read_screen(path)
    assert set(screen.labels) == {f"GENE{number}" for number in range(4)}
    treated, control = (values[(cells.obs["gene"] == label).to_numpy()] for label in ("GENE1", "control"))
    effect = screen.effects[screen.labels.index("GENE1")].numpy()
    columns = [list(cells.var_names).index(name) for name in screen.readouts]
    np.testing.assert_allclose(effect, (treated.mean(0, float) - control.mean(0, float))[columns], atol=1e-12)
