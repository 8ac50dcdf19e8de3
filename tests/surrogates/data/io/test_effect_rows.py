"""Effects of an .h5ad file as rows, beside the screen of the same file."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from surrogates.data.io.dialects import Dialect
from surrogates.data.io.read_h5ad import read_effect_rows
from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError


def save(path: Path, labels: list[str], values: np.ndarray) -> Path:
    obs = pd.DataFrame({"condition": labels}, index=[f"w{row}" for row in range(len(labels))])
    var = pd.DataFrame(index=[f"g{column}" for column in range(values.shape[1])])
    anndata.AnnData(values, obs=obs, var=var).write_h5ad(path)
    return path


@pytest.mark.parametrize("copies", [1, 5], ids=["effects", "cells"])
def test_rows_are_those_of_the_screen(tmp_path: Path, copies: int) -> None:
    conditions = ["A+B", "C", "A+C", "B"] + (["control"] if copies > 1 else [])
    labels = conditions * copies
    values = np.random.default_rng(0).normal(size=(len(labels), 3))
    path = save(tmp_path / "e.h5ad", labels, values)
    rows, screen = read_effect_rows(path, Dialect()), read_screen(path)
    assert (rows.labels, rows.readouts, rows.contexts) == (screen.labels, screen.readouts, screen.contexts)
    np.testing.assert_allclose(rows.effects, screen.effects.numpy(), rtol=1e-12)


@pytest.mark.parametrize("copies", [1, 5], ids=["effects", "cells"])
def test_one_condition_and_a_silent_readout_are_read(tmp_path: Path, copies: int) -> None:
    labels = ["A+B"] * copies + (["control"] * copies if copies > 1 else [])
    values = np.random.default_rng(0).normal(size=(len(labels), 3))
    values[:, 1] = 0.0
    path = save(tmp_path / "e.h5ad", labels, values)
    found = read_effect_rows(path, Dialect())
    assert (found.labels, found.readouts) == (("A+B",), ("g0", "g1", "g2"))
    assert found.effects[0, 1] == 0
    expected = values[0] if copies == 1 else values[:5].mean(0) - values[5:].mean(0)
    np.testing.assert_allclose(found.effects[0], expected)
    with pytest.raises(DataError):
        read_screen(path)


def test_cells_without_a_control_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "e.h5ad", ["A", "B"] * 4, np.random.default_rng(0).normal(size=(8, 2)))
    with pytest.raises(DataError, match="no control among the cells"):
        read_effect_rows(path, Dialect())


def test_counts_are_refused_unless_they_are_normalised_or_taken_as_they_are(tmp_path: Path) -> None:
    labels = ["A", "B", "A+B", "ctrl"] * 5
    path = save(tmp_path / "e.h5ad", labels, np.random.default_rng(0).poisson(5.0, size=(20, 3)).astype(float))
    with pytest.raises(DataError, match="takes them as they are"):
        read_effect_rows(path, Dialect())
    rows, screen = read_effect_rows(path, Dialect(normalise=True)), read_screen(path, normalise=True)
    np.testing.assert_allclose(rows.effects, screen.effects)
    assert len(read_effect_rows(path, Dialect(normalise=False)).labels) == 3
