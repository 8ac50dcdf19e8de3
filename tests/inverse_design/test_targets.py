"""A target may be a label, values by readout, cells, a file, or a target."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from strategies.screens import label, pairs_of, planted_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.cell_targets import cell_shift, state_of_cells
from inverse_design.errors import TargetError
from inverse_design.fitting import fit
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.proposal import propose
from inverse_design.ranking import rank
from inverse_design.targets import target_of
from surrogates.data.io.notes import COUNTS
from surrogates.errors import DataError, UnknownNameError

TOGETHER = pairs_of(6, 9)
SCREEN = planted_screen(alone=range(6), together=TOGETHER, readouts=5)
KNOWN = label(TOGETHER[0])


def wanted() -> pd.Series:
    return SCREEN.to_frame().loc[KNOWN] * 0.9


def profile(target: object) -> ProfileTarget:
    assert isinstance(target, ProfileTarget)
    return target


def test_values_by_readout_are_a_profile(tmp_path: Path) -> None:
    series = wanted()
    series.rename_axis("gene").rename("effect").to_frame().to_parquet(tmp_path / "t.parquet")
    every: list[Any] = [
        series,
        series.to_dict(),
        dict(series),
        tmp_path / "t.parquet",
        str(tmp_path / "t.parquet"),
    ]
    for each in every:
        found = profile(target_of(each, SCREEN))
        assert found.readouts == SCREEN.readouts
        np.testing.assert_allclose(found.values, series)
    assert profile(target_of(series.rename("my state"), SCREEN)).name == "my state"
    tensors = {name: torch.tensor(value) for name, value in series.items()}
    np.testing.assert_allclose(profile(target_of(tensors, SCREEN)).values, series)


@given(parts=st.permutations(KNOWN.split("+")))
def test_a_label_stays_the_label_of_its_condition(parts: list[str]) -> None:
    assert target_of("+".join(parts), SCREEN) == KNOWN


def test_a_target_stays_as_it_is() -> None:
    scalar = ScalarTarget("r0", "maximise")
    assert target_of(scalar, SCREEN) is scalar


def cells(labels: list[str], *, seed: int = 0) -> anndata.AnnData:
    values = np.random.default_rng(seed).normal(size=(len(labels), 5))
    obs = pd.DataFrame({"state": labels}, index=[f"c{row}" for row in range(len(labels))])
    return anndata.AnnData(sparse.csr_matrix(values), obs=obs, var=pd.DataFrame(index=list(SCREEN.readouts)))


def test_cells_beside_their_control_are_a_target(tmp_path: Path) -> None:
    adata = cells(["control", "wanted", "wanted"] * 10)
    found = profile(target_of(adata, SCREEN))
    values, state = adata.X.toarray(), adata.obs["state"].to_numpy()
    np.testing.assert_allclose(
        found.values, values[state == "wanted"].mean(0) - values[state == "control"].mean(0)
    )
    adata.write_h5ad(tmp_path / "c.h5ad")
    shift = cell_shift(tmp_path / "c.h5ad", column="state", start="control", end="wanted")
    torch.testing.assert_close(found.values, shift.values)
    torch.testing.assert_close(found.standard_errors, shift.standard_errors)
    assert found.name == "wanted"
    named = state_of_cells(adata, target_col="state", reference_key="wanted", name="back")
    torch.testing.assert_close(named.values, -found.values)
    assert named.name == "back"


def test_counts_are_made_logarithms_or_refused() -> None:
    adata = cells(["control", "wanted"] * 10)
    adata.X = np.random.default_rng(1).poisson(5.0, size=(20, 5)).astype(float)
    with pytest.raises(DataError, match=r"holds whole numbers .*normalise=True.*; normalise=False takes"):
        target_of(adata, SCREEN)
    plain, logs = (state_of_cells(adata, target_col="state", normalise=each) for each in (False, True))
    scaled = np.log1p(adata.X / adata.X.sum(1, keepdims=True) * np.median(adata.X.sum(1)))
    np.testing.assert_allclose(plain.values, adata.X[1::2].mean(0) - adata.X[::2].mean(0))
    np.testing.assert_allclose(logs.values, scaled[1::2].mean(0) - scaled[::2].mean(0))


def test_counts_that_nobody_spoke_of_are_warned_of() -> None:
    counted = replace(SCREEN, provenance={**SCREEN.provenance, COUNTS: "X holds whole numbers"})
    for answer in (
        propose(counted, KNOWN, surrogate="additive"),
        rank(counted, KNOWN, [KNOWN], surrogate="additive"),
    ):
        assert "warning: X holds whole numbers" in answer.notes


def test_bad_targets_are_refused_with_what_to_do() -> None:
    with pytest.raises(TargetError, match="and its control, and these are of 2 states: 'a', 'b'; keep"):
        target_of(cells(["control", "a", "b"] * 5), SCREEN)
    with pytest.raises(DataError, match="no control among the cells"):
        target_of(cells(["a", "b"] * 5), SCREEN)
    with pytest.raises(TargetError, match="the target wants 'high' of 'r1', which is not a number"):
        target_of(pd.Series({"r0": 1.0, "r1": "high"}), SCREEN)
    with pytest.raises(TargetError, match="value nan of 'r1' is not finite"):
        target_of({"r0": 1.0, "r1": float("nan")}, SCREEN)
    with pytest.raises(TargetError, match="names readout 'r0' more than once"):
        target_of(pd.Series([1.0, 2.0], index=["r0", "r0"]), SCREEN)
    with pytest.raises(UnknownNameError, match=r"'G00\+G99' is neither a file nor a condition of the data"):
        target_of("G00+G99", SCREEN)
    with pytest.raises(TargetError, match=r"names differ in case only, as 'R0' and 'r0' do"):
        propose(SCREEN, {"R0": 1.0})


def test_the_answer_does_not_depend_on_how_the_target_is_written() -> None:
    series = wanted()
    target = ProfileTarget("profile", SCREEN.readouts, torch.tensor(series.to_numpy()))
    tables = [propose(SCREEN, each, surrogate="additive").table for each in (target, series.to_dict())]
    pd.testing.assert_frame_equal(*tables)
    listed = [label(each) for each in pairs_of(6, 15) if each not in TOGETHER]
    ranked = [rank(SCREEN, each, listed, surrogate="additive").table for each in (target, series)]
    pd.testing.assert_frame_equal(*ranked)


def test_screens_are_read_where_they_are_asked_about(tmp_path: Path) -> None:
    frame = SCREEN.to_frame()
    frame.to_csv(tmp_path / "screen.csv")
    asked = {"surrogate": "scaled_additive", "seed": 0}
    wanted = propose(SCREEN, KNOWN, **asked).table
    for source in (frame, tmp_path / "screen.csv", str(tmp_path / "screen.csv")):
        pd.testing.assert_frame_equal(propose(source, KNOWN, **asked).table, wanted, rtol=1e-9)
    assert list(fit(frame, surrogate="scaled_additive").predict([KNOWN]).mean.index) == [KNOWN]
    assert len(Campaign.create(frame, target=KNOWN, surrogate="scaled_additive").ask(2).labels) == 2
