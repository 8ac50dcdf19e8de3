"""The page about a proposal: its verdict, its candidates with reasons, and why to believe it."""

import json
from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from inverse_design.plot.candidates import candidate_map, held_out, hover_titles, pair_distances, ranking, readouts
from inverse_design.plot.style import figure_of, svg_of
from inverse_design.problem.explanation import Contribution, Explanation
from inverse_design.problem.objective import DISTANCE
from inverse_design.problem.target import ProfileTarget
from inverse_design.proposal import Proposal
from inverse_design.report.page import Attachment, Drawing, Page, PageTable, Section, share
from inverse_design.search.topk import certificate_line

_LISTED = 4  # readouts named of each kind
_UNIT = "readouts with their effects in standard deviations of the prediction error"


def proposal_page(
    proposal: Proposal,
    *,
    facts: Mapping[str, str] | None = None,
    provenance: Mapping[str, object] | None = None,
    truth: str = "",
) -> Page:
    """Write what was found.

    Args:
        proposal: What was found.
        facts: What was read and how, by name; by default what the proposal itself knows.
        provenance: Versions, checksums and settings.
        truth: The label of a held-out condition that made the target.
    """
    warnings = tuple(note.removeprefix("warning: ") for note in proposal.notes if note.startswith("warning"))
    others = tuple(note for note in proposal.notes if not note.startswith("warning"))
    known = dict(facts) if facts else _known(proposal)
    sections = [
        Section("Candidates", table=_candidates(proposal), drawings=_hero(proposal, truth)),
        Section("The first one", facts=_first(proposal), drawings=_comparisons(proposal)),
        Section("What was read, and how", facts=known),
        Section("How sure that is", _certainty(proposal), drawings=_card(proposal)),
        Section("Certificate of the search", _certificates(proposal)),
        Section("Notes", others),
        Section("Downloads", attachments=_files(proposal)),
    ]
    if provenance:
        sections.append(Section("Provenance", folded=json.dumps(provenance, indent=1, default=str)))
    title = f"Which perturbation reaches {proposal.target.name}?"
    return Page(title, proposal.verdict, warnings, tuple(each for each in sections if _says_something(each)))


def _says_something(part: Section) -> bool:
    return bool(part.lines or part.facts or part.table or part.drawings or part.attachments or part.folded)


def _known(proposal: Proposal) -> dict[str, str]:
    return {
        "target": proposal.target.name,
        "compare": f"{proposal.baselines.name}: {proposal.baselines.line}",
        "model": proposal.fitted.name,
        "space": proposal.space.summary,
    }


def _candidates(proposal: Proposal) -> PageTable:
    table, bounded = proposal.table, DISTANCE if DISTANCE in proposal.table else "utility"
    shown = pd.DataFrame({
        "rank": table["rank"],
        "perturbation": table["perturbation"],
        "made this state": [share(float(each)) for each in table["probability"]],
        bounded: table[bounded],
        f"{100 * proposal.level:.3g} % interval": [
            "-" if low != low else f"{low:.4g} to {high:.4g}"  # noqa: PLR0124 - NaN
            for low, high in zip(table["lower"], table["upper"], strict=True)
        ],
        "beats doing nothing": table["beats_nothing"].astype(bool),
        **({"in the set": table["in_set"]} if "in_set" in table else {}),
        "nearest measured": table["nearest_measured"],
        "why": [_why(each) for each in proposal.explanations],
    })  # fmt: skip
    return PageTable.of(shown, marked=[row for row, better in enumerate(table["beats_nothing"]) if not better])


def _why(found: Explanation) -> str:
    fixes, breaks = _named(found.fixes), _named(found.breaks)
    return "; ".join(part for part in (f"fixes {fixes}" * bool(fixes), f"breaks {breaks}" * bool(breaks)) if part)


def _named(found: tuple[Contribution, ...], most: int = _LISTED) -> str:
    return ", ".join(f"{each.readout} {each.predicted:+.1f}" for each in found[:most])


def _first(proposal: Proposal) -> dict[str, str]:
    why, spread = proposal.explanations[0], proposal.spread.iloc[0]
    return {
        "perturbation": str(proposal.table["perturbation"].iloc[0]),
        "fixes": f"{_named(why.fixes, 8) or 'nothing'} ({_UNIT})",
        "breaks": _named(why.breaks, 8) or "nothing",
        **({"along": "; ".join(why.paths)} if why.paths else {}),
        "nearest": f"{why.nearest} was measured, cosine {why.similarity:.2f} with the predicted effect",
        "unsure": f"{float(spread['epistemic']):.3g} by the model, which more data would tell;"
        f" {float(spread['aleatoric']):.3g} beyond it; in the unit of the screen",
    }


def _hero(proposal: Proposal, truth: str) -> tuple[Drawing, ...]:
    svg = svg_of(figure_of(ranking(proposal, truth=truth)), name="ranking", titles=hover_titles(proposal))
    said = (
        f"What a new measurement of each candidate is expected to show, its {100 * proposal.level:.3g} % interval,"
        " and how probable it is that the candidate made this state. Filled: in the set; rings: outside of it."
    )
    return (Drawing(svg, said),)


def _comparisons(proposal: Proposal) -> tuple[Drawing, ...]:
    if not isinstance(proposal.target, ProfileTarget):
        return ()
    titles = hover_titles(proposal)
    found = [
        Drawing(
            svg_of(figure_of(readouts(proposal)), name="readouts"),
            "Predicted against wanted effects, readout by readout: on the line the state is reached.",
        ),
        Drawing(
            svg_of(figure_of(candidate_map(proposal)), name="map", titles=titles),
            "Where candidates take the cells: the two directions along which predicted effects differ most.",
        ),
    ]
    if max(proposal.space.orders) >= 2 and 2 in proposal.space.orders:
        grid = svg_of(figure_of(pair_distances(proposal)), name="pairs")
        found.append(Drawing(grid, "Pairs of the leading entries: the lighter, the nearer the predicted mean."))
    return tuple(found)


def _certainty(proposal: Proposal) -> tuple[str, ...]:
    found = proposal.inverse_set
    return () if found is None else tuple(line for line in (found.line, found.complaint) if line)


def _card(proposal: Proposal) -> tuple[Drawing, ...]:
    if proposal.fitted.promise is None:
        return ()
    said = "Measured doubles that were held out: the further right the line rises, the surer they were named."
    return (Drawing(svg_of(figure_of(held_out(proposal)), name="promise"), said),)


def _certificates(proposal: Proposal) -> tuple[str, ...]:
    searches = {"": proposal.search} if proposal.turns is None else proposal.turns.searches
    orders = proposal.space.orders
    return tuple(
        f"{f'by {name}, ' if name else ''}{certificate_line(found.certificate, orders)}"
        for name, found in searches.items()
    )


def _files(proposal: Proposal) -> tuple[Attachment, ...]:
    spread = proposal.spread.drop(columns="perturbation").to_dict("records")
    why = [
        {"perturbation": name, **asdict(each), "spread": unsure}
        for name, each, unsure in zip(proposal.table["perturbation"], proposal.explanations, spread, strict=True)
    ][:100]
    return (
        Attachment.of_table("candidates.csv", proposal.table),
        Attachment("reasons.json", "application/json", json.dumps(why, indent=1)),
    )
