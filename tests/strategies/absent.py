"""What a test needs of the machine, and does not find."""

import os
from typing import NoReturn

import pytest


def absent(missing: str) -> NoReturn:
    """End a test whose machine lacks something: it fails on CI, and is skipped elsewhere."""
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)
