"""How much a file may hold: what it declares against what it stores, and against the memory at hand."""

import psutil

from surrogates.errors import DataError

MIB = 1024**2
STORED_RATIO = 1100  # deflate makes at most 1032 bytes of one; a dataset that declares more holds none of it
UNPACKED_RATIO = 30  # text and sheets: tables of numbers shrink to a tenth, of zeros to a thirtieth
HELD_RATIO = 100  # what is held in memory whole, of the size of the file
_ALWAYS_STORED = 64 * MIB
_ALWAYS_HELD = 256 * MIB
_ALWAYS_WHOLE = 1500 * MIB
_EMPTY_RATIO = 1000  # single cells, mostly zero and well compressed, take 400 times the bytes of their file
_SHARE = 0.7  # of the memory at hand


def refuse_unstored(what: str, declared: int, stored: int) -> None:
    """Refuse what declares far more bytes than the file stores for it."""
    if declared > max(_ALWAYS_STORED, STORED_RATIO * stored):
        raise DataError(
            f"{what} declares {in_units(declared)} and stores {in_units(stored)}, more than {STORED_RATIO} times"
            " less: no compression does that; the file is damaged or made up: copy or write it again"
        )


def refuse_too_large(what: str, needed: int, *, of_file: int) -> None:
    """Refuse what needs far more memory than its file has bytes, or more than there is."""
    if needed > max(_ALWAYS_HELD, HELD_RATIO * of_file):
        raise DataError(
            f"{what} needs {in_units(needed)} of memory, more than {HELD_RATIO} times the {in_units(of_file)} of"
            " its file; it is damaged or made up: copy or write it again"
        )
    refuse_beyond_memory(what, needed)


def refuse_beyond_memory(what: str, needed: int) -> None:
    """Refuse what needs more memory than is at hand."""
    if needed > _ALWAYS_HELD and needed > (free := int(_SHARE * psutil.virtual_memory().available)):
        raise DataError(
            f"{what} needs {in_units(needed)} of memory, and {in_units(free)} can be had; read fewer rows or"
            " readouts, or use a machine with more"
        )


def refuse_unlikely(what: str, needed: int, *, of_file: int) -> None:
    """Refuse what would be held whole, is large, and almost empty by its file."""
    if needed > max(_ALWAYS_WHOLE, _EMPTY_RATIO * of_file):
        raise DataError(
            f"{what} needs {in_units(needed)} of memory, and its file has {in_units(of_file)}: almost all of it is"
            " zero; read fewer rows or readouts"
        )


def most_unpacked(of_file: int) -> int:
    """Bytes of text that a compressed file may hold."""
    return max(_ALWAYS_STORED, UNPACKED_RATIO * of_file)


def in_units(count: int) -> str:
    """Write a number of bytes."""
    for unit, size in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
