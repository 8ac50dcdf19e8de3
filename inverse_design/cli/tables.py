"""What is printed of a proposal: its candidates, its set, its search, and the card of one candidate."""

import math

import pandas as pd
from rich.console import Console

from inverse_design.cli.console import say, show_facts, show_notes
from inverse_design.cli.grid import Grid, grid_of
from inverse_design.numbers import probability
from inverse_design.problem.explanation import contributions_in_words
from inverse_design.problem.objective import DISTANCE
from inverse_design.proposal import Proposal
from inverse_design.search.inverse_set import InverseSet
from inverse_design.search.topk import certificate_line


def candidates_grid(table: pd.DataFrame) -> Grid:
    """Lay the ranked candidates out; what is bounded stands with its bounds in as many decimals."""
    bounds = [["distance", "lower", "upper"]] if "distance" in table else []
    parts = table["novelty"].map(lambda said: str(said).partition(", ")[2])
    return grid_of(table.assign(novelty=parts), ["utility", *([] if bounds else ["lower", "upper"])], *bounds)


def show_set(console: Console, found: InverseSet | None) -> None:
    """Print the inverse conformal set, and say if nothing explains the target."""
    if found is None:
        return
    say(console, found.line)
    if found.complaint:
        say(console, found.complaint, "bold yellow")


def show_search(console: Console, proposal: Proposal) -> None:
    """Print the certificate of each search and the notes that are no warnings."""
    searches = {"": proposal.search} if proposal.turns is None else proposal.turns.searches
    for name, found in searches.items():
        by = f"by {name}, " if name else ""
        say(console, by + certificate_line(found.certificate, proposal.space.orders))
    show_notes(console, proposal.notes)


def show_card(console: Console, proposal: Proposal, *, row: int = 0) -> None:
    """Print the card of one candidate."""
    line, why = proposal.table.iloc[row], proposal.explanations[row]
    stated = float(line["probability"])
    known = "" if stated != stated else f", probability {probability(stated)}"  # noqa: PLR0124 - NaN
    say(console, f"{line['perturbation']}: number {line['rank']} of {proposal.space.count_valid:,}{known}", "bold")
    show_facts(
        console,
        {
            "  outcome": _outcome(proposal, row),
            "  fixes": contributions_in_words(why.fixes, 8) or "nothing",
            "  breaks": contributions_in_words(why.breaks, 8) or "nothing",
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
    return f"{model:.3g} by the model (more data would tell), {beyond:.3g} beyond it{measured}; {proposal.unit}"
