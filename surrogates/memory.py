"""Memory that was freed, given back to the system."""

import ctypes


def give_back_free_pages() -> None:
    """Let glibc return what is free: between large pieces of work it lies where the next ones do not fit."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:  # another C library, which has no such function
        return
