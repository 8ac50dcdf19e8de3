"""Cells that lie in files: any number of workers, shards, files and readings give the same bytes."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import anndata
import distributed
import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.h5ad_file import matrix
from surrogates.data.io.pseudobulk import parts
from surrogates.data.io.pseudobulk.effects import effects_of_cells
from surrogates.data.io.pseudobulk.normalised import TotalTask, total_part
from surrogates.data.io.pseudobulk.parts import StackedCells, cuts, starts_of
from surrogates.data.io.pseudobulk.spread import Spread
from surrogates.data.io.pseudobulk.sums import sum_cells
from surrogates.data.io.readers import read_screen
from surrogates.data.io.untrusted.hdf5 import opened
from surrogates.data.screen import Screen
from surrogates.errors import DataError, WorkerError
from surrogates.executors import in_turn

CELLS, GENES = 400, 12


FORMS: dict[str, Callable[[np.ndarray], object]] = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "dense": np.asarray,
}


def counts(seed: int = 0, cells: int = CELLS) -> tuple[np.ndarray, pd.DataFrame]:
    draw = np.random.default_rng(seed)
    obs = pd.DataFrame(
        {"gene": draw.permutation(np.array(["ctrl", "A", "B", "A+B"])[np.arange(cells) % 4])},
        index=[f"c{seed}-{number}" for number in range(cells)],
    )
    obs["plate"] = draw.permutation(np.array(["p", "q"])[np.arange(cells) % 2])
    return draw.poisson(0.6, (cells, GENES)).astype(np.float32), obs


def write(path: Path, values: object, obs: pd.DataFrame) -> Path:
    var = pd.DataFrame(index=[f"g{number}" for number in range(GENES)])
    cells = anndata.AnnData(values, obs=obs, var=var)
    if path.suffix == ".zarr":
        cells.write_zarr(path)
    else:
        cells.write_h5ad(path, compression="gzip")
    return path


@pytest.fixture
def in_small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LEAST_PART", 500)


def same_bytes(one: Screen, other: Screen) -> bool:
    assert one.standard_errors is not None
    assert other.standard_errors is not None
    together = [(one.effects, other.effects), (one.standard_errors, other.standard_errors)]
    return one.labels == other.labels and all(torch.equal(*pair) for pair in together)


@pytest.mark.usefixtures("in_small_parts")
@pytest.mark.parametrize(("form", "suffix"), [*((form, ".h5ad") for form in FORMS), ("csr", ".zarr")])
@pytest.mark.filterwarnings("ignore")  # of zarr, about its own formats
def test_whoever_sums_the_bytes_are_the_same(form: str, suffix: str, tmp_path: Path) -> None:
    values, obs = counts()
    path = write(tmp_path / f"cells{suffix}", FORMS[form](values), obs)
    read = partial(read_screen, path, normalise=True, batch_col="plate")
    alone = read()
    assert same_bytes(alone, read(spread=Spread(workers=3)))
    if suffix == ".zarr":  # which is slow
        return
    assert same_bytes(alone, read(spread=Spread(workers=3, memory=5000)))  # a few readouts at a time
    kept = Spread(workers=2, kept=tmp_path / "sums")
    assert same_bytes(alone, read(spread=kept))
    assert same_bytes(alone, read(spread=kept))
    in_memory = read_screen(anndata.AnnData(FORMS[form](values), obs=obs), normalise=True, batch_col="plate")
    torch.testing.assert_close(in_memory.effects, alone.effects, rtol=0, atol=1e-12)
    some = read(readouts=["g7", "g2"])
    torch.testing.assert_close(some.effects, alone.with_readouts([7, 2]).effects, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_a_baseline_is_subtracted_from_zeros_as_well(form: str) -> None:
    values, draw = counts()[0].astype(float), np.random.default_rng(1)
    obs = pd.DataFrame({"gene": ["ctrl", "A"] * (CELLS // 2), "plate": draw.choice(["p", "q"], CELLS)})
    found = effects_of_cells(FORMS[form](values), design_of(obs, Dialect(batch_col="plate")))  # type: ignore[arg-type]
    plates, treated = obs["plate"].to_numpy(), (obs["gene"] == "A").to_numpy()
    means = {plate: values[~treated & (plates == plate)].mean(axis=0) for plate in "pq"}
    apart = np.array([row - means[plate] for row, plate in zip(values[treated], plates[treated], strict=True)])
    np.testing.assert_allclose(found.effects[0], apart.mean(axis=0), atol=1e-12)


def test_values_that_are_stored_twice_are_one_value() -> None:
    twice = sparse.csr_array((np.ones(4), [1, 1, 0, 2], [0, 2, 4]), shape=(2, 3))
    stored = twice.data.copy()
    sums = sum_cells(twice, np.array([0, 0]), 1)
    assert sums.total.tolist() == [[1.0, 2.0, 1.0]]
    assert sums.square.tolist() == [[1.0, 4.0, 1.0]]
    assert np.array_equal(twice.data, stored)  # the matrix of the caller is as it was


@pytest.mark.parametrize("grain", [1, 3])
def test_cuts_cover_all_lines_in_order(grain: int) -> None:
    starts = np.cumsum([0, 5, 0, 0, 9, 1, 1, 1, 40, 0])
    found = cuts(starts, 10, grain=grain)
    assert [line for first, last in found for line in range(first, last)] == list(range(len(starts) - 1))
    assert all(starts[last] - starts[first] <= 10 or last - first <= grain for first, last in found)


def test_parts_grow_with_a_matrix_as_each_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LEAST_PART", 10)
    sizes = {rows: parts.parts_of(sparse.csr_array(np.ones((rows, 2))), sums=0) for rows in (30, 100_000)}
    assert [len(found) for found in sizes.values()] == [6, 32]


def test_workers_load_neither_torch_nor_pandas() -> None:
    code = f"import {sum_cells.__module__}, sys; sys.exit(' '.join({{'torch', 'pandas'}} & set(sys.modules)) or 0)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own words


def test_chunks_of_a_dense_matrix_are_read_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        stored = file.create_dataset("X", data=np.ones((50, 4)), chunks=(20, 2))
        stored.attrs["encoding-type"] = "array"
    with opened(tmp_path / "cells.h5ad") as parent:
        cells = matrix(parent, None, rows=50, columns=4)
        assert list(parts.blocks_of(cells, (0, 50), 90)) == [(0, 20), (20, 40), (40, 50)]
        assert starts_of(cells)[-1] == 200


def test_damaged_sums_are_made_again_and_others_are_not_taken(tmp_path: Path) -> None:
    values, obs = counts()
    path = write(tmp_path / "cells.h5ad", sparse.csr_matrix(values), obs)
    kept = Spread(kept=tmp_path / "sums")
    one = read_screen(path, spread=kept)
    whole = {file: file.read_bytes() for file in (tmp_path / "sums").glob("*.npy")}
    assert len(whole) == 2  # totals of cells, and sums
    for damaged in (lambda content: content[:200] + b"?" + content[201:], lambda _: b""):
        for file, content in whole.items():
            file.write_bytes(damaged(content))
        assert same_bytes(one, read_screen(path, spread=kept))
        assert {file: file.read_bytes() for file in whole} == whole
    write(path, sparse.csr_matrix(2 * values), obs)
    other = read_screen(path, spread=kept)
    torch.testing.assert_close(other.effects, 2 * one.effects)


def test_files_of_a_folder_are_read_as_one(tmp_path: Path) -> None:
    (first, there), (second, here) = counts(1, 60), counts(2, 80)
    folder = tmp_path / "plates"
    folder.mkdir()
    write(folder / "a.h5ad", sparse.csr_matrix(first), there)
    write(folder / "b.h5ad", sparse.csc_matrix(second), here)
    whole = write(tmp_path / "whole.h5ad", np.vstack([first, second]), pd.concat([there, here]))
    one, other = (read_screen(each, normalise=True) for each in (folder, whole))
    assert one.provenance["files"] == "2, from 'a.h5ad' to 'b.h5ad'"
    assert one.labels == other.labels
    torch.testing.assert_close(one.effects, other.effects, rtol=0, atol=1e-12)
    stacked = StackedCells((first, second))
    assert np.array_equal(stacked[50:70, 0:GENES], np.vstack([first, second])[50:70])
    write(folder / "c.h5ad", second, here.rename(columns={"plate": "lane"}))
    with pytest.raises(
        DataError, match=r"'c\.h5ad' and 'a\.h5ad' .* differ in their columns of obs, first in 'lane'"
    ):
        read_screen(folder)


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, obs = counts()
    path = write(tmp_path / "cells.h5ad", sparse.csr_matrix(values), obs)
    with opened(path) as parent:
        place = parts.matrix_place(matrix(parent, None, rows=CELLS, columns=GENES))
    assert place is not None

    def touched(*_: object, **__: object) -> None:
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(parts, "_grain", lambda _: touched() or 1)
    with pytest.raises(DataError, match=r"'cells\.h5ad' changed while it was read"):
        read_screen(path)
    with pytest.raises(DataError, match="changed while it was read"), parts.opened_source(place):
        pass
    shutil.rmtree(tmp_path)
    with pytest.raises(DataError, match="changed while it was read"):
        place.content.require(path)


class _Dying:
    """Workers that do one call and die, as one that needs too much memory does."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def submit(self, call: Callable[[], object]) -> object:
        def result() -> object:
            self.left -= 1
            if self.left < 0:
                raise BrokenProcessPool("killed")
            return call()

        return SimpleNamespace(result=result, cancel=lambda: True)

    def shutdown(self, **_: bool) -> None:
        """Nothing is left."""


def test_workers_that_die_are_started_again_and_named_in_the_end() -> None:
    calls = [partial(int, number) for number in range(4)]
    assert list(in_turn(lambda: _Dying(1), 1, calls)) == [0, 1, 2, 3]  # type: ignore[arg-type, return-value]
    with pytest.raises(
        WorkerError, match=r"the workers died 3 times, with 0 of 4 parts done .* use fewer workers"
    ):
        list(in_turn(lambda: _Dying(0), 1, calls))  # type: ignore[arg-type, return-value]


def test_a_cluster_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    values, obs = counts()
    path = write(tmp_path / "cells.h5ad", sparse.csr_matrix(values), obs)
    with opened(path) as parent:
        cells = matrix(parent, None, rows=CELLS, columns=GENES)
        tasks = [TotalTask(cells, (0, 100)), TotalTask(cells, (100, 400))]
        with pytest.raises(WorkerError, match="scheduler 'tcp:' cannot be reached"):
            list(Spread(scheduler="tcp:").in_order(total_part, tasks))


def test_workers_of_a_cluster_do_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values, obs = counts()
    path = write(tmp_path / "cells.h5ad", sparse.csr_matrix(values), obs)
    local = distributed.LocalCluster(1, processes=False, threads_per_worker=1, dashboard_address=None)
    with opened(path) as parent, local as cluster:
        cells = matrix(parent, None, rows=CELLS, columns=GENES)
        tasks = [TotalTask(cells, (first, first + 100)) for first in range(0, CELLS, 100)]
        somewhere = Spread(scheduler=cluster.scheduler_address)
        assert np.array_equal(np.concatenate(list(somewhere.in_order(total_part, tasks))), values.sum(axis=1))
        monkeypatch.setattr(distributed.Client, "run", lambda *_: {"tcp://a:1": "0.0.1"})
        with pytest.raises(
            WorkerError, match=r"the worker 'tcp://a:1' .* has inverse-design 0\.0\.1, and this process"
        ):
            list(somewhere.in_order(total_part, tasks))
        monkeypatch.setattr(distributed.Client, "run", lambda *_: {})
        with pytest.raises(WorkerError, match="has no workers; start some"):
            list(somewhere.in_order(total_part, tasks))
