"""What ``benchmark retrieval`` prints."""

import math
from collections.abc import Sequence

from jaxtyping import Int
from rich.console import Console
from torch import Tensor

from inverse_design.benchmark.promise import AGREE
from inverse_design.benchmark.reliability import calibration_noise, reliability
from inverse_design.benchmark.retrieval import Retrieval, RetrievalReport
from inverse_design.benchmark.retrieval_methods import DEFAULT, OWN_READOUTS, SIMPLE, YARDSTICK
from inverse_design.benchmark.retrieval_rows import kept_promise
from inverse_design.interface.console import say
from inverse_design.interface.tables import reliability_grid, show_rows
from surrogates.evaluation.rows import Row

# The others are in the JSON.
_SHOWN = ("top1", "top1_gain", "top10", "mrr", "median_rank", "log_probability", "ece")


def show_retrieval(
    console: Console, report: RetrievalReport, rows: Sequence[Row], nodes: Int[Tensor, "n k"], *, seed: int
) -> None:
    """Print where the default does not beat a simpler method, then tables, look-ups, promises and reliability.

    Args:
        console: Where.
        report: What was found.
        rows: The same as numbers.
        nodes: Genes of each target.
        seed: Fixes the draws of what chance would show.
    """
    for reference in (*SIMPLE, OWN_READOUTS):
        for line in _beaten(rows, reference):
            say(console, line, "bold yellow")
    for line in (
        f"yardstick: {YARDSTICK}; ranks among all pairs of measured singles, ties count against the truth",
        "[95 % interval by a bootstrap of genes, which doubles share]  \N{PLUS-MINUS SIGN} dyadic standard error",
        "top1_gain: paired difference to the yardstick; log_probability: of the truth, mean in nats",
    ):
        say(console, line)
    shown = [row for row in rows if row.metric in _SHOWN]
    show_rows(console, sorted(shown, key=lambda row: _SHOWN.index(row.metric)))
    say(console)
    for row in rows:
        if row.model in {OWN_READOUTS, DEFAULT} and row.metric == "top1_both_own":
            what = "of which both genes are readouts"
            say(console, f"{row.model!r} finds {row.value:.3f} of the {row.n} pairs {what}")
    for variant, found in report.found.items():
        _show_promise(console, variant, found[DEFAULT], nodes)
    for variant, found in report.found.items():
        _show_reliability(console, variant, found[DEFAULT], seed=seed)


def _beaten(rows: Sequence[Row], reference: str) -> list[str]:
    """Say where the default does not beat a simpler method."""
    values = {(row.variant, row.model): row.value for row in rows if row.metric == "top1"}
    lines = []
    for variant in dict.fromkeys(variant for variant, _ in values):
        mine, simple = values.get((variant, DEFAULT), math.nan), values.get((variant, reference), math.nan)
        if mine <= simple:
            where = variant.replace("_", " ")
            lines.append(
                f"warning: {DEFAULT!r} does not beat {reference!r} ({where}): top1 {mine:.3f}, {simple:.3f}"
            )
    return lines


def _show_promise(console: Console, variant: str, found: Retrieval, nodes: Int[Tensor, "n k"]) -> None:
    kept = kept_promise(found, nodes)
    if kept is not None:
        style = "bold yellow" if kept.difference < -AGREE else ""
        say(console, f"{DEFAULT!r}, {variant.replace('_', ' ')}: {kept.line}", style)


def _show_reliability(console: Console, variant: str, found: Retrieval, *, seed: int) -> None:
    noise = calibration_noise(found.top_probability, seed=seed)
    say(console)
    say(console, f"reliability of {DEFAULT!r}, {variant.replace('_', ' ')}", "bold")
    reliability_grid(reliability(found.top_probability, found.hit)).show(console)
    say(console, f"perfectly calibrated probabilities would show an ece of {noise:.3f} by chance")
