"""The two databases in which every campaign must behave the same."""

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.robustness.throwaway_postgresql import binaries, database, throwaway_postgresql


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A server of the installed package; without one, tests are skipped, and fail on CI."""
    programs = binaries()
    if programs is None:
        missing = "PostgreSQL is not installed (the package postgresql of Debian)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with throwaway_postgresql(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store is made: a file, or a new database of the server."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    url: str = database(request.getfixturevalue("postgresql_server"), f"t{uuid4().hex}")
    return url
