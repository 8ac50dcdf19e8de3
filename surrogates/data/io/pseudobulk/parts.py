"""How a matrix of cells is cut: parts, which are summed apart, and blocks of them, which are held in memory.

Cuts follow from what is stored alone, and never from who sums, so that the sums are the same bytes for everybody.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy
from jaxtyping import Int

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.untrusted.hdf5 import opened
from surrogates.data.io.untrusted.matrices import StoredDense, StoredSparse, stored_matrix
from surrogates.errors import DataError
from surrogates.executors import in_turn
from surrogates.whole_file import Fingerprint

VALUES = 2**21  # that are held in memory at a time
_LEAST_PART = 2**23  # values that are worth a part of their own
_PARTS = 32  # of one matrix at most: each is opened anew, which takes the longer the more rows there are
_WORTH = 2  # values that are read for each sum that a part makes: to add the sums takes a tenth of the time
_UNKNOWN = 2**11  # values of a row, where nothing says how many are stored


@dataclass(frozen=True)
class MatrixPlace:
    """Where a matrix lies on disk, so that another process can open it."""

    path: Path
    key: str
    shape: tuple[int, int]
    content: Fingerprint  # of the file when it was opened first


def matrix_place(cells: CellMatrix | MatrixPlace) -> MatrixPlace | None:
    """Find where a matrix lies; ``None`` if it lies in memory."""
    if isinstance(cells, MatrixPlace):
        return cells
    if not isinstance(cells, StoredDense | StoredSparse):
        return None
    values, (rows, columns) = cells.values, cells.shape
    if isinstance(values, h5py.Dataset):
        path, name = Path(values.file.filename), str(values.name)
    else:
        store = values.store
        path, name = Path(getattr(store, "root", None) or store.path), str(values.path)
    key = name.strip("/") if isinstance(cells, StoredDense) else name.strip("/").rpartition("/")[0]
    return MatrixPlace(path.resolve(), key, (rows, columns), Fingerprint.of(path))


@contextmanager
def opened_source(source: CellMatrix | MatrixPlace) -> Iterator[CellMatrix]:
    """Take a matrix as it is, or open it as another process found it."""
    if not isinstance(source, MatrixPlace):
        yield source
        return
    place = source
    place.content.require(place.path)
    if place.path.suffix in {".zarr", ".zip"}:
        from surrogates.data.io.formats.zarr_store import opened_store  # noqa: PLC0415 - zarr takes a second

        store = opened_store(place.path)
    else:
        store = opened(place.path)
    with store as parent:
        cells = stored_matrix(parent, place.key, shape=place.shape)
        if cells is None:
            raise DataError(f"{place.path.name!r} has no {place.key!r}; leave files alone while they are read")
        yield cells
    place.content.require(place.path)


@dataclass(frozen=True)
class StackedCells:
    """The cells of several matrices, one below the other."""

    matrices: tuple[CellMatrix, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of cells and readouts."""
        return sum(each.shape[0] for each in self.matrices), self.matrices[0].shape[1]

    def __getitem__(self, key: tuple[slice, slice], /) -> object:
        """Read a block."""
        first, last, _ = key[0].indices(self.shape[0])
        blocks: list[Any] = []
        for cells, start in sources_of(self):
            inside = slice(max(first - start, 0), min(last - start, cells.shape[0]))
            if inside.start < inside.stop:
                blocks.append(cells[inside, key[1]])
        return (scipy.sparse.vstack if any(map(scipy.sparse.issparse, blocks)) else np.vstack)(blocks)


def sources_of(cells: CellMatrix) -> Sequence[tuple[CellMatrix, int]]:
    """The matrices that a matrix is made of, each with the number of its first row."""
    matrices = cells.matrices if isinstance(cells, StackedCells) else (cells,)
    starts = np.cumsum([0, *(each.shape[0] for each in matrices)])
    return list(zip(matrices, starts.tolist(), strict=False))


def by_columns(cells: object) -> bool:
    """Tell whether the columns of a matrix lie together, and not its rows."""
    return getattr(cells, "format", None) == "csc"


def parts_of(cells: CellMatrix, sums: int) -> list[tuple[int, int]]:
    """Divide rows, or columns if these lie together, into parts that are worth the sums that each makes."""
    starts = starts_of(cells)
    return cuts(starts, max(_LEAST_PART, _WORTH * sums, int(starts[-1]) // _PARTS), grain=_grain(cells))


def blocks_of(cells: CellMatrix, part: tuple[int, int], most: int) -> Iterator[tuple[int, int]]:
    """Divide a part into blocks of about so many values."""
    first, last = part
    for start, stop in cuts(starts_of(cells)[first : last + 1], most, grain=_grain(cells)):
        yield first + start, first + stop


def read_ahead(
    cells: CellMatrix,
    blocks: Iterable[tuple[int, int]],
    threads: int,
    read: Callable[[CellMatrix, tuple[int, int]], Any],
) -> Iterator[Any]:
    """Read blocks in their order; threads, if there are several, begin some of them before they are taken."""
    calls = [partial(read, cells, each) for each in blocks]
    threaded = in_turn(partial(ThreadPoolExecutor, threads), threads, calls)
    return (call() for call in calls) if threads == 1 else threaded


def read_block(cells: CellMatrix, lines: tuple[int, int]) -> Any:  # noqa: ANN401 - scipy has no types
    """Read whole rows, or columns if these lie together: dense, or sparse with each place stored once."""
    rows, columns = cells.shape
    across = by_columns(cells)
    block: Any = cells[slice(0, rows) if across else slice(*lines), slice(*lines) if across else slice(0, columns)]
    if not scipy.sparse.issparse(block):
        return np.asarray(block)
    form = scipy.sparse.csc_array if across else scipy.sparse.csr_array
    block = block if isinstance(block, form) else form(block)
    if not block.has_canonical_format:
        block = block.astype(np.float64)  # a copy, as it may be the caller's; sums may exceed small integers
        block.sum_duplicates()
    return block


def cuts(starts: Int[np.ndarray, "n"], most: int, *, grain: int = 1) -> list[tuple[int, int]]:
    """Divide lines into ranges that store so many values at most, or are one grain of lines."""
    found, first, lines = [], 0, len(starts) - 1
    while first < lines:
        last = int(np.searchsorted(starts, starts[first] + most, side="right")) - 1
        last = min(max(last - (last - first) % grain, first + grain), lines)
        found.append((first, last))
        first = last
    return found


def starts_of(cells: CellMatrix) -> Int[np.ndarray, "n"]:
    """How many values are stored before each row, or column if these lie together, and after the last one."""
    for name in ("starts", "indptr"):
        if isinstance(known := getattr(cells, name, None), np.ndarray):
            return known
    lines, across = cells.shape[::-1] if by_columns(cells) else cells.shape
    sparse = getattr(cells, "format", None) is not None
    return np.arange(lines + 1) * (min(_UNKNOWN, across) if sparse else across)


def _grain(cells: CellMatrix) -> int:
    """How many rows of a dense matrix on disk are read together."""
    chunks = getattr(cells, "chunks", None)
    return int(chunks[0]) if isinstance(chunks, tuple) and len(chunks) == 2 else 1
