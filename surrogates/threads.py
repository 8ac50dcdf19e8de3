"""How many threads work on a screen: one, unless its matrices are large.

torch, numpy and scipy have threads of their own, which wait for work by spinning. On small matrices that takes
more time than there is to share, and several times as much where other processes want the cores. With one thread
sums are added in one order, too: what is worked out of a small screen does not depend on the number of processors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from surrogates.data.screen import Screen

_LARGE = 2**23  # measured effects from which products are worth dividing
_GIVEN: ContextVar[int | None] = ContextVar("given threads", default=None)


def given_threads() -> int:
    """Say how many threads may work: torch's own number, as it was before it was limited here."""
    return _GIVEN.get() or torch.get_num_threads()


def threads_for(screen: Screen) -> int:
    """Say how many threads work on a screen."""
    return given_threads() if screen.effects.numel() >= _LARGE else 1


@contextmanager
def limited_threads(count: int = 1, *, given: int | None = None) -> Iterator[None]:
    """Give torch so many threads, numpy and scipy one, and say that so many are given, if that changes."""
    import scipy.linalg  # noqa: F401, PLC0415 - loads the threads of scipy, so that they can be limited
    from threadpoolctl import threadpool_limits  # noqa: PLC0415 - where something is worked out

    before, token = torch.get_num_threads(), _GIVEN.set(given or given_threads())
    torch.set_num_threads(count)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(before)
        _GIVEN.reset(token)
