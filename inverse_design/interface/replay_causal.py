"""The verb ``replay`` on simulated causal worlds: how near a target mean each policy comes."""

from collections.abc import Mapping, Sequence

from rich.console import Console

from inverse_design.benchmark.causal_protocol import BOUNDS, CausalProtocol, causal_protocol
from inverse_design.benchmark.causal_rows import (
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
from inverse_design.campaign.shift_replay import ShiftTrace
from inverse_design.interface.console import output, say, working
from inverse_design.interface.figures import write_svg
from inverse_design.interface.grid import Column, Grid
from inverse_design.interface.numbers import measured
from inverse_design.interface.options import Reading
from inverse_design.interface.outputs import check_writable
from inverse_design.interface.provenance import manifest
from inverse_design.interface.replay_causal_figure import distances_svg
from inverse_design.interface.replay_options import GameOptions, PlayerOptions
from inverse_design.interface.run import Run
from surrogates.errors import DataError
from surrogates.evaluation.rows import Row, write_json

CAUSAL = "causal"
_Played = Mapping[str, Mapping[str, Sequence[ShiftTrace]]]


def run_causal(
    run: Run,
    *,
    context: str | None,
    rules: GameOptions,
    players: PlayerOptions,
    destination: str | None,
    figure: str | None,
    reading: Reading,
) -> None:
    """Play the protocol, print how near each policy came, and write the numbers and the picture.

    Args:
        run: The command line.
        context: Must be ``None``: the worlds are simulated.
        rules: Must be the default: the protocol has its own.
        players: How many worlds of each family, the seed of the first, and processes; policies are those of the
            protocol.
        destination: Where to write the rows.
        figure: Where to draw the curves.
        reading: Must be the default: no file is read.

    Raises:
        DataError: If rules, policies or a context are asked for, or it is said how to read a file.
    """
    if context is not None or players.policy or rules != GameOptions() or reading != Reading():
        raise DataError(
            f"replay of {CAUSAL!r} has its own rules and policies, and reads no file; leave --policy, --readout,"
            " --goal, --start, --rounds, --batch, --top, --context and how to read a file out (--seeds is the"
            " number of worlds)"
        )
    place = None if destination is None else check_writable(destination, endings=(".json",), inputs=[])
    drawn = None if figure is None else check_writable(figure, endings=(".svg",), inputs=[])
    protocol = causal_protocol(seed=players.seed, worlds=players.seeds)
    with working(f"replay: {len(protocol.players)} policies, {players.seeds} worlds of each family"):
        played = protocol.play(workers=players.workers)
    rows = causal_rows(played, ours=protocol.ours, level=BOUNDS, seed=players.seed)
    console = output()
    show_causal(console, protocol, rows, played)
    if place is not None:
        settings = {**protocol.settings, "workers": players.workers}
        write_json(rows, place, manifest=manifest(run, None, seed=players.seed, settings=settings))
        say(console, f"wrote {place}")
    if drawn is not None:
        write_svg(distances_svg(rows, title="Squared distance to the target mean, as a share of no shift"), drawn)
        say(console, f"wrote {drawn}")


def show_causal(console: Console, protocol: CausalProtocol, rows: Sequence[Row], played: _Played) -> None:
    """Print how near each policy came, family by family.

    Args:
        console: Where.
        protocol: What was played.
        rows: Of :func:`inverse_design.benchmark.causal_rows.causal_rows`.
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
