"""In an installation without extras, what needs one says its name."""

import re
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inverse_design.campaign.store.protocol import open_store
from surrogates.contrib.cells.transport import transported
from surrogates.data.descriptors import fingerprints
from surrogates.executors import cluster

FOR_US = {"test", "docs", "dev"}


def _scheduler() -> None:
    with cluster("tcp://127.0.0.1:1"):
        pass


USES: list[tuple[str, str, Callable[[], object]]] = [
    ("cells", "ot", lambda: transported(torch.zeros(2, 1), torch.zeros(2, 1))),
    ("cluster", "distributed", _scheduler),
    ("drugs", "rdkit", lambda: fingerprints({"ethanol": "CCO"})),
    ("postgres", "psycopg", lambda: open_store("postgresql+psycopg://nobody@127.0.0.1:1/none")),
]


@pytest.mark.parametrize(("extra", "package", "use"), USES)
def test_what_needs_an_extra_names_it(
    extra: str, package: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(Exception, match=re.escape(f"'inverse-design[{extra}]'")):
        use()


def test_no_extra_is_forgotten() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tested = {extra for extra, _, _ in USES} | {"app"}  # tests/inverse_design/cli/verbs/test_page.py
    assert set(project["optional-dependencies"]) - FOR_US == tested
