"""Fresh processes of this machine.

Ctrl-C is not for them: it is left to the one that started them, and they end when that does, however it ends.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from types import FrameType

_ENDING = (signal.SIGINT, signal.SIGTERM)


def fresh_processes(workers: int, *, begin: Callable[[], object] | None = None) -> ProcessPoolExecutor:
    """Start processes that share nothing with this one; each calls what is to be done before its first task."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(begin,))
    with _signals_held():
        for _ in range(workers):  # a task that finds none idle starts one
            pool.submit(int)
    return pool


@contextmanager
def _signals_held() -> Iterator[None]:
    """Raise what would end this process afterwards; a process that is started meanwhile begins without interrupts.

    A process that is half started would show the error of its missing other half.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    held: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        held.append(number)

    handlers = {each: signal.signal(each, hold) for each in _ENDING if signal.getsignal(each) != signal.SIG_IGN}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for ending, handler in handlers.items():
            signal.signal(ending, handler)
        for number in held[:1]:
            signal.raise_signal(number)


def _begin(begin: Callable[[], object] | None) -> None:
    """Let this process be ended, though not by Ctrl-C, which a terminal sends to all."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin()


def _end_with_parent() -> None:
    """Leave when the process that started this one is gone: a pool would wait for it for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
