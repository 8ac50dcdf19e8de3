"""What is said before long work begins: the plan, and one question where it takes long or may not fit."""

import json
import sys

import pandas as pd
from rich.console import Console

from inverse_design.cli.console import MANNER, Manner, complaints, reply, say
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Planning
from inverse_design.errors import CostError
from inverse_design.planning.course import in_words
from inverse_design.planning.plan import Plan
from surrogates.data.io.untrusted.sizes import in_units

LONG = 300.0  # seconds; what takes less, and fits the memory, is done without asking


def settled(plan: Plan, planning: Planning, manner: Manner = MANNER) -> bool:
    """Show a plan if only that is wanted, else ask once before long work; tell whether the work is to be done."""
    if planning.dry_run:
        reply(manner, plan.as_json(), lambda console: show_plan(console, plan))
        return False
    if planning.yes or (plan.seconds <= LONG and plan.fits):
        return True
    said = "; ".join((plan.line, *plan.remedies, *plan.notes))
    if sys.stdin.isatty() and sys.stderr.isatty():
        say(complaints(), said)
        if complaints().input("Proceed? [y/N] ").strip().casefold() in {"y", "yes"}:
            return True
        raise CostError("stopped before anything was fitted")
    raise CostError(
        f"{said}. Proceed? Nothing was fitted yet: repeat the command with --yes, or ask for less: fewer readouts"
        " (--readouts), genes or compounds, or a simpler model"
    )


def show_plan(console: Console, plan: Plan) -> None:
    """Print a plan."""
    say(console, f"plan: {plan.what}")
    Grid((
        Column("stage", (*(stage.name for stage in plan.stages), "in all")),
        Column("time", (*(in_words(stage.seconds) for stage in plan.stages), in_words(plan.seconds)), "right"),
    )).show(console)  # fmt: skip
    if plan.bytes:  # else nothing is known of it
        say(console, f"memory: {in_units(plan.bytes)}, of {in_units(plan.available)} that can be had")
    for line in (*plan.remedies, *plan.notes):
        say(console, line, "yellow")


def rows_of(table: pd.DataFrame) -> object:
    """Lay a table out for programs, a missing value as null."""
    return json.loads(table.to_json(orient="records"))
