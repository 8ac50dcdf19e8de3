"""Calls in their turn on an executor: fresh processes of this machine, or the workers of a cluster."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeAlias

from surrogates.errors import WorkerError

Workers: TypeAlias = int | str  # processes of this machine, or the address of a scheduler of dask.distributed

_TRIES = 3  # a call that three executors did not survive is at fault itself
_AHEAD = 2  # calls for each worker that are begun before they are needed
_PACKAGE = "inverse-design"


def in_turn(start: Callable[[], Executor], width: int, calls: Sequence[Callable[[], Any]]) -> Iterator[Any]:
    """Keep an executor a few calls ahead of what is taken; one that dies is started again."""
    given, tries = 0, 0
    while given < len(calls):
        executor, waiting = start(), deque[Future[Any]]()
        try:
            while given < len(calls):
                ahead = given + _AHEAD * (width + 1)
                waiting.extend(executor.submit(each) for each in calls[given + len(waiting) : ahead])
                found = waiting.popleft().result()
                given, tries = given + 1, 0
                yield found
        except BrokenExecutor as error:
            tries += 1
            if tries == _TRIES:
                raise WorkerError(
                    f"the workers died {tries} times, with {given} of {len(calls)} parts done ({error}):"
                    " use fewer workers, or give them more memory"
                ) from error
        finally:
            for future in waiting:
                future.cancel()
            executor.shutdown(wait=False)


@contextmanager
def cluster(address: str) -> Iterator[tuple[Callable[[], Executor], int]]:
    """Reach the workers of a scheduler; those of another version of this package are refused."""
    try:
        from dask import config  # noqa: PLC0415 - an extra; seconds to import
        from distributed import Client, KilledWorker  # noqa: PLC0415
    except ImportError as error:
        raise WorkerError(
            "a scheduler needs the extra `cluster`: pip install 'inverse-design[cluster]'"
        ) from error
    try:
        client: Any = Client(address, timeout="20s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, KeyError) as error:  # TypeError: tls:// without certificates
        raise WorkerError(f"the scheduler {address!r:.80} cannot be reached: {error!s:.200}") from error
    with client, config.set({"distributed.admin.large-graph-warning-threshold": "1 TB"}):  # screens are not small
        there, here = client.run(version, _PACKAGE), version(_PACKAGE)
        if not there:
            raise WorkerError(f"the scheduler {address!r:.80} has no workers; start some")
        if others := {name: found for name, found in there.items() if found != here}:
            name, found = min(others.items())
            raise WorkerError(
                f"the worker {name!r:.80} of the scheduler has {_PACKAGE} {found}, and this process {here};"
                " install the same version on all workers"
            )
        try:
            yield client.get_executor, sum(client.nthreads().values())
        except KilledWorker as error:
            raise WorkerError(
                f"workers of the scheduler {address!r:.80} died again and again: give them more memory"
            ) from error
