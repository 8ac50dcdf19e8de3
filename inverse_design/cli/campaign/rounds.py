"""The verbs ``campaign ask``, ``order``, ``tell`` and ``withdraw``, ``retract`` and ``correct``."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace

import pandas as pd
from rich.console import Console

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.retract import reason_of
from inverse_design.campaign.rounds import Batch
from inverse_design.campaign.settings import settings_as_json
from inverse_design.campaign.wells import COUNTS
from inverse_design.cli.campaign.options import CampaignPlace
from inverse_design.cli.campaign.place import open_campaign
from inverse_design.cli.campaign.report import batch_grid, campaign_facts, say_what_is_open, show_telling
from inverse_design.cli.campaign.results import read_library, read_results
from inverse_design.cli.console import (
    Manner,
    Run,
    reply,
    say,
    say_written,
    show_facts,
    show_notes,
    show_warnings,
    working,
)
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Crew, Planning, Reading
from inverse_design.cli.outputs import manifest, place_for, table_endings, write_table
from inverse_design.cli.plans import rows_of, settled
from inverse_design.cli.screens import warn_of_scheduler
from inverse_design.recommend.protocol import PERTURBATION
from surrogates.errors import DataError, some_of
from surrogates.fit_cache import FitCache


def run_ask(  # noqa: PLR0913 - groups of options, each one word of the verb
    run: Run,
    *,
    place: CampaignPlace,
    count: int | None,
    recommender: str | None,
    more: bool,
    destination: str | None,
    planning: Planning,
    crew: Crew,
    cache: FitCache | None,
) -> None:
    """Propose a round, or give the open one out again."""
    written = place_for(destination, run, *table_endings())
    warn_of_scheduler(crew.scheduler)
    campaign = replace(open_campaign(place), cache=cache, workers=crew.place)
    wanted = campaign.settings.batch_size if count is None else count
    foreseen = campaign.plan(wanted, recommender, more=more)
    if not settled(foreseen, planning, run.manner):
        return
    with working("planning") as view, foreseen.begin(view).stage() if foreseen.stages else nullcontext():
        batch = campaign.ask_more(wanted, recommender) if more else campaign.ask(wanted, recommender)
    facts = round_facts(run, campaign, batch)
    files = () if written is None else write_table(batch.table, written, facts)
    warning = f"warning: round {batch.round} is open, so --recommender was not asked"
    warnings = [warning] if recommender is not None and not batch.fresh else []

    def show(console: Console) -> None:
        show_warnings(console, warnings)
        show_batch(console, campaign, batch)
        say_written(console, *files)

    known = {**facts, "warnings": warnings, "table": rows_of(batch.table), "written": files}
    reply(run.manner, known, show)


def round_facts(run: Run, campaign: Campaign, batch: Batch) -> dict[str, object]:
    """Collect what explains the table of a round."""
    settings = settings_as_json(campaign.settings)
    return {
        "verdict": round_verdict(campaign, batch),
        "manifest": manifest(run, None, seed=campaign.settings.seed, settings=settings),
        **campaign_facts(campaign),
        "round": {"number": batch.round, "expected_gain": batch.expected_gain, "notes": batch.notes},
    }


def show_batch(console: Console, campaign: Campaign, batch: Batch) -> None:
    """Print a round: whether it is worth it, warnings, what it is, its experiments, notes."""
    say(console, round_verdict(campaign, batch), "bold")
    show_warnings(console, batch.notes)
    still = "proposed now" if batch.fresh else f"open: {len(batch.open)} of {len(batch.states)} results to come"
    level = 100 * campaign.settings.level
    facts = {
        "campaign": f"{campaign.name}, key {campaign.key}",
        "round": f"{batch.round}, {still}",
        "target": campaign.target.name,
        "bounds": f"lower and upper: {level:.3g} % interval of what will be measured, as predicted",
    }
    show_facts(console, facts)
    say(console)
    batch_grid(batch).show(console)
    say(console)
    show_notes(console, batch.notes)


def round_verdict(campaign: Campaign, batch: Batch) -> str:
    """Say in plain words whether a round is worth it, and what is in it."""
    advice, names = campaign.advice(batch), batch.table[PERTURBATION]
    many = f"{len(names)} experiments, first {names.iloc[0]}" if len(names) > 1 else names.iloc[0]
    return f"{'Stop' if advice.stop else 'Go on'}: {advice.reason}. Round {batch.round}: {many}."


def run_order(*, place: CampaignPlace, names: Sequence[str], library: str | None, manner: Manner) -> None:
    """Note that experiments go to the bench, if there is a reagent for each."""
    campaign = open_campaign(place)
    if library is not None:
        wanted = list(names) or proposed(campaign)
        read_library(library).require(campaign.vocabulary.parse(name) for name in wanted)
    ordered = campaign.order(list(names) or None)
    said = f"ordered {len(ordered)}: {some_of(ordered)}" if ordered else "nothing is proposed; ask first"
    reply(manner, {**campaign_facts(campaign), "ordered": ordered}, lambda console: say(console, said))


def run_tell(
    results: str, *, place: CampaignPlace, extra: bool, extreme: bool, reading: Reading, manner: Manner
) -> None:
    """Tell results."""
    campaign = open_campaign(place)
    with working("reading"):
        table = read_results(results, reading, campaign.readouts)
    telling = campaign.tell(table, allow_extra=extra, accept_extreme=extreme)
    _reply_of(campaign, asdict(telling), lambda console: show_telling(console, telling), manner)


def run_withdraw(names: Sequence[str], *, place: CampaignPlace, reason: str, manner: Manner) -> None:
    """Note that experiments will not be done."""
    campaign = open_campaign(place)
    withdrawn = campaign.withdraw(names, reason=reason)
    said = f"withdrew {len(withdrawn)}: {some_of(withdrawn)}"
    reply(manner, {**campaign_facts(campaign), "withdrawn": withdrawn}, lambda console: say(console, said))


def _reply_of(
    campaign: Campaign, facts: Mapping[str, object], show: Callable[[Console], None], manner: Manner
) -> None:
    """Say what became of wells, and which results are still to come."""

    def shown(console: Console) -> None:
        show(console)
        say_what_is_open(console, campaign)

    reply(manner, {**campaign_facts(campaign), **facts, "open": campaign.status().open}, shown)


def proposed(campaign: Campaign) -> list[str]:
    """List the experiments that may still be ordered."""
    batches = (campaign.batch(number) for number in range(1, campaign.status().rounds + 1))
    return [
        str(label)
        for batch in batches
        for label, state in zip(batch.table[PERTURBATION], batch.states, strict=True)
        if state == "proposed"
    ]


_MOST_SHOWN = 40


@dataclass(frozen=True)
class Chosen:
    """Which wells are to be taken back; all that is stated must hold."""

    names: Sequence[str] = ()  # labels of perturbations; none for all
    round_number: int | None = None
    replicate: str | None = None
    event: int | None = None
    results: str | None = None  # a file of results


def run_retract(
    chosen: Chosen, *, place: CampaignPlace, reason: str, yes: bool, reading: Reading, manner: Manner
) -> None:
    """Show what would be taken back, and take it back if that is confirmed."""
    if chosen == Chosen():
        raise DataError(
            "say what is to be taken back: experiments (A+B), --round, --replicate, --event or --results"
        )
    reason_of(reason)
    campaign = open_campaign(place)
    wells = _wells(campaign, chosen, reading)
    counting = wells[wells["state"] == COUNTS]

    def preview(console: Console) -> None:
        if len(counting):
            _preview(counting).show(console)
            if len(counting) > _MOST_SHOWN:
                say(console, f"and {len(counting) - _MOST_SHOWN} more wells")
            say(console)

    if len(counting) and not yes:
        reply(manner, {**campaign_facts(campaign), "to_take_back": rows_of(counting)}, preview)
        raise DataError(f"nothing has changed; to take these {len(counting)} wells back, repeat this with --yes")
    done = campaign.retract(wells, reason=reason)

    def show(console: Console) -> None:
        preview(console)
        say(console, done.words)
        if done.waiting:
            say(console, f"measure again, or withdraw: {some_of(done.waiting)}")

    _reply_of(campaign, asdict(done), show, manner)


def run_correct(
    results: str, *, place: CampaignPlace, reason: str, extreme: bool, reading: Reading, manner: Manner
) -> None:
    """Replace the values of wells."""
    campaign = open_campaign(place)
    with working("reading"):
        table = read_results(results, reading, campaign.readouts)
    done = campaign.correct(table, reason=reason, accept_extreme=extreme)

    def show(console: Console) -> None:
        for sentence in done.flagged:
            say(console, f"warning: out of scale: {sentence}", "bold yellow")
        say(console, done.words)

    _reply_of(campaign, asdict(done), show, manner)


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
