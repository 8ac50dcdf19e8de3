"""The card of one candidate: what it fixes and breaks, what is additive, what was measured near it."""

from collections.abc import Sequence

from rich.console import Console

from inverse_design.interface.console import say
from inverse_design.interface.numbers import probability
from inverse_design.interface.tables import show_facts
from inverse_design.problem.explanation import Contribution
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
            "  fixes": _listed(why.fixes) or "nothing",
            "  breaks": _listed(why.breaks) or "nothing",
            **({"  along": "; ".join(why.paths)} if why.paths else {}),
            "  effect": f"sum of the parts {why.additive:.1f}, interaction beyond it {why.interaction:.1f}",
            "  nearest": f"{why.nearest} was measured, cosine {why.similarity:.2f} with the predicted effect",
            "  unit": "standard deviations of the prediction error; signs are those of the predicted effect",
        },
    )


def _listed(contributions: Sequence[Contribution], most: int = 8) -> str:
    return ", ".join(f"{each.readout} {each.predicted:+.1f}" for each in contributions[:most])
