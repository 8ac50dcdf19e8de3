"""What all tests share: when a missing dataset is a failure, and how Hypothesis behaves."""

# ruff: noqa: PLC0415 - what is imported here is imported before its checks are made quick

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch
from hypothesis import settings
from strategies.absent import absent
from type_checks import jaxtyped

# The import hook (``--jaxtyping-packages``) writes this name around every function.
jaxtyping.jaxtyped = jaxtyped
# To compile the checks takes longer than to import the rest: each process after the first finds them compiled,
# also where an environment asks for no bytecode.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# The tests' matrices are small: a second thread costs more than it gives, above all beside other jobs.
torch.set_num_threads(1)

# Heads of logs that tests have seen are not those of the user who runs them.
_STATE = tempfile.TemporaryDirectory(prefix="inverse-design-state-")  # deleted when the tests end
os.environ["XDG_STATE_HOME"] = _STATE.name
os.environ["INVERSE_DESIGN_CACHE"] = f"{_STATE.name}/fits"  # nor are the fits that tests keep or find

settings.register_profile("project", deadline=None, max_examples=50, derandomize="CI" in os.environ)
settings.load_profile("project")


def pytest_runtest_setup(item: pytest.Item) -> None:
    # No test finds what another one has fitted.
    os.environ["INVERSE_DESIGN_CACHE"] = f"{_STATE.name}/fits-{hash(item.nodeid)}"


def pytest_configure(config: pytest.Config) -> None:
    # beartype picks at random which item of a tuple it checks, also while a strategy builds one: harmless.
    config.addinivalue_line(
        "filterwarnings", "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
    )


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """Give the folder of a real dataset: missing data fail on CI, and skip the test elsewhere."""

    from surrogates.data.catalogue import is_available, locate

    def folder(name: str) -> Path:
        if not is_available(name):
            absent(f"the data of {name} are not on this machine (see docs/guides/data.md)")
        return locate(name)

    return folder


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """A server of the installed package; without one, tests are skipped, and fail on CI."""

    from benchmarks.robustness.throwaway_postgresql import binaries, throwaway_postgresql

    programs = binaries()
    if programs is None:
        absent("PostgreSQL is not installed (the package postgresql of Debian)")
    with throwaway_postgresql(programs) as server:
        yield server
