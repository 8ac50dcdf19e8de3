"""The tables and sentences that the verbs of a campaign print."""

import math
from collections.abc import Sequence

import pandas as pd
import torch
from rich.console import Console

from inverse_design.benchmark.rounds import Rounds, rounds_rows, uncovered
from inverse_design.campaign.batch import Batch
from inverse_design.campaign.outcomes import MEASURED
from inverse_design.campaign.results import ROUND
from inverse_design.campaign.state import STATES
from inverse_design.campaign.stop import Advice
from inverse_design.campaign.telling import Telling
from inverse_design.interface.console import say
from inverse_design.interface.grid import Column, Grid
from inverse_design.interface.numbers import decimals_for, fixed, in_column, probability
from inverse_design.interface.rounds import rounds_grid

_BOUNDED = ("predicted", "lower", "upper")
# These stand in every row alike, or speak to programs.
_HIDDEN = ("campaign", "round", "log_probability")
_SHOWN = 8


def batch_grid(batch: Batch) -> Grid:
    """Lay the experiments of a round out.

    Args:
        batch: The round.

    Returns:
        What the planner said of each, and its state where that is no longer ``proposed``.
    """
    table = batch.table.drop(columns=[name for name in _HIDDEN if name in batch.table])
    decimals = decimals_for([float(value) for name in _BOUNDED if name in table for value in table[name]])
    columns = []
    for name in map(str, table):
        values = table[name].tolist()
        if name in _BOUNDED:
            columns.append(Column(name, tuple(fixed(float(value), decimals) for value in values), "right"))
        elif name == "probability":
            columns.append(Column(name, tuple(probability(float(value)) for value in values), "right"))
        elif pd.api.types.is_float_dtype(table[name]):
            columns.append(Column(name, in_column(values), "right"))
        else:
            columns.append(Column(name, tuple(map(str, values)), below=name == "reason"))
    if set(batch.states) != {"proposed"}:
        columns.insert(1, Column("state", tuple(batch.states)))
    return Grid(tuple(columns))


def history_grid(history: pd.DataFrame) -> Grid:
    """Lay the events of a campaign out.

    Args:
        history: Of a campaign.

    Returns:
        One row per event.
    """
    return Grid((
        Column("event", tuple(map(str, history["sequence"])), "right"),
        Column("time", tuple(history["time"])),
        Column("actor", tuple(history["actor"])),
        Column("kind", tuple(history["kind"])),
        Column("what", tuple(history["what"]), below=True),
    ))  # fmt: skip


def states_grid(batches: Sequence[Batch]) -> Grid:
    """Count the experiments of each round by their state.

    Args:
        batches: The rounds.

    Returns:
        One row per round, with its expected gain.
    """
    gains = in_column([math.nan if each.expected_gain is None else each.expected_gain for each in batches])
    return Grid((
        Column("round", tuple(str(each.round) for each in batches), "right"),
        *(Column(state, tuple(str(each.states.count(state)) for each in batches), "right") for state in STATES),
        Column("expected_gain", gains, "right"),
    ))  # fmt: skip


def show_coverage(console: Console, outcomes: pd.DataFrame, level: float) -> None:
    """Print how often the bounds held that were stated before each round.

    Args:
        console: Where.
        outcomes: Of a campaign.
        level: Nominal probability of the bounds.
    """
    known = outcomes.dropna(subset=["lower", "upper", MEASURED])
    if known.empty:
        say(console, "no experiment with stated bounds has been measured yet", "dim")
        return
    numbers = {name: torch.tensor(known[name].to_numpy(float)) for name in ("lower", "upper", MEASURED)}
    rounds = Rounds(
        number=torch.tensor(known[ROUND].to_numpy(int)),
        **numbers,
        random=None
        if known["chosen"].isna().any()
        else torch.tensor((known["chosen"] == "random").to_numpy(bool)),
    )
    rows = rounds_rows(rounds, dataset="campaign", seed=0)
    for line in uncovered(rows, level):
        say(console, line, "bold yellow")
    say(console, f"share of measurements within the bounds stated before, nominal {level:g} [exact 95 % interval]")
    rounds_grid(rows).show(console)


def show_advice(console: Console, advice: Advice) -> None:
    """Say whether a round is worth it.

    Args:
        console: Where.
        advice: Of a campaign.
    """
    say(console, f"advice: {'stop' if advice.stop else 'go on'}: {advice.reason}", "bold" if advice.stop else "")


def show_telling(console: Console, telling: Telling) -> None:
    """Say what became of a told table, what is odd about it first.

    Args:
        console: Where.
        telling: Of a campaign.
    """
    for sentence in telling.flagged:
        say(console, f"warning: out of scale: {sentence}", "bold yellow")
    say(console, telling.words)
    for what, names in (("failed", telling.failed), ("not asked for", telling.extra)):
        if names:
            say(console, f"{what}: {listed(names)}")


def listed(names: Sequence[str]) -> str:
    """Write some names, not more than a line holds.

    Args:
        names: Any number of names.

    Returns:
        The first ones, and how many more there are.
    """
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
