"""Independent parts of a measurement, in this process, in several or on a cluster, with the same results."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from functools import partial
from typing import TypeVar

import torch

from surrogates.errors import WorkerError
from surrogates.executors import Workers, cluster, in_turn
from surrogates.processes import fresh_processes
from surrogates.threads import limited_threads

Part = TypeVar("Part")
Found = TypeVar("Found")


def in_order(work: Callable[[Part], Found], parts: Sequence[Part], *, workers: Workers) -> Iterator[Found]:
    """Do some work on each part, and yield what it finds in their order.

    Each process has one thread, and so has this one where it works alone: sums depend in their last digits on the
    number of threads, and choices may depend on those.
    """
    alone = partial(_alone, work)
    if isinstance(workers, str):
        with cluster(workers) as (start, width):
            yield from in_turn(start, width, [partial(alone, part) for part in parts])
        return
    if workers == 1 or len(parts) < 2:
        yield from map(alone, parts)
        return
    begin = partial(torch.set_num_threads, 1)
    try:
        with fresh_processes(min(workers, len(parts)), begin=begin) as pool:
            yield from pool.map(alone, parts)
    except BrokenExecutor as error:
        raise WorkerError(f"a worker died ({error}): use fewer workers, or give them more memory") from error


def _alone(work: Callable[[Part], Found], part: Part) -> Found:
    with limited_threads(given=1):
        return work(part)
