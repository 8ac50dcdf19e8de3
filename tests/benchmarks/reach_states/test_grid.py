"""The table of rounds that recommenders need."""

from benchmarks.reach_states.__main__ import reach_grid
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
