"""The two databases in which every campaign must behave the same."""

from pathlib import Path
from uuid import uuid4

import pytest

from benchmarks.robustness.throwaway_postgresql import database


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty store is made: a file, or a new database of the server."""
    if request.param == "sqlite":
        return str(tmp_path / "store.db")
    url: str = database(request.getfixturevalue("postgresql_server"), f"t{uuid4().hex}")
    return url
