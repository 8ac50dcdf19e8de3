"""Parts of cells, worked on in this process, in several, or on a cluster; the results come in order."""

import hashlib
import secrets
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from surrogates.errors import WorkerError
from surrogates.processes import fresh_processes

_TRIES = 3  # a part that three pools did not survive is at fault itself
_AHEAD = 2  # parts for each worker that are begun before they are needed
_FORMAT = b"sums of cells, 1"
_PACKAGE = "inverse-design"


@runtime_checkable
class PartOfCells(Protocol):
    """What is to be done to a part of cells, a frozen dataclass."""

    @property
    def source(self) -> Any:  # noqa: ANN401 - a CellMatrix or a MatrixPlace, the modules of which load h5py
        """The cells, or where another process finds them."""


@dataclass(frozen=True)
class Spread:
    """Who reads and sums cells, and where finished sums are kept; the sums are the same bytes for all.

    Cells in memory are summed in this process.

    Attributes:
        workers: Processes of this machine, of which this one is the first.
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

    def in_order(self, work: Callable[[Any], np.ndarray], tasks: Sequence[PartOfCells]) -> Iterator[np.ndarray]:
        """Give the result of each task, in their order."""
        from surrogates.data.io.pseudobulk.parts import matrix_place  # noqa: PLC0415 - h5py, where cells are read

        found = {id(task.source): task.source for task in tasks}
        lying = {number: matrix_place(source) for number, source in found.items()}
        places = [lying[id(task.source)] for task in tasks]
        alone = (self.workers == 1 and self.scheduler is None) or len(tasks) < 2 or None in places
        with ExitStack() as stack:
            folder, brief = None, tempfile.TemporaryDirectory
            if self.kept is not None:
                self.kept.mkdir(parents=True, exist_ok=True)
            elif not alone and self.scheduler is None:
                folder = Path(stack.enter_context(brief(prefix="inverse-design-")))
            moved = [
                task if place is None else replace(task, source=place)  # type: ignore[type-var]
                for task, place in zip(tasks, places, strict=True)
            ]
            paths = [
                folder and folder / f"{number}.npy"
                if self.kept is None or place is None
                else self.kept / f"{_identity(work, task)}.npy"
                for number, (task, place) in enumerate(zip(moved, places, strict=True))
            ]
            finish = partial(_finish, work, lasting=self.kept is not None)
            here = [
                partial(finish, task, None if folder else path) for task, path in zip(tasks, paths, strict=True)
            ]
            there = [partial(finish, task, path) for task, path in zip(moved, paths, strict=True)]
            results: Iterator[Any]
            if alone:
                results = (call() for call in here)
            elif self.scheduler is None:
                others = self.workers - 1
                results = _in_turn(partial(fresh_processes, others), others, there, here)
            else:
                results = _in_turn(*stack.enter_context(_cluster(self.scheduler)), there)
            for result, path in zip(results, paths, strict=True):
                if result is not None or path is None:
                    yield result
                    continue
                yield np.load(path, allow_pickle=False)
                if folder is not None:
                    path.unlink()


HERE = Spread()


def _finish(
    work: Callable[[Any], np.ndarray], task: PartOfCells, path: Path | None, *, lasting: bool
) -> np.ndarray | None:
    """Do a task and leave its result in a file, if one is named; one that lasts is checked, and not made again."""
    if path is None:
        return work(task)
    if not (lasting and _is_whole(path)):
        found = np.ascontiguousarray(work(task))
        part = path.with_suffix(f".{secrets.token_hex(4)}.part")
        try:
            with part.open("xb") as stream:
                np.save(stream, found, allow_pickle=False)
                if lasting:
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


def _in_turn(
    start: Callable[[], Executor],
    width: int,
    calls: Sequence[Callable[[], Any]],
    here: Sequence[Callable[[], Any]] = (),
) -> Iterator[Any]:
    """Keep an executor a few calls ahead of what is taken; one that dies is started again.

    Where the calls can be made ``here`` as well, this process makes one instead of waiting for another.
    """
    given, tries = 0, 0
    while given < len(calls):
        executor, waiting = start(), deque[Future[Any]]()
        try:
            while given < len(calls):
                ahead = given + _AHEAD * (width + 1)
                while (begun := given + len(waiting)) < min(ahead, len(calls)):
                    busy = sum(not each.done() for each in waiting)
                    if here and busy >= width and (busy > width or begun + 1 == len(calls)):
                        break
                    waiting.append(executor.submit(calls[begun]))
                if here and begun < min(ahead, len(calls)) and not waiting[0].done():
                    waiting.append(_made(here[begun]))
                    continue
                found = waiting.popleft().result()
                given, tries = given + 1, 0
                yield found
        except BrokenExecutor as error:
            tries += 1
            if tries == _TRIES:
                raise WorkerError(
                    f"the workers died {tries} times, with {given} of {len(calls)} parts of the cells done"
                    f" ({error}): use fewer workers, or give them more memory"
                ) from error
        finally:
            for future in waiting:
                future.cancel()
            executor.shutdown(wait=False)


def _made(call: Callable[[], Any]) -> Future[Any]:
    """Make a call in this process."""
    found = Future[Any]()
    found.set_result(call())
    return found


@contextmanager
def _cluster(address: str) -> Iterator[tuple[Callable[[], Executor], int]]:
    """Reach the workers of a scheduler; those of another version of this package are refused."""
    try:
        from distributed import Client  # noqa: PLC0415 - an extra; seconds to import
    except ImportError as error:
        raise WorkerError(
            "a scheduler needs the extra `cluster`: pip install 'inverse-design[cluster]'"
        ) from error
    try:
        client: Any = Client(address, timeout="20s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, KeyError) as error:  # TypeError: tls:// without certificates
        raise WorkerError(f"the scheduler {address!r:.80} cannot be reached: {error!s:.200}") from error
    with client:
        there, here = client.run(version, _PACKAGE), version(_PACKAGE)
        if not there:
            raise WorkerError(f"the scheduler {address!r:.80} has no workers; start some")
        if others := {name: found for name, found in there.items() if found != here}:
            name, found = min(others.items())
            raise WorkerError(
                f"the worker {name!r:.80} of the scheduler has {_PACKAGE} {found}, and this process {here};"
                " install the same version on all workers"
            )
        yield client.get_executor, sum(client.nthreads().values())


def _identity(work: Callable[[Any], np.ndarray], task: PartOfCells) -> str:
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
