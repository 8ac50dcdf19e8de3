"""L1000 files: text and HDF5, with doses, plates and a vehicle."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

OBS = pd.DataFrame(
    {
        "pert_iname": ["JQ1", "JQ1", "SAHA", "DMSO"],
        "pert_type": ["trt_cp", "trt_cp", "trt_cp", "ctl_vehicle"],
        "pert_dose": ["10", "0.5", "10", "-666"],
        "cell_id": ["A375"] * 4,
    },
    index=["s1", "s2", "s3", "s4"],
)
VALUES = np.random.default_rng(0).normal(size=(4, 3)).round(4)
VAR = pd.DataFrame(
    {"gene_symbol": ["TP53", "MYC", "KLF1"]}, index=["ENSG00000141510", "ENSG00000136997", "ENSG00000105610"]
)


def write_gct(path: Path) -> Path:
    rows = [["#1.3"], ["3", "4", "1", "4"], ["id", "gene_symbol", *OBS.index]]
    rows += [[name, "", *column] for name, column in OBS.items()]
    rows += [[gene, VAR["gene_symbol"][gene], *map(str, VALUES[:, row])] for row, gene in enumerate(VAR.index)]
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")
    return path


def write_gctx(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = VALUES
        for part, table in (("COL", OBS), ("ROW", VAR)):
            file[f"0/META/{part}/id"] = list(table.index)
            for name, column in table.items():
                file[f"0/META/{part}/{name}"] = list(column)
    return path


@pytest.mark.parametrize("ending", ["gct", "gctx"])
def test_signatures_are_compared_with_their_vehicle(tmp_path: Path, ending: str) -> None:
    write = {"gct": write_gct, "gctx": write_gctx}[ending]
    screen = read_screen(write(tmp_path / f"l1000.{ending}"))
    assert screen.labels == ("JQ1@10", "JQ1@0.5", "SAHA@10")
    assert screen.readouts == ("TP53", "MYC", "KLF1")
    assert set(screen.contexts) == {"A375"}
    np.testing.assert_allclose(screen.effects, VALUES[:3] - VALUES[3])
    assert (
        "names compounds" in screen.provenance["detected mode"] or "compound" in screen.provenance["detected mode"]
    )


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = write_gct(tmp_path / "t.gct")
    whole = path.read_text()
    for damaged in (whole.replace("#1.3", "#9"), whole[:-60], whole.replace("3\t4\t1\t4", "9\t4\t1\t4"), "x"):
        path.write_text(damaged)
        with pytest.raises(DataError, match=r"no readable \.gct file"):
            read_screen(path)
    gctx = tmp_path / "t.gctx"
    with h5py.File(gctx, "w") as file:
        file["x"] = [1]
    with pytest.raises(DataError, match=r"no \.gctx file"):
        read_screen(gctx)
