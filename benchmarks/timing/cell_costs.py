"""Files of single cells of any number, ways to turn them into effects, and what each of these takes.

A block of cells is drawn and stored again and again. Every way is measured three times in a process of its own,
which keeps what memory it is given; the least time counts, as the first one waits for memory.
"""

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
from scipy import sparse

from surrogates.data.io.pseudobulk.parts import VALUES
from surrogates.data.io.pseudobulk.spread import Spread
from surrogates.data.io.untrusted.hdf5 import opened

_DRAWN = 10_000  # cells that are drawn, and stored again and again
_CHUNK = 20_000  # values that are compressed together, about as h5py chooses
_CONTROLS = 0.05
_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000"}  # glibc returns no memory between runs


@dataclass(frozen=True)
class CellFile:
    """What a file of cells is like."""

    cells: int
    readouts: int = 10_000
    stored: int = 700  # values of a cell that are not zero, on average

    def write(self, path: Path, seed: int = 0) -> None:
        """Write the values; what was done to each cell is added for each case."""
        draw = np.random.default_rng(seed)
        block = self._block(draw, min(self.cells, _DRAWN))
        times, lengths = math.ceil(self.cells / block.shape[0]), np.diff(block.indptr)
        with h5py.File(path, "w") as file:
            group = file.create_group("X")
            group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0"})
            group.attrs["shape"] = (block.shape[0] * times, self.readouts)
            starts = np.concatenate([[0], np.cumsum(np.tile(lengths, times))])
            group.create_dataset("indptr", data=starts, compression="gzip")
            for name, values in (("data", block.data), ("indices", block.indices.astype(np.int32))):
                whole = group.create_dataset(
                    name, (times * block.nnz,), values.dtype, chunks=(_CHUNK,), compression="gzip"
                )
                whole[: block.nnz] = values
                for first in range(0, block.nnz, _CHUNK):
                    how, content = whole.id.read_direct_chunk((first,))
                    for again in range(1, times):
                        whole.id.write_direct_chunk((again * block.nnz + first,), content, how)

    def _block(self, draw: np.random.Generator, cells: int) -> sparse.csr_array:
        """Draw counts of a few thousand cells, whose number of values fills whole chunks, as logarithms."""
        rate = draw.lognormal(0.0, 1.5, self.readouts)
        number = draw.poisson(1.6 * self.stored * draw.lognormal(0.0, 0.3, cells))
        columns = draw.choice(self.readouts, size=number.sum(), p=rate / rate.sum())
        rows = np.repeat(np.arange(cells), number)
        counts = sparse.coo_array((np.ones(len(rows)), (rows, columns)), shape=(cells, self.readouts)).tocsr()
        counts.sum_duplicates()
        scaled = counts.data * np.repeat(1e3 / np.maximum(counts.sum(axis=1), 1), np.diff(counts.indptr))
        kept = counts.nnz // _CHUNK * _CHUNK
        starts = np.minimum(counts.indptr, kept)
        return sparse.csr_array(
            (np.log1p(scaled[:kept]).astype(np.float32), counts.indices[:kept], starts), shape=counts.shape
        )


def labelled(path: Path, conditions: int, seed: int = 0) -> None:
    """Say what was done to each cell of a file, at random."""
    import pandas as pd  # noqa: PLC0415 - take a second
    from anndata.io import write_elem  # noqa: PLC0415

    draw = np.random.default_rng(seed)
    with h5py.File(path, "r+") as file:
        cells, readouts = file["X"].attrs["shape"]
        genes = draw.permutation(np.arange(cells) % conditions)
        labels = np.where(draw.random(cells) < _CONTROLS, "control", [f"GENE{gene}" for gene in genes])
        for name in {"obs", "var"} & set(file):
            del file[name]
        write_elem(file, "obs", pd.DataFrame({"gene": pd.Categorical(labels)}, index=np.arange(cells).astype(str)))
        write_elem(file, "var", pd.DataFrame(index=[f"READOUT{number}" for number in range(readouts)]))
        file.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})


def decompressed(path: Path) -> None:
    """Read what is stored and do nothing with it."""
    with h5py.File(path) as file:
        for first in range(0, file["X/data"].shape[0], VALUES):
            for name in ("data", "indices"):
                file[f"X/{name}"][first : first + VALUES]


def summed(path: Path, workers: int = 1) -> None:
    """Make effects and standard errors."""
    from surrogates.data.io.design import design_of  # noqa: PLC0415 - load torch
    from surrogates.data.io.dialects import Dialect  # noqa: PLC0415
    from surrogates.data.io.h5ad_file import frame, matrix  # noqa: PLC0415
    from surrogates.data.io.pseudobulk.effects import effects_of_cells  # noqa: PLC0415

    with opened(path) as file:
        table = frame(file, "obs").reset_index(drop=True)
        cells = matrix(file, None, rows=len(table), columns=len(frame(file, "var")))
        effects_of_cells(cells, design_of(table, Dialect()), spread=Spread(workers))


def in_two(path: Path) -> None:
    """Make them with two workers."""
    summed(path, workers=2)


def aggregated(path: Path) -> None:
    """Read all cells into memory, and let scanpy make means and variances."""
    import anndata  # noqa: PLC0415 - take seconds
    import scanpy  # noqa: PLC0415

    scanpy.get.aggregate(anndata.read_h5ad(path), by="gene", func=["mean", "var"])


@dataclass(frozen=True)
class Cost:
    """What one way takes."""

    seconds: float  # processor time
    wall: float
    peak: float  # GB beside what was there before


def cost_of(way: Callable[[Path], None], path: Path) -> Cost:
    """Measure one way in a process of its own."""
    for name, value in _KEPT.items():
        os.environ.setdefault(name, value)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_measured, way, path).result()


def _measured(way: Callable[[Path], None], path: Path) -> Cost:
    before = _peak()
    found = []
    for _ in range(3):
        began, wall = time.process_time(), time.perf_counter()
        way(path)
        found.append((time.process_time() - began, time.perf_counter() - wall))
    return Cost(*map(min, zip(*found, strict=True)), peak=(_peak() - before) / 1e6)


def _peak() -> int:
    """Most memory of this process so far, in kB; ``resource`` says that of its parent, if that had more."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
