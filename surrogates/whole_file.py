"""Files: whole or not at all, also where a process is killed or the disk is full; known by their checksums."""

import errno
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from surrogates.errors import DataError

_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY


def write_whole(path: Path, write: Callable[[Path], object], *, mode: int = 0o666) -> None:
    """Write a file so that a reader sees the old or the new one, never a part; a link is replaced."""
    with staged([path], mode=mode) as parts:
        write(parts[path])


@contextmanager
def staged(paths: Sequence[Path], *, mode: int = 0o666) -> Iterator[Mapping[Path, Path]]:
    """Give new files to fill; when all are filled and on the disk, they get their names, one after the other.

    What stands last should vouch for the others, as a process may end between two names. Nothing is left where
    something goes wrong before.
    """
    parts = {path: path.with_name(f".{path.name[:80]}.{secrets.token_hex(8)}.part") for path in paths}
    try:
        for part in parts.values():
            os.close(os.open(part, _NEW, mode))  # never a file or a link that somebody has laid there
        yield parts
        for part in parts.values():
            _settle(part)
        for path, part in parts.items():
            part.replace(path)
        for folder in {path.parent for path in paths}:
            _settle(folder)
    except OSError as error:
        raise _renamed(error, parts) from error
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def sha256_of(file: Path) -> str:
    """Take the checksum of a file, or of the names and checksums of all files in a folder."""
    if file.is_dir():
        inside = sorted((each.relative_to(file).as_posix(), each) for each in file.rglob("*") if each.is_file())
        listed = "".join(f"{sha256_of(each)}  {name}\n" for name, each in inside)
        return hashlib.sha256(listed.encode()).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@dataclass(frozen=True)
class Fingerprint:
    """What tells that a file, or a file in a folder, was written again."""

    files: int
    bytes: int
    written: int  # nanoseconds

    @classmethod
    def of(cls, path: Path) -> "Fingerprint":
        """Look at a file or a folder."""
        inside = [each for each in path.rglob("*") if each.is_file()] if path.is_dir() else [path]
        known = [each.stat() for each in inside]
        written = max((each.st_mtime_ns for each in known), default=0)
        return cls(len(known), sum(each.st_size for each in known), written)

    def require(self, path: Path) -> None:
        """Refuse a file that is not what it was."""
        try:
            same = Fingerprint.of(path) == self
        except OSError:
            same = False
        if not same:
            raise DataError(
                f"{path.name!r} changed while it was read: what was read of it may be of two files; wait until it"
                " is written, and read it again"
            )


def _settle(place: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; some network folders cannot tell."""
    handle = os.open(place, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(handle)


def _renamed(error: OSError, parts: Mapping[Path, Path]) -> OSError:
    """Let an error name the file that was meant, not the one beside it, or none."""
    meant = {str(part): path for path, part in parts.items()}
    path = meant.get(str(error.filename), next(iter(parts)))
    return OSError(error.errno or errno.EIO, error.strerror or str(error), str(path))
