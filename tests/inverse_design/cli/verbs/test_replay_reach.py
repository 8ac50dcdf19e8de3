"""The table of rounds that recommenders need."""

from typing import Any

import pytest

from inverse_design.cli.console import Run
from inverse_design.cli.options import GameOptions, PlayerOptions, Reading
from inverse_design.cli.verbs.replay import is_reach, reach_grid, run_reach_replay
from surrogates.errors import DataError
from surrogates.evaluation.intervals import Row


def test_a_recommender_has_one_line_with_its_last_distance() -> None:
    def row(model: str, metric: str, value: float, variant: str = "") -> Row:
        return Row("replay", "d", model, "", variant, metric, value, value - 1, value + 1, 9, "rounds")

    rows = [
        row("random", "rounds", 7.5),
        row("random", "regret", 3.0, "round 0"),
        row("random", "regret", 2.25, "round 1"),
        row("random", "rounds_more", 4.5),
        row("mine", "rounds", 3.0),
    ]
    grid = reach_grid(rows, "mine")
    by_header = {column.header: column.cells for column in grid.columns}
    assert by_header["policy"] == ("random", "mine")
    assert by_header["distance left"][0].startswith("2.2")
    assert by_header["more rounds than mine"][1] == "-"


def test_a_fixed_benchmark_is_played_unless_there_are_rules() -> None:
    assert is_reach("laufer2013", GameOptions())
    assert not is_reach("laufer2013", GameOptions(readout="count"))
    assert not is_reach("norman2019_fitness", GameOptions())


def played(**stated: Any) -> None:
    usual = {
        "context": None,
        "players": PlayerOptions(),
        "destination": None,
        "figure": None,
        "reading": Reading(),
    }
    run_reach_replay(Run(), "laufer2013", **{**usual, **stated})


def test_what_a_fixed_benchmark_cannot_do_is_refused() -> None:
    with pytest.raises(DataError, match="leave --seeds"):
        played(players=PlayerOptions(seeds=3))
    with pytest.raises(DataError, match=r"leave .*--context"):
        played(context="K562")
    with pytest.raises(DataError, match="options for reading a file"):
        played(reading=Reading(sep="+"))
