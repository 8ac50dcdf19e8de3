"""The verbs ``campaign retract`` and ``correct``: results that were wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.retract import reason_of
from inverse_design.campaign.wells import COUNTS
from inverse_design.cli.campaign.options import Place
from inverse_design.cli.campaign.place import open_campaign
from inverse_design.cli.campaign.report import listed, say_what_is_open
from inverse_design.cli.campaign.results import read_results
from inverse_design.cli.console import output, say, working
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Reading
from surrogates.errors import DataError

_MOST_SHOWN = 40


@dataclass(frozen=True)
class Chosen:
    """Which wells are to be taken back; all that is stated must hold."""

    names: Sequence[str] = ()  # labels of perturbations; none for all
    round_number: int | None = None
    replicate: str | None = None
    event: int | None = None
    results: str | None = None  # a file of results


def run_retract(chosen: Chosen, *, place: Place, reason: str, yes: bool, reading: Reading) -> None:
    """Show what would be taken back, and take it back if that is confirmed."""
    if chosen == Chosen():
        raise DataError(
            "say what is to be taken back: experiments (A+B), --round, --replicate, --event or --results"
        )
    reason_of(reason)
    campaign = open_campaign(place)
    wells = _wells(campaign, chosen, reading)
    counting = wells[wells["state"] == COUNTS]
    console = output()
    if len(counting):
        _preview(counting).show(console)
        if len(counting) > _MOST_SHOWN:
            say(console, f"and {len(counting) - _MOST_SHOWN} more wells")
        say(console)
        if not yes:
            raise DataError(
                f"nothing has changed; to take these {len(counting)} wells back, repeat this with --yes"
            )
    done = campaign.retract(wells, reason=reason)
    say(console, done.words)
    if done.waiting:
        say(console, f"measure again, or withdraw: {listed(done.waiting)}")
    say_what_is_open(console, campaign)


def run_correct(results: str, *, place: Place, reason: str, extreme: bool, reading: Reading) -> None:
    """Replace the values of wells."""
    campaign = open_campaign(place)
    with working("reading"):
        table = read_results(results, reading, campaign.readouts)
    done = campaign.correct(table, reason=reason, accept_extreme=extreme)
    console = output()
    for sentence in done.flagged:
        say(console, f"warning: out of scale: {sentence}", "bold yellow")
    say(console, done.words)
    say_what_is_open(console, campaign)


def _wells(campaign: Campaign, chosen: Chosen, reading: Reading) -> pd.DataFrame:
    table = None
    if chosen.results is not None:
        with working("reading"):
            table = read_results(chosen.results, reading, campaign.readouts)
    found = campaign.wells(
        list(chosen.names) or None,
        round_number=chosen.round_number,
        replicate=chosen.replicate,
        event=chosen.event,
        results=table,
    )
    if found.empty:
        raise DataError("no well was recorded of what is stated; `campaign history` lists what was")
    return found


def _preview(wells: pd.DataFrame) -> Grid:
    shown = wells.iloc[:_MOST_SHOWN]
    columns = [
        Column(name, tuple(map(str, shown[name])), "right")
        for name in ("perturbation", "replicate", "round", "event")
    ]
    failed = tuple("failed" if each else "measured" for each in shown["failed"])
    return Grid((*columns, Column("result", failed)))
