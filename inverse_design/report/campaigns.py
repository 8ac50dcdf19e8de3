"""The page about a campaign: its best, its rounds, whether its bounds held, and everything that happened."""

import math
from collections.abc import Mapping

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.results import ROUND
from inverse_design.campaign.rounds import MEASURED
from inverse_design.campaign.status import Advice, Status
from inverse_design.plot.campaigns import campaign_coverage, campaign_curve, coverage_chart, curve_chart
from inverse_design.plot.style import figure_of, svg_of
from inverse_design.recommend.protocol import PERTURBATION
from inverse_design.report.page import Attachment, Drawing, Number, Page, PageTable, Section

_HIDDEN = ["campaign", "round", "log_probability"]


def campaign_page(campaign: Campaign, *, facts: Mapping[str, str], advice: Advice | None = None) -> Page:
    """Write where a campaign stands."""
    status, history = campaign.status(), campaign.history()
    measured = campaign.outcomes().set_index([ROUND, PERTURBATION])[MEASURED]
    rounds = [campaign.batch(number) for number in range(1, status.rounds + 1)]
    sections = [
        Section("Where it stands", _advised(advice), dict(facts), drawings=_drawings(campaign, status.rounds))
    ]
    for batch in reversed(rounds):
        table = batch.table.drop(columns=_HIDDEN, errors="ignore")
        table.insert(1, "state", list(batch.states))
        found = [measured.get((batch.round, label), math.nan) for label in table[PERTURBATION]]
        table.insert(2, MEASURED, found)
        table = table.dropna(axis=1, how="all")
        shown = PageTable.of(table.drop(columns=["gain_lower", "gain_upper"], errors="ignore"))
        name = f"round-{batch.round}.csv"
        sections.append(
            Section(
                f"Round {batch.round}", batch.notes, table=shown, attachments=(Attachment.of_table(name, table),)
            )
        )
    events = history[["sequence", "time", "actor", "kind", "what"]]
    sections.append(
        Section(
            "What happened", table=PageTable.of(events), attachments=(Attachment.of_table("history.csv", events),)
        )
    )
    title = f"Campaign {campaign.name}: {campaign.target.name}"
    return Page(title, status.verdict, status.oddities, tuple(sections), _numbers(status))


def _numbers(status: Status) -> tuple[Number, ...]:
    """Take what the verdict rests on."""
    name, value = ("distance", -status.utility) if status.nearness else ("utility", status.utility)
    noise = () if status.noise is None else (Number("known to", f"{status.noise:.3g}", "standard error"),)
    return (
        Number(f"best {name}", f"{value:.3g}", status.best),
        Number("gained", f"{status.gain:.3g}", "over the starting screen"),
        *noise,
        Number("rounds", str(status.rounds)),
        Number("measured", str(status.counts.get("measured", 0)), f"{len(status.open)} to come"),
    )


def _advised(advice: Advice | None) -> tuple[str, ...]:
    return () if advice is None else (f"Advice: {'stop' if advice.stop else 'go on'}: {advice.reason}.",)


def _drawings(campaign: Campaign, rounds: int) -> tuple[Drawing, ...]:
    if not rounds:
        return ()
    return (
        Drawing(
            svg_of(figure_of(campaign_curve(campaign)), name="curve"),
            "What each round found, and the best so far.",
            curve_chart(campaign),
        ),
        Drawing(
            svg_of(figure_of(campaign_coverage(campaign)), name="coverage"),
            "What was stated before each experiment against what was measured: on the line both agree.",
            coverage_chart(campaign),
        ),
    )
