"""Processes that work for this one: Ctrl-C is left to it, and they end when it does, however it ends."""

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from types import FrameType

import torch

_ENDING = (signal.SIGINT, signal.SIGTERM)


def process_pool(workers: int, *, threads: int) -> ProcessPoolExecutor:
    """Start fresh processes, each of so many threads."""
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin, initargs=(threads,))
    with _signals_held():
        pool.submit(int)  # the first task starts all processes
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


def _begin(threads: int) -> None:
    """Let this process be ended, though not by Ctrl-C, which a terminal sends to all."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """Leave when the process that started this one is gone: a pool would wait for it for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
