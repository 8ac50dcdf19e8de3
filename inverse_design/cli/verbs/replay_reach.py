"""The verb ``replay`` where a state is to be reached: how many rounds each policy needs."""

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from inverse_design.cli.console import Run, output, say, working
from inverse_design.cli.grid import Column, Grid, measured
from inverse_design.cli.options import GameOptions, PlayerOptions, Reading
from inverse_design.cli.outputs import check_writable, manifest
from inverse_design.validate.replay_states import (
    BOUNDS,
    ReachProtocol,
    doubles_protocol,
    far_pairs_protocol,
    reach_rows,
)
from surrogates.errors import DataError
from surrogates.evaluation.rows import Row, write_json

PROTOCOLS: Mapping[str, Callable[..., ReachProtocol]] = {
    "laufer2013": far_pairs_protocol,
    "norman2019_expr": doubles_protocol,
}


def is_reach(data: str, rules: GameOptions) -> bool:
    """Say whether a fixed protocol is asked for: its data, and no rules of the user's own."""
    return data in PROTOCOLS and rules == GameOptions()


def run_reach(
    run: Run,
    data: str,
    *,
    context: str | None,
    players: PlayerOptions,
    destination: str | None,
    figure: str | None,
    reading: Reading,
) -> None:
    """Play a protocol, print who reached how much, and write the numbers.

    Raises:
        DataError: If policies, a number of seeds, a picture, a context or ways of reading are asked for.
    """
    played = players.policy or players.seeds != PlayerOptions().seeds
    if played or figure is not None or context is not None or reading != Reading():
        raise DataError(
            f"replay of {data!r} has its own data, policies and one game for each target; leave --policy, --seeds,"
            " --figure, --context and options for reading a file out, or name a --readout"
        )
    seed, workers = players.seed, players.workers
    place = None if destination is None else check_writable(destination, endings=(".json",), inputs=[])
    protocol = PROTOCOLS[data](seed=seed)
    with working(f"replay: {len(protocol.policies)} policies, {len(protocol.games)} targets"):
        _, results = protocol.play(seed=seed, workers=workers)
    rows = reach_rows(results, dataset=data, ours=protocol.ours, level=BOUNDS, seed=seed)
    console = output()
    show_reach(console, protocol, rows)
    if place is not None:
        settings = {"tolerance": protocol.tolerance, "known": protocol.known}
        write_json(rows, place, manifest=manifest(run, protocol.games[0].screen, seed=seed, settings=settings))
        say(console, f"wrote {place}")


def show_reach(console: Console, protocol: ReachProtocol, rows: Sequence[Row]) -> None:
    """Print how soon each policy reached the targets."""
    game = protocol.games[0]
    say(console, f"{protocol.dataset}: {len(protocol.games)} targets among {len(game.pool)} combinations")
    say(console, f"{game.rounds} rounds of {game.count}; a target not reached counts as {game.rounds + 1} rounds")
    say(console, f"known from the start: {protocol.known}; reached within {protocol.tolerance:.3g} (rms)")
    reach_grid(rows, protocol.ours).show(console)


def reach_grid(rows: Sequence[Row], ours: str) -> Grid:
    """Lay the results out, one line for each policy."""
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
