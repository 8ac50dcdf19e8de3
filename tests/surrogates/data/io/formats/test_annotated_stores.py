"""The same screen written as .h5ad, as zarr and into MuData reads equal; what is damaged is refused."""

import json
import warnings
import zipfile
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import zarr
from anndata.io import write_elem
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from surrogates.data.io.readers import read_screen
from surrogates.data.screen import Screen
from surrogates.errors import DataError

FORMS = {"dense": np.asarray, "csr": sparse.csr_matrix, "csc": sparse.csc_matrix}


def cells(seed: int = 0, form: str = "csr", *, each: int = 5) -> anndata.AnnData:
    rng = np.random.default_rng(seed)
    labels = np.repeat(["non-targeting", "KLF1", "SPI1", "KLF1+SPI1"], each)
    values = rng.normal(size=(len(labels), 4)) * (rng.random((len(labels), 4)) < 0.6)
    obs = pd.DataFrame(
        {"perturbation": pd.Categorical(labels), "cell_type": "K562"},
        index=[f"c{row}" for row in range(len(labels))],
    )
    return anndata.AnnData(
        FORMS[form](values), obs=obs, var=pd.DataFrame(index=list("abcd")), layers={"twice": values * 2}
    )


def write_zarr(data: anndata.AnnData, path: Path, *, version: int = 3) -> Path:
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.simplefilter("ignore")
        if path.suffix == ".zip":
            with zarr.storage.ZipStore(path, mode="w") as store:
                data.write_zarr(store)
        else:
            data.write_zarr(path)
    return path


def write_h5mu(modalities: dict[str, anndata.AnnData], path: Path, obs: pd.DataFrame) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"] = "MuData"
        for name, data in modalities.items():
            write_elem(file, f"mod/{name}", data)
        write_elem(file, "obs", obs)
        write_elem(file, "var", pd.DataFrame(index=[n for data in modalities.values() for n in data.var_names]))
    return path


def assert_same(one: Screen, other: Screen) -> None:
    assert one.labels == other.labels
    assert one.readouts == other.readouts
    assert one.contexts == other.contexts
    np.testing.assert_allclose(one.effects, other.effects)
    np.testing.assert_allclose(one.standard_errors, other.standard_errors)
    beside = {"source", "sha256", "modality"}
    assert {k: v for k, v in one.provenance.items() if k not in beside} == {
        k: v for k, v in other.provenance.items() if k not in beside
    }


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 99),
    form=st.sampled_from(sorted(FORMS)),
    version=st.sampled_from([2, 3]),
    ending=st.sampled_from(["zarr", "zarr.zip"]),
    layer=st.sampled_from([None, "twice"]),
)
def test_a_screen_reads_equal_from_every_store(
    tmp_path_factory: pytest.TempPathFactory, seed: int, form: str, version: int, ending: str, layer: str | None
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    data = cells(seed, form)
    data.write_h5ad(folder / "c.h5ad")
    expected = read_screen(folder / "c.h5ad", layer_key=layer)
    stored = write_zarr(data, folder / f"c.{ending}", version=version)
    assert_same(read_screen(stored, layer_key=layer), expected)
    design = data.obs.copy()
    data.obs = pd.DataFrame(index=data.obs_names)  # what was done is known for all modalities only
    shuffled = design.sample(frac=1, random_state=seed)
    assert_same(read_screen(write_h5mu({"rna": data}, folder / "c.h5mu", shuffled), layer_key=layer), expected)


def test_the_checksum_of_a_folder_is_that_of_its_content(tmp_path: Path) -> None:
    one, same, other = (
        read_screen(write_zarr(cells(seed), tmp_path / f"{name}.zarr")).provenance["sha256"]
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    assert one == same != other


def test_one_of_several_modalities_is_read_with_what_the_others_know(tmp_path: Path) -> None:
    rna = cells()
    known = rna.obs
    rna.obs = pd.DataFrame({"quality": np.arange(20.0)}, index=rna.obs_names)
    guides = anndata.AnnData(np.ones((20, 2)), obs=known, var=pd.DataFrame(index=["g1", "g2"]))
    everything = pd.DataFrame({"rna:quality": rna.obs["quality"], "sex": "f"}, index=rna.obs_names)
    path = write_h5mu({"rna": rna, "gdo": guides}, tmp_path / "c.h5mu", everything)
    with pytest.raises(DataError, match=r"2 of the 2 modalities.*--modality\): 'gdo', 'rna'"):
        read_screen(path)
    with pytest.raises(DataError, match="unknown modality 'rma': did you mean 'rna'"):
        read_screen(path, modality="rma")
    found = read_screen(path, modality="rna", target_col="gdo:perturbation", group_col="gdo:cell_type")
    rna.obs = known
    rna.write_h5ad(tmp_path / "c.h5ad")
    expected = read_screen(tmp_path / "c.h5ad")
    assert found.labels == expected.labels
    np.testing.assert_allclose(found.effects, expected.effects)
    assert found.provenance["modality"] == "'rna' of 'gdo', 'rna'"


def test_a_column_stored_twice_with_different_values_is_refused(tmp_path: Path) -> None:
    data = cells()
    path = write_h5mu({"rna": data}, tmp_path / "c.h5mu", data.obs[["perturbation"]].iloc[::-1])
    assert len(read_screen(path)) == 3
    other = data.obs[["perturbation"]].iloc[::-1].set_axis(data.obs_names)
    with pytest.raises(DataError, match="'perturbation' is stored twice"):
        read_screen(write_h5mu({"rna": data}, tmp_path / "d.h5mu", other))
    with pytest.raises(DataError, match="'c0' occurs more than once"):
        read_screen(write_h5mu({"rna": data}, tmp_path / "e.h5mu", other.set_axis(["c0"] * 20)))


def test_a_modality_is_refused_where_there_are_none(tmp_path: Path) -> None:
    data = cells()
    data.write_h5ad(tmp_path / "c.h5ad")
    data.write_h5ad(tmp_path / "c.h5mu")
    pd.DataFrame({"gene": ["A", "B"], "x": [1.0, 2.0]}).to_csv(tmp_path / "c.csv")
    for name in ("c.h5ad", "c.csv", write_zarr(data, tmp_path / "c.zarr").name):
        with pytest.raises(DataError, match=r"modality='rna' is stated, but .* has no modalities"):
            read_screen(tmp_path / name, modality="rna")
    with pytest.raises(DataError, match="it is not MuData"):
        read_screen(tmp_path / "c.h5mu")


def test_damaged_stores_are_refused(tmp_path: Path) -> None:
    whole = write_zarr(cells(), tmp_path / "whole.zarr.zip")
    damaged = tmp_path / "damaged.zarr.zip"
    for cut in (0, 10, len(whole.read_bytes()) // 2, len(whole.read_bytes()) - 30):
        damaged.write_bytes(whole.read_bytes()[:cut])
        with pytest.raises(DataError, match=r"'damaged\.zarr\.zip' cannot be read as zarr"):
            read_screen(damaged)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(DataError, match="cannot be read as zarr"):
        read_screen(tmp_path / "empty.zarr")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
@given(draw=st.data())
def test_a_damaged_part_is_refused_or_was_not_needed(
    tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged.zarr"
    if not folder.exists():
        write_zarr(cells(), folder)
    expected = read_screen(folder)
    parts = [each for each in sorted(folder.rglob("*")) if each.is_file()]
    part = draw.draw(st.sampled_from(parts))
    content = part.read_bytes()
    damages = [b"", b"{", b"[]", content[: len(content) // 2], b"\xff" * len(content)]
    damages += [content.replace(b'"shape":', b'"shade":'), content.replace(b"encoding-type", b"other")]
    part.write_bytes(draw.draw(st.sampled_from(damages)))
    try:
        found = read_screen(folder)
    except DataError:
        return
    finally:
        part.write_bytes(content)
    assert found.labels == expected.labels
    assert found.readouts == expected.readouts
    np.testing.assert_allclose(found.effects, expected.effects)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    path = write_zarr(cells(), tmp_path / "c.zarr", version=2)
    document = path / "X" / "data" / ".zarray"
    said = json.loads(document.read_text())
    document.write_text(json.dumps(said | {"filters": [{"id": "pickle"}]}).replace("pickle", r"pick\u006ce"))
    with pytest.raises(DataError, match="as pickles, which may hold a program"):
        read_screen(path)
    with zipfile.ZipFile(tmp_path / "c.zarr.zip", "w") as packed:
        packed.write(document, "X/data/.zarray")
    with pytest.raises(DataError, match="as pickles, which may hold a program"):
        read_screen(tmp_path / "c.zarr.zip")
