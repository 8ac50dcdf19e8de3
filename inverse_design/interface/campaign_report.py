"""The verbs ``campaign status`` and ``campaign history``: where a campaign stands, and how it came there."""

from rich.console import Console

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.outcomes import outcomes
from inverse_design.campaign.status import Status
from inverse_design.errors import NothingToProposeError
from inverse_design.interface.campaign_options import Place
from inverse_design.interface.campaign_place import open_campaign, planner_of
from inverse_design.interface.campaign_tables import (
    history_grid,
    listed,
    show_advice,
    show_coverage,
    states_grid,
)
from inverse_design.interface.console import output, say, working
from inverse_design.interface.tables import show_facts


def run_status(*, place: Place, quick: bool) -> None:
    """Print where a campaign stands, and whether another round is worth it.

    Args:
        place: Which campaign.
        quick: Leave the advice out if a round would have to be planned for it.
    """
    campaign = open_campaign(place)
    status = campaign.status()
    console = output()
    show_facts(console, facts_of(campaign, status))
    if status.rounds:
        say(console)
        states_grid([campaign.batch(number) for number in range(1, status.rounds + 1)]).show(console)
        say(console)
        show_coverage(console, outcomes(campaign), campaign.settings.level)
    for sentence in status.flagged:
        say(console, f"warning: out of scale: {sentence}", "bold yellow")
    say(console)
    _show_prospect(console, campaign, status, quick=quick)


def run_history(*, place: Place) -> None:
    """Print everything that happened.

    Args:
        place: Which campaign.
    """
    history_grid(open_campaign(place).history()).show(output())


def facts_of(campaign: Campaign, status: Status) -> dict[str, str]:
    """Say where a campaign stands.

    Args:
        campaign: Any campaign.
        status: Its status.

    Returns:
        Findings by name.
    """
    settings = campaign.settings
    budget = "no budget is set" if settings.budget is None else f"{settings.budget:,.6g} is the budget"
    counts = ", ".join(f"{count:,} {state}" for state, count in status.counts.items() if count)
    noise = "" if status.noise is None else f"; a measured utility is known to {status.noise:.3g}"
    return {
        "campaign": f"{campaign.name}, key {campaign.key}",
        "target": campaign.target.name,
        "rounds": f"{status.rounds}: {counts or 'no experiment yet'}",
        "extra": f"{status.extras} experiments told that nobody asked for" if status.extras else "none",
        "wells": f"{status.wells:,} gave values",
        "to come": listed(status.open) or "nothing",
        "best": f"{status.best}, utility {status.utility:.4g}, {status.gain:.4g} above the first best{noise}",
        "spent": f"{status.spent:,.6g}; {budget}",
    }


def _show_prospect(console: Console, campaign: Campaign, status: Status, *, quick: bool) -> None:
    """Judge the open round, else the one that would be asked for next."""
    if status.open and status.rounds:
        show_advice(console, campaign.advice(campaign.batch()))
        return
    if quick:
        say(console, "advice: not sought (--quick)", "dim")
        return
    try:
        with working("planning the next round"):
            plan = campaign.preview(campaign.settings.batch_size, planner_of(campaign))
    except NothingToProposeError as error:
        say(console, f"advice: stop: {error}", "bold")
        return
    say(console, f"another round of {len(plan.table)} experiments is expected to gain {plan.expected_gain:.3g}")
    show_advice(console, campaign.advice(plan))
