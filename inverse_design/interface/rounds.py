"""The verb ``benchmark rounds``: the calibration card of a finished campaign."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from inverse_design.benchmark.reliability import reliability
from inverse_design.benchmark.rounds import ALL, Rounds, health_of, rounds_rows, uncovered
from inverse_design.interface.console import output, say
from inverse_design.interface.grid import Column, Grid
from inverse_design.interface.numbers import measured
from inverse_design.interface.outputs import check_writable, strict
from inverse_design.interface.provenance import manifest
from inverse_design.interface.round_tables import read_rounds
from inverse_design.interface.run import Run
from inverse_design.interface.tables import reliability_grid
from surrogates.evaluation.rows import Row, write_json
from surrogates.uncertainty.conformal import require_level


def run_rounds(run: Run, results: str, *, level: float, adaptive: bool, seed: int, json: str | None) -> None:
    """Measure whether the bounds that were stated before each round held.

    Args:
        run: The command line.
        results: Table of what was stated and measured.
        level: Nominal probability of the bounds.
        adaptive: Whether their level followed the misses.
        seed: Fixes bootstrap and permutations.
        json: Where to write the rows.
    """
    require_level(level)
    place = None if json is None else check_writable(json, endings=(".json",), inputs=[results])
    rounds = read_rounds(Path(results))
    rows = rounds_rows(rounds, dataset=Path(results).name, seed=seed)
    health = health_of(rounds, level, adaptive=adaptive, seed=seed)
    settings = {"level": level, "adaptive": adaptive, "health": None if health is None else strict(asdict(health))}
    if place is not None:
        write_json(rows, place, manifest=manifest(run, None, seed=seed, settings=settings))
    console = output()
    show_rounds(console, rounds, rows, level)
    said = "it is not known which were drawn at random (column chosen)" if health is None else health.line
    say(console, f"health: {said}")
    if place is not None:
        say(console)
        say(console, f"wrote {place}")


def show_rounds(console: Console, rounds: Rounds, rows: list[Row], level: float) -> None:
    """Print warnings, coverage round by round, and the reliability of probabilities.

    Args:
        console: Where.
        rounds: What was stated and measured.
        rows: The same as numbers.
        level: Nominal probability of the bounds.
    """
    for line in uncovered(rows, level):
        say(console, line, "bold yellow")
    say(console, f"share of measurements within the bounds stated before, nominal {level:g} [exact 95 % interval]")
    rounds_grid(rows).show(console)
    if rounds.probability is None or rounds.hit is None:
        return
    found = {row.metric: row for row in rows if row.variant == ALL}
    say(console)
    reliability_grid(reliability(rounds.probability, rounds.hit)).show(console)
    error = found["ece"]
    say(
        console,
        f"expected calibration error {measured(error.value, error.low, error.high, error.unit)}, by chance"
        f" {found['ece_by_chance'].value:.3f}",
    )


def rounds_grid(rows: list[Row]) -> Grid:
    """Lay coverage out, one line for each round and one for all.

    Args:
        rows: Of :func:`inverse_design.benchmark.rounds.rounds_rows`.

    Returns:
        The table.
    """
    by_place = {(row.variant, row.metric): row for row in rows}
    parts = tuple(dict.fromkeys(row.variant for row in rows))
    columns = [
        Column("round", tuple(part.removeprefix("round ") for part in parts)),
        Column("n", tuple(str(by_place[part, "coverage"].n) for part in parts), "right"),
    ]
    for metric in ("coverage", "coverage_random", "coverage_designed"):
        found = [by_place.get((part, metric)) for part in parts]
        if any(found):
            columns.append(Column(metric.replace("_", ", "), tuple(map(_share, found)), "right"))
    widths = tuple(f"{by_place[part, 'width'].value:.3g}" for part in parts)
    return Grid((*columns, Column("width", widths, "right")))


def _share(row: Row | None) -> str:
    return "-" if row is None else measured(row.value, row.low, row.high, row.unit)
