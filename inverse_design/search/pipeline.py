"""Work of a search in several threads, the results of which do not depend on how many there are."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

# Tasks in flight, hence the most threads: each one knows less of what went before. Beyond, divide the work.
_AHEAD = 8


def pipelined(tasks: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Run tasks in as many threads as torch has, and yield their results in order.

    A task may be made from the results so far: the iterable is asked for the next one only when that many results
    were yielded as it is asked for with one thread, too. There are never more tasks in flight than were done
    before, so that the first ones, from which a search learns most, are not made blindly.

    Until the last result is taken torch has one thread, here and in each task: small products are not divided any
    further.

    Args:
        tasks: Called each in one of the threads, several at the same time.

    Yields:
        What they return.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # also of who asks: idle threads of a divided product would spin on a core
    crew = ThreadPoolExecutor(min(before, _AHEAD), "scan")
    waiting: deque[Future[T]] = deque()
    try:
        done = 0
        for task in tasks:
            waiting.append(crew.submit(task))
            while len(waiting) > min(done, _AHEAD - 1):
                yield waiting.popleft().result()
                done += 1
        while waiting:
            yield waiting.popleft().result()
    finally:
        crew.shutdown(cancel_futures=True)
        torch.set_num_threads(before)
