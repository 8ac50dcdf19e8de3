"""Files: written whole or not at all, and known by their checksums."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    temporary = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sha256_of(file: Path) -> str:
    """Take the checksum of a file, or of the names and checksums of all files in a folder."""
    if file.is_dir():
        inside = sorted((each.relative_to(file).as_posix(), each) for each in file.rglob("*") if each.is_file())
        listed = "".join(f"{sha256_of(each)}  {name}\n" for name, each in inside)
        return hashlib.sha256(listed.encode()).hexdigest()
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
