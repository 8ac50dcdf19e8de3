"""Examples in docstrings run, on a small screen whose genes bear known names."""

import doctest
import importlib
import re
from pathlib import Path

import pandas as pd
import pytest

from inverse_design import Screen, propose
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles

ROOT = Path(__file__).parents[1]
GENES = ("AHR", "CBL", "CEBPA", "CEBPE", "FOSB", "GATA1", "KLF1", "SPI1")
EXAMPLE = re.compile(r"^\s*>>> ", re.MULTILINE)
FILES = [
    path
    for package in ("inverse_design", "surrogates")
    for path in sorted((ROOT / package).rglob("*.py"))
    if EXAMPLE.search(path.read_text(encoding="utf-8"))
]


def known_screen() -> Screen:
    network = Network(genes=len(GENES), seed=3)
    called = dict(zip(network.names, GENES, strict=True))
    screen = SaturatingWorld(network, noise=0.1).screen(singles_and_doubles(network, doubles=20, seed=10), seed=0)
    frame = screen.to_frame().rename(columns=called)
    frame.index = ["+".join(called[part] for part in label.split("+")) for label in frame.index]
    return Screen.from_frame(frame)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_examples_of_a_module_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    screen = known_screen()

    def measured(labels: list[str]) -> pd.DataFrame:
        return pd.DataFrame(0.1, index=labels, columns=list(screen.readouts))

    names = {"screen": screen, "measured": measured, "pd": pd, "propose": propose}
    found = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=names)
    tests = [each for each in found if each.examples]
    assert sum(len(each.examples) for each in tests) == len(EXAMPLE.findall(path.read_text(encoding="utf-8")))
    for each in tests:
        assert doctest.DocTestRunner(verbose=False).run(each).failed == 0, each.name
