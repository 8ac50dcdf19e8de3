"""The study of causal shifts, in worlds of four genes."""

import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks.causal_matching import command as replay_causal
from benchmarks.causal_matching.protocol import OURS, CausalProtocol, causal_protocol

NAMES = ("random", "greedy", OURS)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    def small(*, seed: int, worlds: int) -> CausalProtocol:
        protocol = causal_protocol(seed=seed, worlds=worlds, genes=4, shifted=2, rounds=2, count=2)
        return replace(protocol, players={name: protocol.players[name] for name in NAMES})

    monkeypatch.setattr(replay_causal, "causal_protocol", small)


def test_it_prints_writes_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers, picture = tmp_path / "rows.json", tmp_path / "distances.svg"
    words = ["--worlds", "2", "--seed", "5", "--json", str(numbers), "--figure", str(picture)]
    monkeypatch.setattr("sys.argv", ["causal_matching", *words])
    replay_causal.main()
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("causal target matching: 2 worlds of each family, 4 genes")
    for family in ("path", "scale-free", "dense"):
        title = next(number for number, line in enumerate(said) if line.startswith(f"{family}: "))
        assert said[title + 1].split("  ")[0] == "policy"
        lines = said[title + 2 : title + 2 + len(NAMES)]
        assert all(line.startswith(name) for line, name in zip(lines, NAMES, strict=True))
        assert "4 experiments" in said[title + 1]
    content = json.loads(numbers.read_text())
    assert {row["model"] for row in content["rows"]} == set(NAMES)
    drawn = "".join(ET.fromstring(picture.read_text()).itertext())  # noqa: S314 - made by this test
    assert all(name in drawn for name in NAMES)
    assert "causal dense" in drawn
