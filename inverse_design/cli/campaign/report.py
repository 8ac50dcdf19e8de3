"""The verbs ``campaign status`` and ``campaign history``, and the tables of a campaign."""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace

import pandas as pd
from rich.console import Console

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.record_results import Telling
from inverse_design.campaign.rounds import Batch
from inverse_design.campaign.status import Advice, Status, facts_of, in_figures
from inverse_design.campaign.store.events import STATES
from inverse_design.cli.campaign.options import CampaignPlace
from inverse_design.cli.campaign.place import open_campaign
from inverse_design.cli.console import Manner, Run, reply, say, show_facts, show_warnings, working
from inverse_design.cli.grid import Column, Grid, grid_of
from inverse_design.cli.outputs import PAGE_ENDING, check_writable
from inverse_design.cli.plans import rows_of
from inverse_design.errors import NothingToProposeError
from inverse_design.numbers import in_column, measured
from surrogates.errors import some_of
from surrogates.evaluation.intervals import Row
from surrogates.fit_cache import FitCache

_BOUNDED = ("predicted", "lower", "upper")
# These stand in every row alike, or speak to programs.
_HIDDEN = ("campaign", "round", "log_probability")


def batch_grid(batch: Batch) -> Grid:
    """Lay the experiments of a round out."""
    table = batch.table.drop(columns=[name for name in _HIDDEN if name in batch.table])
    if set(batch.states) != {"proposed"}:
        table.insert(1, "state", list(batch.states))
    return grid_of(table, _BOUNDED)


def history_grid(history: pd.DataFrame) -> Grid:
    """Lay the events of a campaign out."""
    return Grid((
        Column("event", tuple(map(str, history["sequence"])), "right"),
        Column("time", tuple(history["time"])),
        Column("actor", tuple(history["actor"])),
        Column("kind", tuple(history["kind"])),
        Column("what", tuple(history["what"]), below=True),
    ))  # fmt: skip


def states_grid(batches: Sequence[Batch]) -> Grid:
    """Count the experiments of each round by their state."""
    gains = in_column([math.nan if each.expected_gain is None else each.expected_gain for each in batches])
    return Grid((
        Column("round", tuple(str(each.round) for each in batches), "right"),
        *(Column(state, tuple(str(each.states.count(state)) for each in batches), "right") for state in STATES),
        Column("expected_gain", gains, "right"),
    ))  # fmt: skip


def show_coverage(console: Console, rows: list[Row], level: float) -> None:
    """Print how often bounds held."""
    if not rows:
        say(console, "no experiment with stated bounds has been measured yet", "dim")
        return
    say(console, f"share of measurements within the bounds stated before, nominal {level:g} [exact 95 % interval]")
    rounds_grid(rows).show(console)


def rounds_grid(rows: list[Row]) -> Grid:
    """Lay coverage out, one line for each round and one for all."""
    by_place = {(row.variant, row.metric): row for row in rows}
    parts = tuple(dict.fromkeys(row.variant for row in rows))
    columns = [
        Column("round", tuple(part.removeprefix("round ") for part in parts)),
        Column("n", tuple(str(by_place[part, "coverage"].n) for part in parts), "right"),
    ]
    for metric in ("coverage", "coverage_random", "coverage_designed"):
        found = [by_place.get((part, metric)) for part in parts]
        if any(found):
            columns.append(Column(metric.replace("_", ", "), tuple(map(_share, found)), "right"))
    widths = tuple(f"{by_place[part, 'width'].value:.3g}" for part in parts)
    return Grid((*columns, Column("width", widths, "right")))


def show_advice(console: Console, advice: Advice) -> None:
    """Say whether a round is worth it."""
    say(console, f"advice: {'stop' if advice.stop else 'go on'}: {advice.reason}", "bold" if advice.stop else "")


def show_telling(console: Console, telling: Telling) -> None:
    """Say what became of a table of results, what is odd about it first."""
    for sentence in telling.flagged:
        say(console, f"warning: out of scale: {sentence}", "bold yellow")
    say(console, telling.words)
    if telling.retracted:
        said = "warning: wells that were retracted or corrected before are left out; if they were right after all,"
        say(console, f"{said} take them again with `campaign correct FILE --reason ...`", "bold yellow")
    for what, names in (("failed", telling.failed), ("not asked for", telling.extra)):
        if names:
            say(console, f"{what}: {some_of(names)}")


def say_what_is_open(console: Console, campaign: Campaign) -> None:
    """Say which results are still to come."""
    still = campaign.status().open
    to_come = f"{len(still)} results to come: {some_of(still)}"
    say(console, to_come if still else "the round is complete: ask for the next")


def run_status(*, place: CampaignPlace, quick: bool, cache: FitCache | None, manner: Manner) -> None:
    """Print where a campaign stands, and whether another round is worth it."""
    campaign = replace(open_campaign(place), cache=cache)
    status = campaign.status()
    rounds = [campaign.batch(number) for number in range(1, status.rounds + 1)]
    rows, missed = list[Row](), list[str]()
    if status.counts.get("measured"):
        from inverse_design.validate.campaigns import coverage_of  # noqa: PLC0415 - where there are results

        rows, missed = coverage_of(campaign)
    warnings = [*missed, *(f"warning: {each}" for each in status.oddities)]
    said, advice = _prospect(campaign, status, quick=quick)
    facts = {
        "verdict": status.verdict,
        "warnings": warnings,
        **campaign_facts(campaign),
        "status": asdict(status),
        "rounds": [
            {
                "number": each.round,
                "expected_gain": each.expected_gain,
                "table": rows_of(each.table.assign(state=list(each.states))),
            }
            for each in rounds
        ],
        "coverage": [row.to_dict() for row in rows],
        "advice": None if advice is None else asdict(advice),
    }

    def show(console: Console) -> None:
        say(console, status.verdict, "bold")
        show_warnings(console, warnings)
        show_facts(console, facts_of(status, campaign.settings, campaign.target, campaign.head))
        if rounds:
            say(console)
            states_grid(rounds).show(console)
            say(console)
            show_coverage(console, rows, campaign.settings.level)
        say(console)
        if said:
            say(console, said, "dim" if advice is None else "")
        if advice is not None:
            show_advice(console, advice)

    reply(manner, facts, show)


def campaign_facts(campaign: Campaign) -> dict[str, object]:
    """Name a campaign for programs, and the end of its log."""
    return {
        "campaign": {"name": campaign.name, "key": campaign.key, "target": campaign.target.name},
        "log": asdict(campaign.head),
    }


def run_report(run: Run, destination: str, *, place: CampaignPlace) -> None:
    """Write the page about a campaign."""
    from inverse_design.report import write_page  # noqa: PLC0415 - figures and templates, where they are wanted
    from inverse_design.report.campaigns import campaign_page  # noqa: PLC0415 - the same

    file = check_writable(destination, endings=(PAGE_ENDING,), force=run.force)
    campaign = open_campaign(place)
    status = campaign.status()
    advice = campaign.advice(campaign.batch()) if status.open and status.rounds else None
    said = facts_of(status, campaign.settings, campaign.target, campaign.head)
    written = write_page(campaign_page(campaign, facts=said, advice=advice), file)
    facts = {"verdict": status.verdict, **campaign_facts(campaign), "written": [written]}
    reply(run.manner, facts, lambda console: say(console, f"wrote {written}"))


def run_history(*, place: CampaignPlace, manner: Manner) -> None:
    """Print everything that happened."""
    campaign = open_campaign(place)
    events = campaign.history()
    reply(manner, {**campaign_facts(campaign), "events": rows_of(events)}, history_grid(events).show)


def _prospect(campaign: Campaign, status: Status, *, quick: bool) -> tuple[str, Advice | None]:
    """Judge the open round, else the one that would be asked for next; say what that would gain."""
    if status.open and status.rounds:
        return "", campaign.advice(campaign.batch())
    if quick:
        return "advice: not sought (--quick)", None
    try:
        with working("planning the next round"):
            plan = campaign.preview(campaign.settings.batch_size)
    except NothingToProposeError as error:
        return "", Advice(stop=True, reason=str(error), expected_gain=None, cost=0.0)
    gain = f"another round of {len(plan.table)} experiments is expected to gain {in_figures(plan.expected_gain)}"
    return gain if math.isfinite(plan.expected_gain) else "", campaign.advice(plan)


def _share(row: Row | None) -> str:
    return "-" if row is None else measured(row.value, row.low, row.high, row.unit)
