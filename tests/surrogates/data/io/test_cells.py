from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from strategies.screens import normal

from surrogates.data.io.cells import CONTROL, Cells, read_cells
from surrogates.data.io.dialects import Dialect
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError

A = Perturbation.parse("A")


def six() -> Cells:
    return Cells(
        values=normal(6, 3, seed=0),
        codes=torch.tensor([0, 1, 2, 1, 0, 2]),
        perturbations=(CONTROL, A, CONTROL),
        contexts=("T", "T", "B"),
        readouts=("x", "y", "z"),
    )


def save(path: Path, values: object, **obs: object) -> Path:
    var = pd.DataFrame(index=["x", "y", "z"])
    anndata.AnnData(values, obs=pd.DataFrame(obs, index=list("abcdef")), var=var).write_h5ad(path)
    return path


def test_conditions_are_taken_and_left_out() -> None:
    cells = six()
    assert (cells.context_names, cells.treatments) == (("B", "T"), (A,))
    assert cells.sizes == {(CONTROL, "T"): 2, (A, "T"): 2, (CONTROL, "B"): 2}
    assert torch.equal(cells.of(A, "T"), cells.values[[1, 3]])
    rest = cells.without(A, "T")
    assert torch.equal(rest.values, cells.values[[0, 2, 4, 5]])
    assert rest.treatments == ()
    assert rest.without(CONTROL, "B").context_names == ("T",)


def test_a_missing_condition_is_named() -> None:
    with pytest.raises(DataError, match="context 'B' has no cells of 'A', only of 'control'"):
        six().of(A, "B")
    bare = six().without(CONTROL, "T")
    with pytest.raises(DataError, match="context 'T' has no cells of 'control', only of 'A'"):
        bare.of(CONTROL, "T")
    with pytest.raises(UnknownNameError, match="unknown context 'NK'"):
        six().of(A, "NK")


@given(st.permutations(range(6)))
def test_the_canonical_order_forgets_the_order(order: list[int]) -> None:
    one, other = six().in_canonical_order(), six().rows(torch.tensor(order)).in_canonical_order()
    assert torch.equal(one.values, other.values)
    assert torch.equal(one.codes, other.codes)
    # Conditions stay together, with the cells that they had.
    assert sorted(one.of(A, "T").tolist()) == sorted(six().of(A, "T").tolist())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"readouts": ("x", "y")}, r"values of shape \(6, 3\) for 6 cells and 2 readouts"),
        ({"readouts": ("x", "y", "x")}, "readout 'x' occurs more than once"),
        ({"contexts": ("T",)}, "3 perturbations beside 1 contexts"),
        ({"codes": torch.tensor([0, 1, 2, 1, 0, 3])}, "codes of 6 cells are not numbers of 3 conditions"),
        ({"codes": torch.tensor([0, -1, 2, 1, 0, 2])}, "are not numbers of 3 conditions"),
        ({"values": torch.full((6, 3), torch.nan).double()}, "NaN or infinite values, first cell 0, readout 'x'"),
        ({"perturbations": (A, Perturbation.parse("A:knockdown"), CONTROL)}, "one mode at a time"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        replace(six(), **change)
    with pytest.raises(DataError, match="codes of 0 cells"):
        six().rows(torch.tensor([], dtype=torch.int64))


@pytest.mark.parametrize("store", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
def test_cells_are_read_with_their_design(tmp_path: Path, store: Callable[[np.ndarray], object]) -> None:
    values = np.arange(18.0).reshape(6, 3)
    path = save(tmp_path / "c.h5ad", store(values), condition=["ctrl", "A", "ctrl"] * 2, cell_type=list("TTBTTB"))
    cells = read_cells(path, readouts=["z", "x"])
    assert cells.readouts == ("z", "x")
    assert cells.sizes == {(CONTROL, "T"): 2, (A, "T"): 2, (CONTROL, "B"): 2}
    assert cells.of(CONTROL, "B").tolist() == [[8.0, 6.0], [17.0, 15.0]]
    assert cells.provenance["source"] == "c.h5ad"
    assert "'cell_type' (by name)" in cells.provenance["detected context"]


def test_rows_of_another_mode_are_left_out(tmp_path: Path) -> None:
    modes = ["CRISPRa", "CRISPRa", "CRISPRi", "CRISPRi", "CRISPRa", "CRISPRi"]
    path = save(tmp_path / "c.h5ad", np.eye(6, 3), gene=["ctrl", "A", "ctrl", "A", "A", "A"], modality=modes)
    cells = read_cells(path, stated=Dialect(mode="activation"))
    assert cells.values[:, 0].tolist() == [1.0, 0.0, 0.0]


def test_bad_files_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("condition,y\nA,1\n")
    with pytest.raises(DataError, match=r"'t\.csv' is a table of conditions; single cells are"):
        read_cells(table)
    path = save(tmp_path / "c.h5ad", np.full((6, 3), np.nan), condition=["ctrl", "A", "ctrl"] * 2)
    with pytest.raises(DataError, match="NaN or infinite"):
        read_cells(path)
    with pytest.raises(UnknownNameError, match="unknown readout 'w'"):
        read_cells(path, readouts=["w"])


@pytest.mark.real_data
def test_the_real_cells_are_counted(real_data: Callable[[str], Path]) -> None:
    cells = read_cells(real_data("kang2018_pbmc") / "cells.h5ad")
    assert cells.values.shape == (1975, 6998)
    assert len(cells.context_names) == 7
    (stimulus,) = cells.treatments
    assert len(cells.of(CONTROL, "CD4T")) + len(cells.of(stimulus, "CD4T")) == 634
