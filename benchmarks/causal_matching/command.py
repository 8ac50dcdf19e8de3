"""Simulated causal worlds: how near a target mean each policy comes.

Run: python -m benchmarks causal_matching --workers 2 --figure distances.svg
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.causal_matching.figure import distances_figure
from benchmarks.causal_matching.protocol import BOUNDS, CausalProtocol, causal_protocol
from benchmarks.causal_matching.replay import ShiftTrace
from benchmarks.causal_matching.rows import (
    AT_END,
    COVERAGE,
    DISTANCE,
    EVERY_ROUND,
    EXPECTED,
    MORE,
    NEAREST,
    OVERALL,
    PLUG_IN,
    TIMES,
    causal_rows,
)
from inverse_design.cli.console import output, say, working
from inverse_design.cli.grid import Column, Grid
from inverse_design.numbers import measured
from inverse_design.plot.style import write_figure
from surrogates.evaluation.intervals import Row, write_json

CAUSAL = "causal"
_Played = Mapping[str, Mapping[str, Sequence[ShiftTrace]]]


def main() -> None:
    """Play the protocol, print how near each policy came, and write the numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=100, help="of the first world")
    parser.add_argument("--worlds", type=int, default=20, help="of each family")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--figure", type=Path, help="where to draw the curves, as .svg, .png or .pdf")
    asked = parser.parse_args()
    protocol = causal_protocol(seed=asked.seed, worlds=asked.worlds)
    with working(f"replay: {len(protocol.players)} policies, {asked.worlds} worlds of each family"):
        played = protocol.play(workers=asked.workers)
    rows = causal_rows(played, ours=protocol.ours, level=BOUNDS, seed=asked.seed)
    show_causal(output(), protocol, rows, played)
    if asked.json:
        write_json(rows, asked.json)
    if asked.figure:
        title = "Squared distance to the target mean, as a share of no shift"
        write_figure(distances_figure(rows, title=title), asked.figure)


def show_causal(console: Console, protocol: CausalProtocol, rows: Sequence[Row], played: _Played) -> None:
    """Print how near each policy came, family by family.

    Args:
        console: Where.
        protocol: What was played.
        rows: Of :func:`benchmarks.causal_matching.rows.causal_rows`.
        played: How it was played, for the time.
    """
    first = next(iter(protocol.games.values()))
    game = first[0]
    say(
        console,
        f"causal target matching: {len(first)} worlds of each family, {len(game.target)} genes, noise"
        f" {game.world.noise:g}; no shift is longer than {game.budget:g}; {game.rounds} rounds of {game.count}",
    )
    say(
        console,
        "squared distance of the true mean to the target under the recommended shift, as a share of that without a"
        " shift [95 % interval over worlds]",
    )
    say(
        console,
        "every policy recommends by the same posterior, the shift of least expected distance; only the experiments"
        " differ",
    )
    for family in protocol.games:
        of_family = [row for row in rows if row.dataset == f"{CAUSAL} {family}"]
        start = next(row for row in of_family if row.metric == DISTANCE)
        say(console, "")
        say(console, f"{family}: {start.value:.3f} before any experiment")
        causal_grid(of_family, played[family], protocol.ours).show(console)


def causal_grid(rows: Sequence[Row], played: Mapping[str, Sequence[ShiftTrace]], ours: str) -> Grid:
    """Lay the results of one family out, one line for each policy.

    Args:
        rows: Of one family.
        played: By player, for the time.
        ours: The policy that the others are compared with.

    Returns:
        The table.
    """
    names = tuple(dict.fromkeys(row.model for row in rows))
    curves = {name: [row for row in rows if row.model == name and row.metric == DISTANCE] for name in names}
    rounds = len(curves[names[0]]) - 1
    columns = [Column("policy", names)]
    for number in sorted({1, max(1, rounds // 4), max(1, rounds // 2)} - {rounds}):
        cells = tuple(f"{curves[name][number].value:.4f}" for name in names)
        columns.append(Column(f"{curves[names[0]][number].variant}", cells, "right"))
    columns.append(
        Column(curves[names[0]][-1].variant, tuple(_small(curves[name][-1]) for name in names), "right")
    )
    found = {(row.model, row.metric, row.variant.partition(",")[0]): row for row in rows}
    for metric, variant, header in (
        (MORE, AT_END, f"more than {ours}"),
        (TIMES, AT_END, f"times {ours}"),
        (TIMES, OVERALL, "times, mean of rounds"),
    ):
        show = _small if metric == MORE else _cell
        columns.append(Column(header, tuple(show(found.get((name, metric, variant))) for name in names), "right"))
    # The last row of a metric is that after the last round.
    last = {(row.model, row.metric): row for row in rows}
    for metric, header in ((EXPECTED, "as stated"), (PLUG_IN, "plug-in"), (NEAREST, "nearest measured")):
        columns.append(Column(header, tuple(f"{last[name, metric].value:.4f}" for name in names), "right"))
    held = {row.model: row for row in rows if row.metric == COVERAGE and row.variant.endswith(EVERY_ROUND)}
    columns.append(
        Column(f"coverage of {BOUNDS:.0%} bounds", tuple(f"{held[name].value:.2f}" for name in names), "right")
    )
    cells = tuple(f"{sum(trace.seconds for trace in played[name]) / len(played[name]):.1f}" for name in names)
    return Grid((*columns, Column("s per game", cells, "right")))


def _small(row: Row | None) -> str:
    return "-" if row is None else f"{row.value:.4f} [{row.low:.4f}, {row.high:.4f}]"


def _cell(row: Row | None) -> str:
    return "-" if row is None else measured(row.value, row.low, row.high, row.unit)
