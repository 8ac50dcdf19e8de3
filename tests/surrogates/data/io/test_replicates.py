"""Layers of halves or replicates become standard errors, moderated because each has few degrees of freedom."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.data.io.readers import read_screen
from surrogates.data.io.replicates import moderated, replicate_layers
from surrogates.errors import DataError

LABELS = ["A", "B", "C", "A+B", "A+C"]


def effects(**layers: np.ndarray) -> anndata.AnnData:
    obs = pd.DataFrame({"condition": LABELS}, index=LABELS)
    var = pd.DataFrame(index=[f"g{number}" for number in range(12)])
    mean = np.mean(list(layers.values()), axis=0)
    return anndata.AnnData(mean, obs=obs, var=var, layers=layers)


def halves(names: tuple[str, ...]) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    mean = draw.normal(size=(5, 12))
    return {name: mean + 0.2 * draw.normal(size=mean.shape) for name in names}


@pytest.mark.parametrize("names", [
    ("half_1", "half_2"), ("half1", "half2"), ("rep_1", "rep_2", "rep_3"), ("replicate_1", "replicate_2"),
    ("split_a", "split_b"),
])  # fmt: skip
def test_layers_of_replicates_give_standard_errors(names: tuple[str, ...], tmp_path: Path) -> None:
    layers = halves(names)
    source = effects(**layers, zscore=np.zeros((5, 12)))
    source.X = np.mean(list(layers.values()), axis=0)
    source.write_h5ad(tmp_path / "effects.h5ad")
    wanted = np.sqrt(moderated(np.stack([layers[name] for name in names])).squared)
    for found in (read_screen(source), read_screen(tmp_path / "effects.h5ad")):
        assert found.standard_errors is not None
        np.testing.assert_allclose(found.standard_errors, wanted)
        assert names[0] in found.provenance["standard errors"]
    assert read_screen(source, layer_key=names[0]).standard_errors is None
    some = read_screen(source, readouts=["g3", "g1"]).standard_errors
    np.testing.assert_allclose(some, wanted[:, [3, 1]])


def test_one_layer_or_two_kinds_are_no_replicates() -> None:
    assert replicate_layers(["half_1", "zscore"]) == ()
    assert replicate_layers(["half_1", "half_2", "rep_1", "rep_2"]) == ()
    assert replicate_layers(["reported_1", "counts"]) == ()


def test_replicates_that_are_not_finite_are_refused_by_name() -> None:
    layers = halves(("half_1", "half_2"))
    layers["half_2"][2, 3] = np.nan
    source = effects(**layers)
    source.X = layers["half_1"]
    with pytest.raises(DataError, match="layers half_1, half_2 are replicates by their names"):
        read_screen(source)


@pytest.mark.parametrize("prior", [4.0, 10.0, np.inf])
@pytest.mark.parametrize("number", [2, 3])
def test_moderated_errors_are_nearer_to_the_truth_than_those_of_single_entries(prior: float, number: int) -> None:
    draw = np.random.default_rng(int(number))
    true = draw.lognormal(0, 0.5, (40, 1)) * draw.lognormal(0, 0.5, (1, 300))
    if np.isfinite(prior):
        true = true * prior / draw.chisquare(prior, true.shape)
    values = np.sqrt(true) * draw.normal(size=(number, *true.shape))
    found = moderated(values)
    alone = values.var(axis=0, ddof=1) / number
    far = [np.sqrt(np.mean(np.log(each * number / true) ** 2)) for each in (found.squared, alone)]
    assert far[0] < 0.75 * far[1]
    inside = np.abs(values.mean(axis=0)) < 1.96 * np.sqrt(found.squared)
    assert inside.mean() == pytest.approx(0.95, abs=0.03)


@given(seed=st.integers(0, 50), scale=st.floats(1e-3, 1e3), number=st.integers(2, 4))
@settings(max_examples=20)
def test_errors_follow_the_unit_and_the_order_of_rows(seed: int, scale: float, number: int) -> None:
    draw = np.random.default_rng(seed)
    values, rows = draw.normal(size=(number, 6, 9)), draw.permutation(6)
    one = moderated(values)
    np.testing.assert_allclose(moderated(scale * values).squared, scale**2 * one.squared, rtol=1e-6)
    np.testing.assert_allclose(moderated(values[:, rows]).squared, one.squared[rows], rtol=1e-9)


def test_equal_replicates_have_no_error() -> None:
    assert not moderated(np.ones((2, 4, 5))).squared.any()
