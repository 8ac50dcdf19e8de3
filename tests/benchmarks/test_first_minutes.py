"""The commands of a new user, as they are timed; ``python -m benchmarks first_minutes`` runs them."""

from pathlib import Path

from benchmarks.timing.first_minutes import commands, measure
from inverse_design.cli.app import app


def test_each_command_is_one_of_the_command_line() -> None:
    for words in commands("screen.csv", "target.csv")[1:]:
        verb, *_ = app.parse_args(list(words), exit_on_error=False, print_error=False)
        assert verb.__name__ == words[0]


def test_each_is_timed(tmp_path: Path) -> None:
    ((clock, worked),) = measure((("--version",),), tmp_path)
    assert 0 < clock < 60
    assert 0 < worked < 60
