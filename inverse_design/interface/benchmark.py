"""The verb ``benchmark``: the project's own measurements, on any screen."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from inverse_design.benchmark.forward import MODEL, forward_rows
from inverse_design.benchmark.reliability import calibration_noise, reliability
from inverse_design.benchmark.retrieval import DEFAULT, YARDSTICK, Retrieval, measure_retrieval
from inverse_design.benchmark.search import search_rows
from inverse_design.interface.console import output, say, working
from inverse_design.interface.names import names_a_file
from inverse_design.interface.options import Reading
from inverse_design.interface.outputs import check_writable
from inverse_design.interface.screens import one_context, open_screen
from inverse_design.interface.tables import reliability_grid, show_rows
from surrogates.data.screen import Screen
from surrogates.evaluation.rows import Row, write_json

SIMPLE = ("additive, likelihood", "scaled additive, likelihood")  # of the shipped methods


def run_retrieval(data: str, *, context: str | None, seed: int, json: str | None, reading: Reading) -> None:
    """Measure how often the perturbation behind a held-out state is found.

    Args:
        data: A dataset or file.
        context: Which context, if there are several.
        seed: Fixes everything random.
        json: Where to write the rows.
        reading: How to read a file.
    """
    place = _place(json, data)
    screen = _opened(data, context, reading)
    with working("retrieval: fits") as tick:
        report = measure_retrieval(screen, dataset=screen.provenance["dataset"], seed=seed, progress=tick)
    console = output()
    for reference in (YARDSTICK, *SIMPLE):
        for line in _beaten(report.rows, metric="top1", model=DEFAULT, reference=reference, larger_is_better=True):
            say(console, line, "bold yellow")
    say(
        console, f"yardstick: {YARDSTICK}; ranks among all pairs of measured singles, ties count against the truth"
    )
    say(console, "[95 % bootstrap interval over held-out doubles]; top1_gain: difference to the yardstick")
    show_rows(console, report.rows)
    for variant, found in report.found.items():
        _show_reliability(console, variant, found[DEFAULT], seed=seed)
    _write(console, report.rows, place)


def run_forward(data: str, *, context: str | None, seed: int, json: str | None, reading: Reading) -> None:
    """Measure how well held-out effects are predicted, beside the baselines.

    Args:
        data: A dataset or file.
        context: Which context, if there are several.
        seed: Fixes everything random.
        json: Where to write the rows.
        reading: How to read a file.
    """
    place = _place(json, data)
    screen = _opened(data, context, reading)
    with working("forward: fitting every model on every fold"):
        rows = forward_rows(screen, seed=seed)
    console = output()
    metric = "mse_ratio_to_additive"
    for reference in ("additive", "scaled_additive"):
        for line in _beaten(rows, metric=metric, model=MODEL, reference=reference, larger_is_better=False):
            say(console, line, "bold yellow")
    say(console, "[95 % bootstrap interval over held-out perturbations]")
    show_rows(console, rows)
    _write(console, rows, place)


def run_search(*, genes: int, repeats: int, seed: int, json: str | None) -> None:
    """Measure how long the exact search over all pairs takes.

    Args:
        genes: Number of entries.
        repeats: How often each is timed.
        seed: Fixes the factors.
        json: Where to write the rows.
    """
    place = _place(json, "")
    with working("search: timing"):
        rows = search_rows(genes=genes, repeats=repeats, seed=seed)
    console = output()
    say(console, f"all {math.comb(genes, 2):,} pairs, exact top 1,000, {torch.get_num_threads()} threads")
    say(console, "median [fastest, slowest] of the repeats; seconds, peak memory in MB")
    said = [replace(row, variant=f"{row.variant} dimensions") for row in rows]
    show_rows(console, said)
    _write(console, rows, place)


def _opened(data: str, context: str | None, reading: Reading) -> Screen:
    with working("reading"):
        return one_context(open_screen(data, reading), context)


def _beaten(rows: Sequence[Row], *, metric: str, model: str, reference: str, larger_is_better: bool) -> list[str]:
    """Say where the default does not beat a simpler method."""
    values = {(row.variant, row.model): row.value for row in rows if row.metric == metric}
    lines = []
    for variant in dict.fromkeys(variant for variant, _ in values):
        mine, simple = values.get((variant, model), math.nan), values.get((variant, reference), math.nan)
        if mine <= simple if larger_is_better else mine >= simple:
            where = variant.replace("_", " ")
            lines.append(
                f"warning: {model!r} does not beat {reference!r} ({where}): {metric} {mine:.3f}, {simple:.3f}"
            )
    return lines


def _show_reliability(console: Console, variant: str, found: Retrieval, *, seed: int) -> None:
    noise = calibration_noise(found.top_probability, seed=seed)
    say(console)
    say(console, f"reliability of {DEFAULT!r}, {variant.replace('_', ' ')}", "bold")
    reliability_grid(reliability(found.top_probability, found.hit)).show(console)
    say(console, f"perfectly calibrated probabilities would show an ece of {noise:.3f} by chance")


def _place(json: str | None, data: str) -> Path | None:
    inputs = [data] if names_a_file(data) else []
    return None if json is None else check_writable(json, endings=(".json",), inputs=inputs)


def _write(console: Console, rows: Sequence[Row], place: Path | None) -> None:
    if place is not None:
        write_json(rows, place)
        say(console)
        say(console, f"wrote {place}")
