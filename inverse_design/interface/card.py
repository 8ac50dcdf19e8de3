"""The card of one candidate: what it fixes and breaks, what is additive, what was measured near it."""

import math
from collections.abc import Sequence

from rich.console import Console

from inverse_design.interface.console import say
from inverse_design.interface.numbers import probability
from inverse_design.interface.tables import show_facts
from inverse_design.problem.explanation import Contribution
from inverse_design.problem.outcome import DISTANCE
from inverse_design.proposal import Proposal


def show_card(console: Console, proposal: Proposal, *, row: int = 0) -> None:
    """Print the card of one candidate.

    Args:
        console: Where.
        proposal: What was found.
        row: Which candidate, zero for the first.
    """
    line, why = proposal.table.iloc[row], proposal.explanations[row]
    stated = float(line["probability"])
    known = "" if stated != stated else f", probability {probability(stated)}"  # noqa: PLR0124 - NaN
    say(console, f"{line['perturbation']}: number {line['rank']} of {proposal.space.count_valid:,}{known}", "bold")
    show_facts(
        console,
        {
            "  outcome": _outcome(proposal, row),
            "  fixes": _listed(why.fixes) or "nothing",
            "  breaks": _listed(why.breaks) or "nothing",
            **({"  along": "; ".join(why.paths)} if why.paths else {}),
            "  effect": f"sum of the parts {why.additive:.1f}, interaction beyond it {why.interaction:.1f}",
            "  nearest": f"{why.nearest} was measured, cosine {why.similarity:.2f} with the predicted effect",
            "  unsure": _unsure(proposal, row),
            "  unit": "of effects: standard deviations of the prediction error, with the sign of the effect",
        },
    )


def _outcome(proposal: Proposal, row: int) -> str:
    line, compared = proposal.table.iloc[row], proposal.baselines
    column = DISTANCE if compared.name == DISTANCE else "utility"
    lower, at, upper = (float(line[name]) for name in ("lower", column, "upper"))
    bounds = "no bounds" if math.isnan(lower) else f"{lower:.3g} to {upper:.3g}"
    verdict = "better" if line["beats_nothing"] else "no better"
    return f"{compared.name} {at:.3g} is expected, {bounds}; {verdict} than doing nothing, {compared.nothing:.3g}"


def _unsure(proposal: Proposal, row: int) -> str:
    found = proposal.spread.iloc[row]
    model, beyond, noise = (float(found[name]) for name in ("epistemic", "aleatoric", "measurement"))
    measured = f", of which {noise:.3g} is measurement" if noise > 0 else ""
    return f"{model:.3g} by the model (more data would tell), {beyond:.3g} beyond it{measured}; unit of the screen"


def _listed(contributions: Sequence[Contribution], most: int = 8) -> str:
    return ", ".join(f"{each.readout} {each.predicted:+.1f}" for each in contributions[:most])
