"""Files that people send: kept in a folder of the server's own, under names that the server chooses."""

import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from inverse_design.app.jobs import new_number
from surrogates.data.io.formats.registry import TABLE_ENDINGS, endings
from surrogates.errors import DataError, printable, shown

SCREENS = tuple(each for each in endings() if each != ".zarr")  # which is a folder
TARGETS = (*TABLE_ENDINGS, ".toml")
MOST_RESULTS = 16_000_000  # bytes, 384 wells of 5,000 readouts: tables are read beside the pages, in three seconds
_MOST = 20  # files of one person that are kept; the oldest give way
_SHOWN = 80


class TooLargeError(DataError):
    """A file has more bytes than are read here."""


@dataclass
class Upload:
    """One file, and what was found in it."""

    number: str
    path: Path
    shown: str  # how its owner called it; only ever shown
    owner: str
    stated: Mapping[str, str] = field(default_factory=dict)  # beside it in the form
    report: Mapping[str, Any] = field(default_factory=dict)
    typed: Mapping[str, object] = field(default_factory=dict)  # last in the form for its campaign

    def named(self, message: str) -> str:
        """Call the file in a message as its owner did."""
        return message.replace(str(self.path), self.shown).replace(self.path.name, self.shown)


class Uploads:
    """The folder of a server; it is gone when the server ends."""

    def __init__(self) -> None:
        """Make the folder, which its owner alone can read."""
        self._folder = Path(tempfile.mkdtemp(prefix="inverse-design-"))
        self._files: dict[str, Upload] = {}
        self._lock = threading.Lock()

    def keep(
        self, stream: BinaryIO, called: str | None, *, known: tuple[str, ...], owner: str, most: int | None = None
    ) -> Upload:
        """Keep a file; its ending says how it is read, and is all that is taken of its name."""
        name = PurePosixPath((called or "").replace("\\", "/")).name
        ending = next((each for each in known if name.casefold().endswith(each)), None)
        if ending is None:
            raise DataError(f"{shown(name)} has none of the endings {', '.join(known)}; choose another file")
        number = new_number()
        path = self._folder / f"{number}{ending}"
        try:
            with path.open("xb") as file:
                shutil.copyfileobj(stream, file)
        except OSError:  # a full disk keeps no half of it
            path.unlink(missing_ok=True)
            raise
        if most is not None and path.stat().st_size > most:
            path.unlink()
            raise TooLargeError(
                f"{shown(name)} is larger than {most / 1e6:,.0f} MB; give it to the command line instead"
            )
        upload = Upload(number, path, printable(name)[:_SHOWN], owner)
        with self._lock:
            self._files[number] = upload
            for old in [each.number for each in self._files.values() if each.owner == owner][:-_MOST]:
                self._files.pop(old).path.unlink(missing_ok=True)
        return upload

    def get(self, number: str, owner: str) -> Upload | None:
        """Find a file of its owner."""
        found = self._files.get(number)
        return found if found is not None and found.owner == owner else None

    def drop(self, upload: Upload) -> None:
        """Remove a file that was used."""
        with self._lock:
            self._files.pop(upload.number, None)
        upload.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)
