"""The verb ``replay`` on a user's own screen."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pandas as pd
import pytest
from strategies.screens import pairs_of, planted_screen
from strategies.worlds import command


def save(folder: Path, readouts: int = 1) -> Path:
    screen = planted_screen(alone=range(10), together=pairs_of(10, 40), readouts=readouts)
    table = pd.DataFrame(screen.effects.numpy(), columns=list(screen.readouts))
    table.insert(0, "perturbation", screen.labels)
    path = folder / "screen.csv"
    table.to_csv(path, index=False)
    return path


SMALL = ("--start", "6", "--batch", "4", "--rounds", "2", "--top", "5", "--seeds", "2")


def test_a_replay_prints_writes_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers, picture = tmp_path / "rows.json", tmp_path / "curves.svg"
    players = ("--policy", "random,additive,greedy_ridge,permuted:greedy_ridge")
    assert command("replay", save(tmp_path), *SMALL, *players, "-o", numbers, "--figure", picture) == 0
    said = capsys.readouterr().out
    assert "share of the best 5 of 40 pairs" in said
    assert "known from the start: 10 singles" in said
    lines = said.splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("policy"))
    names = ["random", "additive", "greedy_ridge", "permuted:greedy_ridge"]
    assert [line.split()[0] for line in lines[header + 1 : header + 5]] == names
    content = json.loads(numbers.read_text())
    assert content["manifest"]["settings"]["batch"] == 4
    assert {row["model"] for row in content["rows"]} == set(names)
    drawn = "".join(ET.fromstring(picture.read_text()).itertext())  # noqa: S314 - made by this test
    assert all(name in drawn for name in names)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--policy", "greedy_rigde"), 2, "did you mean 'greedy_ridge'"),
        (("--top", "50"), 3, "50 of 40 pairs"),
        (("--start", "39"), 3, "40 candidates; take fewer"),
        (("--readout", "R7"), 3, "unknown readout 'R7'"),
        (("--goal", "reach"), 2, "goal"),
        (("--rounds", "0"), 2, "rounds"),
        (("-o", "rows.txt"), 3, "must be a name that ends with .json"),
    ],
)
def test_bad_rules_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, str], code: int, said: str
) -> None:
    given = dict(zip(SMALL[::2], SMALL[1::2], strict=True)) | {words[0]: words[1]}
    rest = [word for name, value in given.items() for word in (name, value)]
    assert command("replay", save(tmp_path), *rest) == code
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_readout_must_be_named_where_there_are_several(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(tmp_path, readouts=2)
    assert command("replay", path, *SMALL, "--policy", "random") == 3
    assert "2 readouts; name one with --readout" in capsys.readouterr().err
