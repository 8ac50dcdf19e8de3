"""The verb ``replay`` where a state is to be reached: how many rounds each recommender needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from inverse_design.cli.console import Run, output, say, working
from inverse_design.cli.grid import Column, Grid, measured
from inverse_design.cli.options import GameOptions, PlayerOptions, Reading
from inverse_design.cli.outputs import check_writable, manifest
from inverse_design.cli.screens import read_names
from inverse_design.cli.verbs.replay import recommenders_of
from inverse_design.validate.replay_states import (
    BOUNDS,
    ReachBenchmark,
    doubles_benchmark,
    far_pairs_benchmark,
    reach_rows,
)
from surrogates.errors import DataError
from surrogates.evaluation.rows import Row, write_json

BENCHMARKS: Mapping[str, Callable[..., ReachBenchmark]] = {
    "laufer2013": far_pairs_benchmark,
    "norman2019_expr": doubles_benchmark,
}


def is_reach(data: str, rules: GameOptions) -> bool:
    """Say whether a fixed benchmark is asked for: its data, and no rules of the user's own."""
    return data in BENCHMARKS and rules == GameOptions()


def run_reach_replay(
    run: Run,
    data: str,
    *,
    context: str | None,
    players: PlayerOptions,
    destination: str | None,
    figure: str | None,
    reading: Reading,
) -> None:
    """Play a benchmark, print who reached how much, and write the numbers.

    Raises:
        DataError: If a number of seeds, a picture, a context or ways of reading are asked for.
    """
    if players.seeds != PlayerOptions().seeds or figure is not None or context is not None or reading != Reading():
        raise DataError(
            f"replay of {data!r} has its own data and one game for each target; leave --seeds,"
            " --figure, --context and options for reading a file out, or name a --readout"
        )
    seed, workers = players.seed, players.workers
    place = None if destination is None else check_writable(destination, endings=(".json",), inputs=[])
    benchmark = BENCHMARKS[data](seed=seed)
    if players.policy:
        named = recommenders_of(read_names(players.policy))
        benchmark = replace(benchmark, recommenders=named, ours=next(iter(named)))
    with working(f"replay: {len(benchmark.recommenders)} policies, {len(benchmark.environments)} targets"):
        _, results = benchmark.play(seed=seed, workers=workers)
    rows = reach_rows(results, dataset=data, ours=benchmark.ours, level=BOUNDS, seed=seed)
    console = output()
    show_reach_replay(console, benchmark, rows)
    if place is not None:
        settings = {"tolerance": benchmark.tolerance, "known": benchmark.known}
        write_json(
            rows, place, manifest=manifest(run, benchmark.environments[0].screen, seed=seed, settings=settings)
        )
        say(console, f"wrote {place}")


def show_reach_replay(console: Console, benchmark: ReachBenchmark, rows: Sequence[Row]) -> None:
    """Print how soon each recommender reached the targets."""
    first = benchmark.environments[0]
    say(console, f"{benchmark.dataset}: {len(benchmark.environments)} targets among {len(first)} combinations")
    say(
        console,
        f"{first.rounds} rounds of {first.count}; a target not reached counts as {first.rounds + 1} rounds",
    )
    say(console, f"known from the start: {benchmark.known}; reached within {benchmark.tolerance:.3g} (rms)")
    reach_grid(rows, benchmark.ours).show(console)


def reach_grid(rows: Sequence[Row], ours: str) -> Grid:
    """Lay the results out, one line for each recommender."""
    names = tuple(dict.fromkeys(row.model for row in rows))
    # The last row of a metric is that after the last round.
    found = {(row.model, row.metric): row for row in rows}
    shown = {
        "rounds": "rounds [95 % interval]",
        "arrived": "reached",
        "regret": "distance left",
        "rounds_more": f"more rounds than {ours}",
        "coverage": f"coverage of {BOUNDS:.0%} bounds",
    }
    columns = [Column("policy", names)]
    for metric, header in shown.items():
        cells = tuple(_cell(found.get((name, metric))) for name in names)
        columns.append(Column(header, cells, "right"))
    return Grid(tuple(columns))


def _cell(row: Row | None) -> str:
    return "-" if row is None else measured(row.value, row.low, row.high, row.unit)
