"""Parts of cells, worked on in this process, in several, or on a cluster; the results come in order."""

import hashlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from surrogates.executors import cluster, in_turn

Work: TypeAlias = Callable[[Any, int], np.ndarray]  # of a task, with so many threads
_FORMAT = b"sums of cells, 2"


@runtime_checkable
class PartOfCells(Protocol):
    """What is to be done to a part of cells, a frozen dataclass."""

    @property
    def source(self) -> Any:  # noqa: ANN401 - a CellMatrix or a MatrixPlace, the modules of which load h5py
        """The cells, or where another process finds them."""


@dataclass(frozen=True)
class Spread:
    """Who reads and sums cells, and where finished sums are kept; the sums are the same bytes for all.

    Attributes:
        workers: Threads of this process that read, while it sums what they have read.
        scheduler: Address of a scheduler of ``dask.distributed``, whose workers reach the files, and the folder of
            finished sums, by the same paths.
        kept: Folder of finished sums, by which a killed reading goes on; damaged ones are made again.
        memory: Bytes that sums may take; where they need more, cells are read several times, each time for some
            of the readouts. By default half of what is free.
    """

    workers: int = 1
    scheduler: str | None = None
    kept: Path | None = None
    memory: int | None = None

    def in_order(self, work: Work, tasks: Sequence[PartOfCells]) -> Iterator[np.ndarray]:
        """Give the result of each task, in their order."""
        from surrogates.data.io.pseudobulk.parts import matrix_place  # noqa: PLC0415 - h5py, where cells are read

        found = {id(task.source): task.source for task in tasks}
        places = {number: matrix_place(source) for number, source in found.items()}
        lying = None not in places.values()
        moved = [replace(task, source=places[id(task.source)]) if lying else task for task in tasks]  # type: ignore[type-var]
        paths: list[Path | None] = [None] * len(tasks)
        if self.kept is not None and lying:
            self.kept.mkdir(parents=True, exist_ok=True)
            paths = [self.kept / f"{_identity(work, task)}.npy" for task in moved]
        with ExitStack() as stack:
            results: Iterator[Any]
            if self.scheduler is None or len(tasks) < 2 or not lying:
                results = map(partial(_finish, work, self.workers), tasks, paths)
            else:
                calls = [partial(_finish, work, 1, task, path) for task, path in zip(moved, paths, strict=True)]
                results = in_turn(*stack.enter_context(cluster(self.scheduler)), calls)
            for result, path in zip(results, paths, strict=True):
                yield result if path is None else np.load(path, allow_pickle=False)


HERE = Spread()


def _finish(work: Work, threads: int, task: PartOfCells, path: Path | None) -> np.ndarray | None:
    """Do a task and leave its result in a file, if one is named; one that is whole is not made again."""
    if path is None:
        return work(task, threads)
    if not _is_whole(path):
        found = np.ascontiguousarray(work(task, threads))
        part = path.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            with part.open("xb") as stream:
                np.save(stream, found, allow_pickle=False)
                stream.write(hashlib.sha256(found.data).digest())
            part.replace(path)  # a reader sees all of it, or the checksum says that it does not
        finally:
            part.unlink(missing_ok=True)
    return None


def _is_whole(path: Path) -> bool:
    """Tell whether a file holds what was written into it."""
    with suppress(OSError, ValueError, EOFError), path.open("rb") as stream:
        found = np.load(stream, allow_pickle=False)
        return stream.read() == hashlib.sha256(np.ascontiguousarray(found).data).digest()
    return False


def _identity(work: Work, task: PartOfCells) -> str:
    """Hash what is done to which cells."""
    digest = hashlib.sha256(_FORMAT + work.__qualname__.encode())
    for content in _content(task):
        digest.update(content)
    return digest.hexdigest()


def _content(value: object) -> Iterator[bytes | memoryview]:
    if is_dataclass(value):
        for field in fields(value):
            yield f"{field.name}:".encode()
            yield from _content(getattr(value, field.name))
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield np.ascontiguousarray(value).data
    else:
        yield f"{value!r};".encode()
