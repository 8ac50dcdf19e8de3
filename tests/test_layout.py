"""House rules that a linter does not know: short files, no catch-all names, documented public names."""

import importlib
import inspect
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for package in ("surrogates", "inverse_design") for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_holds_one_noun(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 510
    assert path.stem not in {"utils", "helpers", "common", "core", "misc"}


@pytest.mark.parametrize("package", ["surrogates", "inverse_design"])
def test_public_names_load_and_are_documented(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name
