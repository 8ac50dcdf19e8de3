"""What is printed of a proposal: its candidates, its set, its search, and the card of one candidate."""

import math
from collections.abc import Sequence

import pandas as pd
from rich.console import Console

from inverse_design.cli.console import say, show_facts
from inverse_design.cli.grid import Column, Grid, decimals_for, fixed, probability
from inverse_design.problem.explanation import Contribution
from inverse_design.problem.objective import DISTANCE
from inverse_design.proposal import Proposal
from inverse_design.search.inverse_set import InverseSet
from inverse_design.search.topk import certificate_line

_ANSWERS = ("beats_nothing", "in_set")


def candidates_grid(table: pd.DataFrame) -> Grid:
    """Lay the ranked candidates out."""
    numbers = _numbers_of(table)
    columns = []
    for name in table.columns.map(str):
        values = table[name].tolist()
        if name in numbers:
            columns.append(Column(name, numbers[name], "right"))
        elif name in _ANSWERS:
            columns.append(Column(name, _yes_or_no(table[name])))
        elif name == "probability":
            columns.append(Column(name, tuple(map(probability, values)), "right"))
        elif name == "novelty":
            columns.append(Column(name, tuple(str(value).partition(", ")[2] for value in values)))
        else:
            right = pd.api.types.is_numeric_dtype(table[name])
            columns.append(
                Column(name, tuple(map(str, values)), "right" if right else "left", name == "reason", 20)
            )
    return Grid(tuple(columns))


def _yes_or_no(values: pd.Series) -> tuple[str, ...]:
    known = zip(values.tolist(), values.isna().tolist(), strict=True)
    return tuple("-" if missing else "yes" if value else "no" for value, missing in known)


def _numbers_of(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Write utilities, and what is bounded with its bounds, each with decimals of their own."""
    groups = (
        [["utility"], ["distance", "lower", "upper"]] if "distance" in table else [["utility", "lower", "upper"]]
    )
    texts: dict[str, tuple[str, ...]] = {}
    for names in groups:
        decimals = decimals_for([float(value) for name in names for value in table[name]])
        texts |= {name: tuple(fixed(float(value), decimals) for value in table[name]) for name in names}
    return texts


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
    for note in proposal.notes:
        if not note.startswith("warning"):
            say(console, note, "dim")


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
