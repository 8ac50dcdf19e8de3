"""The lock with hashes holds what users install, in the versions that everything is tested with."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
EXTRAS = ("app", "cells", "cluster", "drugs", "postgres")


def pinned(name: str) -> dict[str, str]:
    """Read the versions of a file of pinned requirements."""
    found = _PINNED.findall((ROOT / name).read_text(encoding="utf-8"))
    return {re.sub(r"[._-]+", "-", package).casefold(): version for package, version in found}


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-gpu.lock"])
def test_the_lock_has_every_dependency_in_the_tested_version_and_a_hash_of_each(lock: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [
        *project["dependencies"],
        *(each for extra in EXTRAS for each in project["optional-dependencies"][extra]),
    ]
    locked, tested = pinned(lock), pinned("constraints.txt")
    names = {re.split(r"[\[<>=~!]", each)[0].casefold() for each in stated}
    assert names <= set(locked)
    assert {name: locked[name] for name in tested if name in locked} == {
        name: version for name, version in tested.items() if name in locked
    }
    text = (ROOT / lock).read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(locked)
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
