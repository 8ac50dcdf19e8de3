"""L1000 files: text and HDF5, with doses, plates and a vehicle."""

import gzip
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

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
    with pytest.raises(DataError, match=r"no readable \.gctx file"):
        read_screen(gctx)


def profiles(path: Path, level: int = 4) -> np.ndarray:
    """Write wells of three doses and a vehicle on two plates, as LINCS does; their values are returned."""
    names = ["JQ1"] * 12 + ["DMSO"] * 8
    doses = [0.04, 0.0399] * 2 + [1.0] * 4 + [10.0, 9.998] * 2 + [-666.0] * 8
    columns = {
        "pert_iname": names,
        "pert_id": ["BRD-K54606188"] * 12 + ["DMSO"] * 8,
        "pert_type": ["trt_cp"] * 12 + ["ctl_vehicle"] * 8,
        "cell_id": ["A375"] * 20,
        "pert_dose": doses,
        "pert_dose_unit": ["um"] * 12 + ["-666"] * 8,
        "pert_idose": ["0.04 µM"] * 4 + ["1 µM"] * 4 + ["10 µM"] * 4 + ["-666"] * 8,
        "pert_itime": ["24 h"] * 20,
        "distil_cc_q75": list(np.linspace(0, 1, 20)),
        "det_plate": ["P1", "P2"] * 10,
    }
    values = np.random.default_rng(level).normal(size=(20, 3)).astype(np.float32)
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = values
        for name, column in columns.items():
            text = [each.encode() if isinstance(each, str) else each for each in column]
            file[f"0/META/COL/{name}"] = np.array(text) if isinstance(text[0], float) else text
        file["0/META/COL/id"] = np.array([f"REP.A001_A375_24H_X1:{well:02d}" for well in range(20)], dtype="S")
        file["0/META/ROW/id"] = np.array([780, 7157, 4609])
    return values


def test_wells_of_a_nominal_dose_are_compared_with_the_vehicle(tmp_path: Path) -> None:
    values = profiles(tmp_path / "level4.gctx")
    screen = read_screen(tmp_path / "level4.gctx")
    assert screen.labels == ("JQ1@0.04", "JQ1", "JQ1@10")
    assert screen.readouts == ("780", "7157", "4609")
    vehicle = values[12:].mean(axis=0, dtype=np.float64)
    means = np.stack([values[start : start + 4].mean(axis=0, dtype=np.float64) for start in (0, 4, 8)])
    np.testing.assert_allclose(screen.effects, means - vehicle)
    assert screen.standard_errors is not None
    assert "distil_cc_q75" in screen.provenance["dropped columns"]
    assert len(read_screen(tmp_path / "level4.gctx", dose_col="pert_dose")) == 5


def test_files_that_do_not_say_what_was_done_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bare.gctx"
    profiles(path)
    with h5py.File(path, "a") as file:
        for name in set(file["0/META/COL"]) - {"id"}:
            del file[f"0/META/COL/{name}"]
    with pytest.raises(DataError, match="does not say what was done in them: add pert_iname, pert_type"):
        read_screen(path)
    assert len(read_screen(path, target_col="sig_id", reference_key="")) == 20


def ragged(file: h5py.File) -> None:
    del file["0/META/COL/pert_iname"]
    file["0/META/COL/pert_iname"] = ["JQ1"]


def nested(file: h5py.File) -> None:
    file["0/META/COL/more/deep"] = [1]


def scalar(file: h5py.File) -> None:
    file["0/META/COL/one"] = 1.0


def undecodable(file: h5py.File) -> None:
    file["0/META/COL/bytes"] = np.array([b"\xff\xfe"] * 20)


def words(file: h5py.File) -> None:
    del file["0/DATA/0/matrix"]
    file["0/DATA/0/matrix"] = np.full((20, 3), b"x")


def turned(file: h5py.File) -> None:
    values = file["0/DATA/0/matrix"][:]
    del file["0/DATA/0/matrix"]
    file["0/DATA/0/matrix"] = values.T


def endless(file: h5py.File) -> None:
    file["0/META/COL"].create_dataset("many", shape=(10**13,), dtype="f8", chunks=(10**6,))


def without_values(file: h5py.File) -> None:
    del file["0/DATA"]


def without_ids(file: h5py.File) -> None:
    del file["0/META/ROW/id"]


@pytest.mark.parametrize(
    "harm", [ragged, nested, scalar, undecodable, words, turned, endless, without_values, without_ids]
)
def test_hostile_gctx_files_are_refused(tmp_path: Path, harm: Callable[[h5py.File], None]) -> None:
    path = tmp_path / "harmed.gctx"
    profiles(path)
    with h5py.File(path, "a") as file:
        harm(file)
    with pytest.raises(DataError, match=r"'harmed\.gctx'"):
        read_screen(path)


def test_truncated_gctx_files_are_refused(tmp_path: Path) -> None:
    profiles(tmp_path / "whole.gctx")
    whole = (tmp_path / "whole.gctx").read_bytes()
    path = tmp_path / "cut.gctx"
    for cut in (0, 8, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"'cut\.gctx'"):
            read_screen(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), ending=st.sampled_from(["gct", "gctx"]))
def test_a_changed_byte_is_refused_or_read(tmp_path: Path, place: int, byte: int, ending: str) -> None:
    path = {"gct": write_gct, "gctx": write_gctx}[ending](tmp_path / f"l1000.{ending}")
    content = bytearray(path.read_bytes())
    content[place % len(content)] = byte
    path.write_bytes(content)
    with suppress(DataError):
        assert len(read_screen(path)) <= 4


def test_gct_may_be_compressed(tmp_path: Path) -> None:
    plain = write_gct(tmp_path / "t.gct")
    packed = tmp_path / "t.gct.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    np.testing.assert_array_equal(read_screen(packed).effects, read_screen(plain).effects)
    packed.write_bytes(gzip.compress(plain.read_bytes())[:-20])
    with pytest.raises(DataError, match=r"no readable \.gct file"):
        read_screen(packed)
