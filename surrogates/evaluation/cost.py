"""What a piece of work costs: seconds and memory."""

import ctypes
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """Time and memory of one piece of work.

    Attributes:
        seconds: Wall-clock time.
        peak_mb: By how much the resident size of the process grew at its highest, in MB; ``nan`` where the system
            does not tell. Pages that the allocator still held from before are not counted, so a small number
            means "nothing to speak of".
    """

    seconds: float
    peak_mb: float


def with_cost(work: Callable[[], T]) -> tuple[T, Cost]:
    """Do some work and say what it cost.

    Linux keeps the highest resident size of a process and resets it on request, which sees the memory of native
    libraries too, and costs nothing. Elsewhere memory is not measured.

    Args:
        work: Called once.

    Returns:
        Its result, and the cost.
    """
    before = _reset_peak()
    began = time.perf_counter()
    result = work()
    seconds = time.perf_counter() - began
    return result, Cost(seconds, math.nan if math.isnan(before) else max(0.0, _megabytes("VmHWM") - before))


def _reset_peak() -> float:
    """Lower the recorded peak to the present resident size, and return that."""
    try:
        _give_back_free_pages()
        _RESET.write_text("5", encoding="ascii")
        return _megabytes("VmRSS")
    except OSError:
        return math.nan


def _give_back_free_pages() -> None:
    """Let glibc return what is free, or the memory that a second fit takes would be there already."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # another C library, which has no such function
        return


def _megabytes(field: str) -> float:
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6
