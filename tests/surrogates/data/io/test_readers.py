from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from scipy import sparse
from strategies.perturbations import libraries

from surrogates.data.io.readers import read_screen
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError


def table(labels: tuple[str, ...] = ("A", "B", "A+B"), **more: object) -> pd.DataFrame:
    rows = np.arange(len(labels), dtype=float)
    return pd.DataFrame({"condition": labels, "g1": rows, "g2": rows**2 - 0.5} | more)


def save(frame: pd.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",")
    return path


def save_h5ad(obs: pd.DataFrame, values: object, path: Path, **more: object) -> Path:
    var = pd.DataFrame(index=[f"g{column}" for column in range(values.shape[1])])  # type: ignore[attr-defined]
    named = obs if obs.index.name else obs.set_axis(obs.index.map(str))
    anndata.AnnData(values, obs=named, var=var, **more).write_h5ad(path)
    return path


def cells(path: Path, **more: object) -> Path:
    values = np.random.default_rng(0).normal(size=(40, 5)) ** 2
    obs = pd.DataFrame({"condition": ["ctrl", "A+ctrl", "ctrl+B", "A+B"] * 10, "cell_type": "K562"})
    return save_h5ad(obs, sparse.csr_matrix(values), path, **more)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "tsv.gz", "parquet"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(library=libraries())
def test_tables_read_back(tmp_path: Path, ending: str, library: list[Perturbation]) -> None:
    written = table(tuple(one.label for one in library))
    found = read_screen(save(written, tmp_path / f"t.{ending}"))
    assert [found.perturbation(row) for row in range(len(found))] == library
    assert found.readouts == ("g1", "g2")
    np.testing.assert_array_equal(found.effects, written[["g1", "g2"]])


def test_provenance_says_what_was_read(tmp_path: Path) -> None:
    found = read_screen(save(table(), tmp_path / "mine.csv"))
    assert found.provenance["source"] == "mine.csv"
    assert len(found.provenance["sha256"]) == 64
    assert found.provenance["detected targets"] == "'condition' (by name)"
    assert found.provenance["detected readouts"] == "'g1', 'g2'"
    assert not any(str(tmp_path) in text for text in found.provenance.values())


def test_effects_of_conditions_are_told_from_cells(tmp_path: Path) -> None:
    obs = pd.DataFrame({"fold": [0, 1, 2]}, index=pd.Index(["A", "B", "A+B"], name="condition"))
    values = np.arange(6.0).reshape(3, 2)
    more = {"uns": {"value": "log fold change"}, "layers": {"z": values * 2}}
    found = read_screen(save_h5ad(obs, values, tmp_path / "e.h5ad", **more), layer_key="z", readouts=["g1"])
    assert found.labels == ("A", "B", "A+B")
    assert found.effects.tolist() == [[2.0], [6.0], [10.0]]
    assert found.annotations["fold"].tolist() == [0, 1, 2]
    assert found.provenance["unit"] == "log fold change"
    assert found.standard_errors is None


def test_row_names_are_labels_when_asked_for(tmp_path: Path) -> None:
    obs = pd.DataFrame(index=pd.Index(["A", "B", "A+B"]))
    path = save_h5ad(obs, sparse.csc_matrix(np.eye(3)), tmp_path / "e.h5ad")
    with pytest.raises(DataError, match=r"row names of an .h5ad file are called 'index'"):
        read_screen(path)
    assert read_screen(path, target_col="index").labels == ("A", "B", "A+B")


def test_cells_become_effects_with_errors(tmp_path: Path) -> None:
    found = read_screen(cells(tmp_path / "c.h5ad"), readouts=["g3", "g0"])
    assert (sorted(found.labels), found.readouts) == (["A", "A+B", "B"], ("g3", "g0"))
    assert set(found.contexts) == {"K562"}
    assert found.standard_errors is not None
    assert bool((found.standard_errors > 0).all())
    assert found.provenance["rows"] == "40 cells"


def test_spread_over_wells_becomes_standard_errors(tmp_path: Path) -> None:
    frame = table(g1__sd=[2.0, 4.0, 6.0], g2__sd=[1.0, 1.0, 1.0], n_wells=[4, 16, 4], n_guides=[1, 2, 3])
    found = read_screen(save(frame, tmp_path / "t.csv"))
    assert found.readouts == ("g1", "g2")
    torch.testing.assert_close(
        found.standard_errors, torch.tensor([[1, 0.5], [1, 0.25], [3, 0.5]], dtype=torch.float64)
    )


def test_kinds_that_are_no_condition_are_left_out(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "target_1": ["A", "A", "B", "A", "negative"],
            "target_2": ["B", "negative", "negative", "A", "negative"],
            "kind": ["pair", "single", "single", "same_gene", "control"],
            "y": [1.0, 2.0, 3.0, 4.0, 5.0],
        }
    )
    found = read_screen(save(frame, tmp_path / "t.parquet"))
    assert found.labels == ("A+B", "A", "B")
    assert found.provenance["dropped rows by kind"] == "1 of kind 'control', 1 of kind 'same_gene'"


def test_names_that_look_like_numbers_stay(tmp_path: Path) -> None:
    frame = pd.DataFrame({"drug_1": ["007", "8", "9"], "y": [1, 2, 3]})
    assert read_screen(save(frame, tmp_path / "t.csv"), target_col="drug_1").labels == ("007", "8", "9")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (table(g1=[1.0, "oops", 3.0]), "column 'g1' holds 'oops' in row 1, which is not a number"),
        (table(g1=[1.0, None, 3.0]), "not finite, the first is nan for condition 'B', readout 'g1'"),
        (table(g1=[1.0, np.inf, 3.0]), "not finite, the first is inf"),
        (table(("A", "B")), "a screen needs at least 3"),
        (
            table(("A", "B", "A+B", "A"), time=["1h", "1h", "1h", "2h"]),
            "several values of 'time' .*--group-col time",
        ),
        (table(("A", "B", None, "A+B")), r"1 row\(s\) have no label in 'condition'"),
        (table(("A", "B", "x" * 500)), "a label of 500 characters"),
        (table(("A", "B", "C\x01")), "printable"),
        (table()[["condition"]], "no column of numbers"),
        (table().set_axis(["condition", "g1", "g1"], axis=1), "column 'g1' occurs 2 times"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, frame: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_screen(save(frame, tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.h5ad", b"not HDF5", "'t.h5ad' is not a readable HDF5 file"),
        ("t.csv", b"", "'t.csv' cannot be read as a table"),
        ("t.csv", b"\xff\xfe\x00", "'t.csv' cannot be read as a table"),
        ("t.csv.gz", b"not gzip", "'t.csv.gz' cannot be read as a table"),
        ("t.parquet", b"PAR1 cut", "'t.parquet' cannot be read as a table"),
        ("t.csv", b"gene,y\nA,1,2\nB,2,3\nC,3,4\n", "more values in a row than names"),
        ("t.docx", b"", "none of the known endings .csv"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_screen(path)


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder without \.h5ad files of cells; name a file in it"):
        read_screen(tmp_path)
    with pytest.raises(DataError, match="there is no file"):
        read_screen(tmp_path / "none.csv")


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = cells(tmp_path / "c.h5ad")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"is not a readable HDF5 file .* cut short"):
        read_screen(path)


def test_hdf5_that_is_not_anndata_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "t.h5ad", "w") as file:
        file["X"] = np.eye(3)
    with pytest.raises(DataError, match="no table 'obs': it is not AnnData"):
        read_screen(tmp_path / "t.h5ad")


def test_cells_without_control_are_refused(tmp_path: Path) -> None:
    obs = pd.DataFrame({"gene": ["A", "B", "C", "D"] * 5})
    path = save_h5ad(obs, np.ones((20, 2)), tmp_path / "c.h5ad")
    with pytest.raises(DataError, match="no control among the cells; their labels are 'A', 'B', 'C', 'D'"):
        read_screen(path)


def test_unknown_names_come_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown layer 'logfc'"):
        read_screen(cells(tmp_path / "c.h5ad"), layer_key="logfc")
    with pytest.raises(UnknownNameError, match="unknown readout 'g9'"):
        read_screen(tmp_path / "c.h5ad", readouts=["g9"])
    with pytest.raises(UnknownNameError, match="unknown readout 'g3': did you mean"):
        read_screen(save(table(), tmp_path / "t.csv"), readouts=["g3"])
    with pytest.raises(DataError, match="is a table, which has no layers"):
        read_screen(tmp_path / "t.csv", layer_key="z")
