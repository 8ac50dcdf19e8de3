"""Tables and AnnData in memory are read as files with the same content are."""

from dataclasses import fields
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from strategies.perturbations import libraries

from surrogates.data.io.dialects import Dialect, ReadOptions
from surrogates.data.io.readers import read_screen
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

LABELS = ("KLF1", "CEBPE", "SPI1", "CEBPE+KLF1", "KLF1+SPI1")


def effects(labels: tuple[str, ...] = LABELS, *, seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(size=(len(labels), 3))
    return pd.DataFrame(values, index=list(labels), columns=["g1", "g2", "g3"])


def cells(*, seed: int = 0) -> anndata.AnnData:
    values = np.random.default_rng(seed).poisson(1.0, size=(60, 4)).astype(float)
    obs = pd.DataFrame({"guide": ["NT", "A", "B", "A|B", "C"] * 12, "line": ["x", "y"] * 30, "uM": 1.0})
    named = obs.set_axis([f"c{row}" for row in range(60)])
    var = pd.DataFrame(index=["g1", "g2", "g3", "g4"])
    return anndata.AnnData(sparse.csr_matrix(values), obs=named, var=var, layers={"twice": 2 * values})


def same(one: Screen, other: Screen) -> None:
    assert (one.labels, one.contexts, one.readouts) == (other.labels, other.contexts, other.readouts)
    torch.testing.assert_close(one.effects, other.effects, rtol=0, atol=0)
    assert (one.standard_errors is None) == (other.standard_errors is None)
    if one.standard_errors is not None and other.standard_errors is not None:
        torch.testing.assert_close(one.standard_errors, other.standard_errors, rtol=0, atol=0)


@given(library=libraries(), seed=st.integers(0, 99))
def test_a_screen_comes_back_from_its_frame(library: list[Perturbation], seed: int) -> None:
    written = effects(tuple(each.label for each in library), seed=seed)
    screen = Screen.from_frame(written)
    pd.testing.assert_frame_equal(screen.to_frame(), written.rename_axis("perturbation"))
    same(Screen.from_frame(screen.to_frame()), screen)


@given(library=libraries(), data=st.data())
def test_the_order_of_parts_and_rows_does_not_matter(library: list[Perturbation], data: st.DataObject) -> None:
    turned = tuple(
        "+".join(data.draw(st.permutations([part.label for part in one.interventions]))) for one in library
    )
    rows = data.draw(st.permutations(range(len(library))))
    written = effects(tuple(one.label for one in library))
    other = Screen.from_frame(written.set_axis(list(turned)).iloc[rows])
    same(other.in_canonical_order(), Screen.from_frame(written).in_canonical_order())


def test_row_names_are_labels_unless_a_column_is() -> None:
    noted = effects().assign(note=["good", "bad", "good", "good", "bad"])
    screen = Screen.from_frame(noted)
    assert screen.labels == Screen.from_frame(effects()).labels
    assert screen.annotations["note"].tolist() == noted["note"].tolist()
    sampled = effects().assign(condition=list(LABELS)).set_axis([f"s{row}" for row in range(5)])
    same(Screen.from_frame(sampled), screen)
    same(Screen.from_frame(noted, target_col="index"), screen)


def test_contexts_come_back(tmp_path: Path) -> None:
    two = pd.concat([effects(seed=0).assign(line="x"), effects(seed=1).assign(line="y")])
    screen = Screen.from_frame(two, group_col="line")
    assert set(screen.contexts) == {"x", "y"}
    same(Screen.from_frame(screen.to_frame(), group_col="context"), screen)
    two.rename_axis("condition").to_parquet(tmp_path / "two.parquet")
    same(read_screen(tmp_path / "two.parquet", group_col="line"), screen)


@pytest.mark.parametrize("place", ["names", "column", "numbered"])
def test_a_frame_is_read_as_its_file(tmp_path: Path, place: str) -> None:
    frame = effects().rename_axis("condition")
    frame.to_csv(tmp_path / "s.csv")
    if place != "names":
        frame = frame.reset_index()
    if place == "numbered":  # a filtered table keeps the numbers of its rows, which are no readout
        frame = frame.set_axis([3, 5, 8, 9, 12])
    screen, file = read_screen(frame), read_screen(tmp_path / "s.csv")
    assert screen.labels == file.labels
    assert screen.readouts == file.readouts
    np.testing.assert_allclose(screen.effects, file.effects)
    assert screen.provenance["source"] == "a DataFrame"


def test_anndata_of_cells_is_read_as_its_file(tmp_path: Path) -> None:
    known = {"target_col": "guide", "reference_key": "NT", "group_col": "line", "dose_col": "uM", "sep": "|"}
    adata = cells()
    adata.write_h5ad(tmp_path / "c.h5ad")
    backed = anndata.read_h5ad(tmp_path / "c.h5ad", backed="r")
    for layer in (None, "twice"):
        file = read_screen(tmp_path / "c.h5ad", layer_key=layer, **known)  # type: ignore[arg-type]
        same(Screen.from_anndata(adata, layer_key=layer, **known), file)  # type: ignore[arg-type]
        assert file.standard_errors is not None
        assert set(file.labels) == {"A", "B", "A+B", "C"}
    same(Screen.from_anndata(backed, **known), read_screen(adata, **known))  # type: ignore[arg-type]
    backed.file.close()
    part = adata[:, ["g3", "g1"]]
    same(Screen.from_anndata(part, **known), read_screen(adata, readouts=["g3", "g1"], **known))  # type: ignore[arg-type]


def test_anndata_of_effects_is_no_cells() -> None:
    frame = effects()
    adata = anndata.AnnData(
        frame.to_numpy(), obs=pd.DataFrame(index=frame.index), var=pd.DataFrame(index=frame.columns)
    )
    adata.uns["value"] = "log fold change"
    screen = Screen.from_anndata(adata, target_col="index")
    same(screen, Screen.from_frame(frame))
    assert screen.provenance["unit"] == "log fold change"


def test_replicates_are_averaged_with_pooled_errors() -> None:
    three = [effects(seed=seed).assign(replicate=str(seed)) for seed in range(3)]
    screen = Screen.from_frame(pd.concat(three))
    values = np.stack([each[["g1", "g2", "g3"]].to_numpy() for each in three])
    np.testing.assert_allclose(screen.effects, values.mean(0))
    assert screen.standard_errors is not None
    pooled = np.sqrt(values.var(0, ddof=1).mean(0) / 3)
    np.testing.assert_allclose(screen.standard_errors, np.broadcast_to(pooled, (5, 3)))
    assert screen.provenance["rows"] == "5 conditions in 15 rows"
    assert screen.readouts == ("g1", "g2", "g3")


REFUSED = {
    "times": (pd.concat([effects().assign(time="1h"), effects().assign(time="2h")]), "several values of 'time'"),
    "text": (effects().assign(g1=["1", "2", "n.d.", "3", "4"]), "column 'g1' holds 'n.d.' in row 2.*not a number"),
    "nan": (effects().mask(effects() == effects().iloc[1, 2]), "1 effect.* not finite.*'CEBPE', readout 'g3'"),
    "infinite": (effects().replace(effects().iloc[0, 0], np.inf), "not finite, the first is inf"),
    "columns": (pd.concat([effects(), effects()], axis=1), "column 'g1' occurs 2 times; names must be unique"),
    "no numbers": (effects().astype(str).assign(g1="a", g2="b", g3="c"), "column|both qualify"),
    "levels": (pd.concat({"a": effects()}, axis=1), "columns of several levels; give it one name per column"),
    "empty": (effects().iloc[:0], r"of shape \(0, 3\) is empty; give one row per condition"),
    "too few": (effects(LABELS[:2]), "2 condition.* are too few"),
    "constant": (effects().assign(g1=0.0, g2=1.0, g3=2.0), "no readout ever changes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_frame_is_refused_with_what_to_do(case: str) -> None:
    frame, said = REFUSED[case]
    with pytest.raises(DataError, match=said):
        Screen.from_frame(frame)


def test_what_is_stated_must_be_there() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown readout 'g4': did you mean"):
        Screen.from_frame(effects(), readouts=["g1", "g4"])
    with pytest.raises(UnknownNameError, match=r"unknown column 'guides'.*did you mean 'guide'"):
        Screen.from_anndata(cells(), target_col="guides")
    with pytest.raises(UnknownNameError, match=r"unknown layer 'raw': known are 'twice'"):
        Screen.from_anndata(cells(), target_col="guide", layer_key="raw")
    with pytest.raises(DataError, match=r"layer_key='raw' is stated, but the DataFrame is a table"):
        Screen.from_frame(effects(), layer_key="raw")


def test_cells_without_a_control_are_refused() -> None:
    adata = cells()
    with pytest.raises(DataError, match=r"no control among the cells; .*label of the control with reference"):
        Screen.from_anndata(adata[adata.obs["guide"] != "NT"], target_col="guide", sep="|")
    empty = anndata.AnnData(None, obs=adata.obs, var=adata.var, layers={"twice": adata.layers["twice"]})
    with pytest.raises(DataError, match=r"the AnnData has no X; name one of its layers, twice, with layer_key="):
        Screen.from_anndata(empty, target_col="guide")


def test_labels_and_arrays_are_taken_at_the_edge() -> None:
    frame = effects()
    made = [
        Screen.from_labels(numbers, list(labels), ["g1", "g2", "g3"], standard_errors=abs(numbers))
        for numbers in (frame, frame.to_numpy(), torch.from_numpy(frame.to_numpy()))
        for labels in (LABELS, [Perturbation.parse(each) for each in LABELS])
    ]
    for one in made[:-1]:
        with pytest.raises(DataError, match="negative"):
            Screen.from_labels(frame, list(LABELS), ["g1", "g2", "g3"], standard_errors=-frame.abs())
        same(one, made[-1])
    with pytest.raises(DataError, match="column 'g2' of the effects holds no numbers"):
        Screen.from_labels(frame.assign(g2="x"), list(LABELS), ["g1", "g2", "g3"])


def test_all_that_may_be_stated_is_kept() -> None:
    assert set(ReadOptions.__annotations__) == {each.name for each in fields(Dialect)}


def test_a_screen_shows_what_is_worth_knowing() -> None:
    adata = cells()
    adata.X = 3 * adata.X
    known = {"target_col": "guide", "reference_key": "NT", "group_col": "line", "dose_col": "uM", "sep": "|"}
    counted = Screen.from_anndata(adata, **known)  # type: ignore[arg-type]
    assert any("holds whole numbers (counts of molecules)" in note for note in counted.notes)
    assert "note: X holds whole numbers" in repr(counted)
    assert not any("counts" in note for note in Screen.from_anndata(adata, normalise=True, **known).notes)  # type: ignore[arg-type]
