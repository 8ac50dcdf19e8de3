"""The file of an SQLite store: private, copied while it is in use, checked, and put in its place whole."""

import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from inverse_design.campaign.store.chain import WAY_BACK
from inverse_design.errors import StoreError

PATIENCE = 5.0  # seconds that a program which writes is waited for
_PRIVATE = 0o600
_BESIDE = ("-journal", "-wal", "-shm")  # what SQLite writes beside a file; it has the permissions of the file


def make_private(path: Path) -> None:
    """Make an empty file that only its owner can read, unless it is there."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))
    except FileExistsError:
        return
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be made ({error.strerror}); name another file") from error


@contextmanager
def copied(path: Path, destination: Path | None = None) -> Iterator[Path]:
    """Copy a store by SQLite's online backup; the copy is deleted in the end, unless it was placed."""
    beside = path if destination is None else destination
    copy = beside.with_name(f".{beside.name[:100]}.{secrets.token_hex(4)}.copy")
    try:
        make_private(copy)
        _back_up(path, copy)
        yield copy
    finally:
        copy.unlink(missing_ok=True)


def _back_up(path: Path, copy: Path) -> None:
    try:
        with (
            closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as sink,
        ):
            source.backup(sink)
    except (sqlite3.Error, MemoryError) as error:
        raise StoreError(f"{str(path)!r} cannot be copied ({error}); {WAY_BACK}") from error


def require_sound(path: Path) -> None:
    """Let SQLite look at every page of a file, and at every reference from one table to another."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            (said,) = connection.execute("PRAGMA integrity_check(1)").fetchone()
            loose = connection.execute("PRAGMA foreign_key_check").fetchone()
    except (sqlite3.Error, MemoryError) as error:
        said, loose = str(error), None
    if said != "ok" or loose is not None:
        what = said if said != "ok" else f"a row of {loose[0]!r} refers to what is not there"
        raise StoreError(f"{str(path)!r} is damaged ({' '.join(str(what).split()):.200}); {WAY_BACK}")


def place_new(copy: Path, path: Path, *, over: bool) -> None:
    """Put a copy in its place: whole or not at all, also if the power fails."""
    try:
        if over and path.exists():
            copy.chmod(path.stat().st_mode & 0o777)
        if not over:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, _PRIVATE))  # whose name it then takes
        copy.replace(path)
        _sync_folder(path)
    except FileExistsError as error:
        raise StoreError(f"{str(path)!r} is there already; name a new file") from error
    except OSError as error:
        raise StoreError(f"{str(path)!r} cannot be written ({error.strerror}); check its folder") from error


def former_names(path: Path, what: str) -> Iterator[Path]:
    """Name a file that is set aside, beside it: with a number, where that name is taken."""
    number = 1
    while True:
        found = path.with_name(f"{path.name}.{what}" + (f"-{number}" if number > 1 else ""))
        if not found.exists():
            yield found
        number += 1


@contextmanager
def replaced(path: Path, what: str) -> Iterator[Path | None]:
    """Keep a store under another name beside it, and others from writing it, until another file has its place."""
    if not path.exists():
        yield None
        return
    with closing(sqlite3.connect(path, timeout=PATIENCE, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")  # which rolls back what a killed program left
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY"):
                raise StoreError(f"{str(path)!r} is being written by another program; wait for it") from error
        kept = next(former_names(path, what))
        try:
            os.link(path, kept)
        except OSError:  # a file system without links
            shutil.copy2(path, kept)
        for ending in _BESIDE:  # a journal must never meet another file of that name
            beside = path.with_name(path.name + ending)
            if beside.exists():
                beside.rename(kept.with_name(kept.name + ending))
        yield kept


def _sync_folder(path: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
