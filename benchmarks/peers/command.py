"""The table of ``python -m benchmarks peers``: other searches for the same pair, at growing sizes."""

import math
from collections.abc import Sequence

from rich.console import Console

from benchmarks.peers.growth import MARK
from inverse_design.cli.console import say
from inverse_design.cli.grid import Column, Grid
from surrogates.evaluation.intervals import Row

_HEADERS = {
    "seconds": "seconds",
    "cpu_seconds": "CPU s",
    "peak_mb": "MB",
    "cpu_ratio": "x exact",
    "top1": "top 1",
    "topk": "top k",
    "worth": "worth",
}


_LEGEND = (
    "seconds: wall time; MB: peak memory beyond the libraries; x exact: CPU time over that of exact_scan",
    "top 1, top k: share of the right pairs, by numpy_loop; worth: of the first pair, as a share of the best",
    "triples: those nearest to a target by bounds, with proof if not stopped; the others by their lines for pairs",
    f"{MARK} not run, but read off the line through the sizes that are named",
)


def show_peers(console: Console, rows: Sequence[Row], *, threads: int, k: int) -> None:
    """Print what was measured, and say what it means.

    Args:
        console: Where.
        rows: Of the benchmark.
        threads: That each method had.
        k: How many pairs were asked for.
    """
    say(
        console, f"the best {k} pairs by expected improvement over an ensemble; {threads} threads, fresh processes"
    )
    for line in _LEGEND:
        say(console, line)
    for task in dict.fromkeys((row.dataset, row.variant) for row in rows):
        say(console)
        say(console, ", ".join(task), "bold")
        peers_grid([row for row in rows if (row.dataset, row.variant) == task]).show(console)


def peers_grid(rows: Sequence[Row]) -> Grid:
    """Lay the methods at one size out.

    Args:
        rows: Of one size.

    Returns:
        One line per method.
    """
    models = tuple(dict.fromkeys(row.model for row in rows))
    by_place = {(row.model, row.metric): row for row in rows}
    names, sources = zip(*((name, source) for name, _, source in map(_parted, models)), strict=True)
    columns = [Column("method", names)]
    for metric in (metric for metric in _HEADERS if any(row.metric == metric for row in rows)):
        cells = tuple(_cell(by_place.get((model, metric))) for model in models)
        columns.append(Column(_HEADERS[metric], cells, "right"))
    return Grid((*columns, Column("", sources, below=True)))


def _parted(model: str) -> tuple[str, str, str]:
    return model.removeprefix(MARK).strip().partition(", ")


def _cell(row: Row | None) -> str:
    """Write three digits, and the mark of what was not measured."""
    if row is None:
        return "-"
    digits = 2 - math.floor(math.log10(row.value)) if row.value > 0 else 2
    text = f"{row.value:,.{min(max(digits, 0), 4)}f}"
    return text if row.n else f"{MARK} {text}"
