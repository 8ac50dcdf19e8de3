"""Files of fits that were made before, in a folder of bounded size that several processes share.

A file is named by the key of a fit and by a checksum, which is verified when it is read. What was not used for
longest makes room for others. What cannot be read or written counts as absent, and is said once.
"""

import hashlib
import logging
import os
import stat
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from platformdirs import user_cache_path

from surrogates.errors import shown

VARIABLE = "INVERSE_DESIGN_CACHE"
_ENDING, _UNFINISHED = ".safetensors", "unfinished-"
_DAY = 86_400.0  # seconds after which what a process has begun to write is that of one which was killed
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class FitCache:
    """Where fits are kept.

    Attributes:
        folder: By default the one that ``INVERSE_DESIGN_CACHE`` names, else ``fits`` in the user's cache.
        limit: Bytes of all files together; those that were not used for longest are deleted.
        quickest: Seconds below which a fit is not worth a file.
    """

    folder: Path | None = None
    limit: int = 5_000_000_000
    quickest: float = 1.0

    @property
    def place(self) -> Path:
        """The folder, which need not exist."""
        stated = self.folder or os.environ.get(VARIABLE)
        return Path(stated) if stated else user_cache_path("inverse-design") / "fits"

    def find(self, key: str) -> Path | None:
        """Look a fit up.

        Args:
            key: Of the fit.

        Returns:
            A file of this user with that key, of which the checksum is right; ``None`` if there is none.
        """
        for path, status in self._files(key):
            try:
                if status.st_size <= self.limit and path.name == _name(key, path):
                    with suppress(OSError):  # a folder that may only be read
                        os.utime(path)
                    return path
            except FileNotFoundError:  # another process has made room
                continue
            except OSError as error:
                say_once(f"a fit in {shown(str(self.place))} cannot be read ({error.strerror}); fitting anew")
            else:
                say_once(f"a fit in {shown(str(self.place))} is damaged and not used; fitting anew")
        return None

    def holds(self, key: str) -> bool:
        """Tell whether there is a file of that key, without reading it."""
        return bool(self._files(key))

    def keep(self, key: str, write: Callable[[Path], object]) -> None:
        """Keep a fit in place of others of its key, and make room for it.

        Args:
            key: Of the fit.
            write: Fills the file that it is given.
        """
        place = self.place
        try:
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=place) as made:
                part = Path(made) / "fit"
                write(part)
                if part.stat().st_size > self.limit:
                    return
                kept = place / _name(key, part)
                part.replace(kept)
            for path, _ in self._files(key):
                if path != kept:
                    path.unlink(missing_ok=True)
            self._make_room()
        except OSError as error:
            say_once(f"fits cannot be kept in {shown(str(place))} ({error.strerror}); this one is not")

    def size(self) -> tuple[int, int]:
        """Count the files, and their bytes."""
        sizes = [status.st_size for _, status in self._files()]
        return len(sizes), sum(sizes)

    def clear(self) -> int:
        """Delete all fits.

        Returns:
            How many there were.

        Raises:
            OSError: If one cannot be deleted.
        """
        files = self._files()
        for path, _ in files:
            path.unlink(missing_ok=True)
        return len(files)

    def _files(self, key: str = "") -> list[tuple[Path, os.stat_result]]:
        """List plain files of this user whose names are such as are given here, the last used first."""
        found = []
        with suppress(OSError):
            for path in self.place.glob(f"{key or '?' * 64}-{'?' * 64}{_ENDING}"):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode) and status.st_uid == _user():
                    found.append((path, status))
        return sorted(found, key=lambda each: each[1].st_mtime, reverse=True)

    def _make_room(self) -> None:
        total = 0
        for path, status in self._files():
            total += status.st_size
            if total > self.limit:
                path.unlink(missing_ok=True)
        for left in self.place.glob(f"{_UNFINISHED}*"):
            with suppress(OSError):  # another process was faster, or it is none of ours
                if left.lstat().st_mtime < time.time() - _DAY and not left.is_symlink():
                    (left / "fit").unlink(missing_ok=True)
                    left.rmdir()


USER_CACHE = FitCache()


@cache
def say_once(message: str) -> None:
    """Warn of something, once in a process."""
    _LOGGER.warning("warning: %s", message)


def _name(key: str, file: Path) -> str:
    """Name a file by its key, and by a checksum of the key and the content: it answers for no other key."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, lambda: hashlib.sha256(key.encode()))
    return f"{key}-{digest.hexdigest()}{_ENDING}"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0
