import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from strategies.worlds import command, save_table, tiny_screen, tiny_table

from inverse_design.screens import concerns, contents, own_readouts, weak_conditions

SCREEN = tiny_screen()


def test_contents() -> None:
    found = contents(SCREEN)
    assert found["conditions"] == "26: 10 singles, 16 doubles, 0 of higher order"
    assert found["targets"] == "10, activation"
    assert found["own genes"] == "10 readouts are also a target"
    assert len(own_readouts(SCREEN)) == 10


def test_weak_conditions_are_those_near_their_error() -> None:
    effects = SCREEN.effects.clone()
    effects[3] *= 1e-3
    assert weak_conditions(replace(SCREEN, effects=effects)) == (SCREEN.labels[3],)
    assert weak_conditions(replace(SCREEN, effects=effects, standard_errors=None)) == ()


def test_missing_singles_are_named() -> None:
    double = SCREEN.batch.genes[-1].tolist()
    kept = [row for row in range(len(SCREEN)) if row not in double]
    said = " ".join(concerns(SCREEN.rows(kept)))
    assert "2 targets are never measured alone" in said
    assert all(SCREEN.vocabulary.entries[each].label in said for each in double)


def test_contexts_that_agree_are_reported_once() -> None:
    twice = replace(
        SCREEN,
        effects=torch.cat([SCREEN.effects, SCREEN.effects]),
        batch=SCREEN.batch.rows(torch.arange(26).repeat(2)),
        contexts=("a",) * 26 + ("b",) * 26,
        standard_errors=None,
        annotations=pd.DataFrame(index=range(52)),
    )
    found = list(concerns(twice))
    assert found[0].startswith("2 contexts: propose and benchmark need --context")
    assert sum("16 doubles" in each for each in found) == 1


def test_the_verb_says_how_the_file_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", save_table(tmp_path)) == 0
    said = capsys.readouterr().out
    for wanted in ("screen.csv", "26: 10 singles", "detected targets", "'condition' (by name)", "worth knowing"):
        assert wanted in said


def test_what_is_in_a_file_is_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", save_table(tmp_path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == "screen.csv"
    assert found["how it was read"]["detected targets"] == "'condition' (by name)"
    assert found["worth knowing"]


def test_reading_options_reach_the_reader(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tiny_table().rename(columns={"condition": "which"})
    table["condition"] = pd.Series(["x", "y"] * 13)
    path = save_table(tmp_path, table)
    words = ("--target-col", "which", "--mode", "knockdown", "--readouts", "G001,G002", "--sep", "+")
    assert command("check", path, *words) == 0
    said = capsys.readouterr().out
    for wanted in ("'which' (as stated)", "knockdown (as stated)", "2: G001, G002", "(as stated)"):
        assert wanted in said
