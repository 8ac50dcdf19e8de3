"""Rounds until a state is reached, on two public screens: the profile of a pair, as if it were not known which.

``laufer2013``: far pairs from random ones, without single effects. ``norman2019_expr``: doubles from singles.
Other policies than those of the protocol are named as for ``inverse-design replay``.

Run: python -m benchmarks reach_states laufer2013 --workers 2 --json reach_states.json
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from benchmarks.reach_states.protocol import (
    BOUNDS,
    ReachBenchmark,
    doubles_benchmark,
    far_pairs_benchmark,
    reach_rows,
)
from inverse_design.cli.console import output, say, working
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.verbs.calibration import cell
from inverse_design.cli.verbs.replay import recommenders_of
from surrogates.evaluation.intervals import Row, write_json

BENCHMARKS: Mapping[str, Callable[..., ReachBenchmark]] = {
    "laufer2013": far_pairs_benchmark,
    "norman2019_expr": doubles_benchmark,
}


def main() -> None:
    """Play, print how soon each policy reached the targets, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=BENCHMARKS)
    parser.add_argument("--policies", nargs="+", help="instead of those of the protocol; the first is compared")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    benchmark = BENCHMARKS[asked.dataset](seed=asked.seed)
    if asked.policies:
        benchmark = replace(benchmark, recommenders=recommenders_of(asked.policies), ours=asked.policies[0])
    with working(f"{len(benchmark.recommenders)} policies, {len(benchmark.environments)} targets"):
        _, results = benchmark.play(seed=asked.seed, workers=asked.workers)
    rows = reach_rows(results, dataset=asked.dataset, ours=benchmark.ours, level=BOUNDS, seed=asked.seed)
    show_reach_replay(output(), benchmark, rows)
    if asked.json:
        write_json(rows, asked.json)


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
        cells = tuple(cell(found.get((name, metric))) for name in names)
        columns.append(Column(header, cells, "right"))
    return Grid(tuple(columns))


if __name__ == "__main__":
    main()
