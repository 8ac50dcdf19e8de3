"""The page about a proposal: its verdict, its candidates with reasons, and why to believe it."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from inverse_design.plot.candidates import held_out, hover_titles, in_percent, pair_distances, ranking
from inverse_design.plot.charts import plane_chart, ranking_chart, readouts_chart
from inverse_design.plot.effects import draw_plane, readouts
from inverse_design.plot.predicted import compared, plane_of
from inverse_design.plot.style import figure_of, svg_of
from inverse_design.problem.explanation import Explanation, contributions_in_words
from inverse_design.problem.objective import DISTANCE
from inverse_design.problem.target import ProfileTarget
from inverse_design.proposal import Proposal
from inverse_design.report.page import Attachment, Drawing, Number, Page, PageTable, Section
from inverse_design.search.topk import certificate_line

_LISTED = 4  # readouts named of each kind
_REASONED = 100  # candidates whose reasons can be downloaded
_UNIT = "readouts with their effects in standard deviations of the prediction error"


def proposal_page(
    proposal: Proposal,
    *,
    facts: Mapping[str, str] | None = None,
    provenance: Mapping[str, object] | None = None,
    truth: str = "",
) -> Page:
    """Write what was found."""
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
    said = tuple(each for each in sections if not each.for_screen or each.attachments or each.folded)
    return Page(title, proposal.verdict, warnings, said, _numbers(proposal))


def _numbers(proposal: Proposal) -> tuple[Number, ...]:
    """Take what the verdict rests on, how sure it is first."""
    best, at, bounded = proposal.table.iloc[0], proposal.baselines, _bounded(proposal)
    chance, interval = float(best["probability"]), _span(best["lower"], best["upper"])
    made = "made this state" if proposal.turns is None else "made this state, if a candidate did"
    found = [
        *([] if math.isnan(chance) else [Number("probability of the first", in_percent(chance), made)]),
        Number(
            f"expected {bounded}",
            f"{best[bounded]:.3g}",
            "" if interval == "-" else f"{100 * proposal.level:.3g} % interval: {interval}",
        ),
        Number("doing nothing", f"{at.nothing:.3g}"),
        Number("best measured", f"{at.best:.3g}", at.best_label),
    ]
    if proposal.replicates is not None:
        found.append(Number("replicates differ by", f"{proposal.replicates:.3g}"))
    return tuple(found)


def _bounded(proposal: Proposal) -> str:
    return DISTANCE if DISTANCE in proposal.table else "utility"


def _span(low: float, high: float) -> str:
    return "-" if math.isnan(low) else f"{_digits(low)} to {_digits(high)}"


def _digits(value: float) -> str:
    """Write three digits, also where the last ones are zero."""
    return f"{value:.3g}" if value == 0 or abs(value) >= 100 else f"{value:#.3g}"


def _known(proposal: Proposal) -> dict[str, str]:
    return {
        "target": proposal.target.name,
        "compare": f"{proposal.baselines.name}: {proposal.baselines.line}",
        "model": proposal.fitted.name,
        "space": proposal.space.summary,
    }


def _candidates(proposal: Proposal) -> PageTable:
    table, bounded = proposal.table, _bounded(proposal)
    shown = pd.DataFrame({
        "rank": table["rank"],
        "perturbation": table["perturbation"],
        "probability": [in_percent(each) for each in table["probability"]],
        bounded: list(map(_digits, table[bounded])),
        f"{100 * proposal.level:.3g} % interval": list(map(_span, table["lower"], table["upper"])),
        "beats doing nothing": table["beats_nothing"].astype(bool),
        **({"in the set": table["in_set"]} if "in_set" in table else {}),
        "nearest measured": table["nearest_measured"],
        "why": [_why(each) for each in proposal.explanations],
    })  # fmt: skip
    losing = [row for row, better in enumerate(table["beats_nothing"]) if not better]
    return PageTable.of(shown, marked=losing, best=None if 0 in losing else 0)


def _why(found: Explanation) -> str:
    fixes, breaks = contributions_in_words(found.fixes, _LISTED), contributions_in_words(found.breaks, _LISTED)
    return "; ".join(part for part in (f"fixes {fixes}" * bool(fixes), f"breaks {breaks}" * bool(breaks)) if part)


def _first(proposal: Proposal) -> dict[str, str]:
    why, spread = proposal.explanations[0], proposal.spread.iloc[0]
    return {
        "perturbation": str(proposal.table["perturbation"].iloc[0]),
        "fixes": f"{contributions_in_words(why.fixes, 8) or 'nothing'} ({_UNIT})",
        "breaks": contributions_in_words(why.breaks, 8) or "nothing",
        **({"along": "; ".join(why.paths)} if why.paths else {}),
        "nearest": f"{why.nearest} was measured, cosine {why.similarity:.2f} with the predicted effect",
        "unsure": f"{float(spread['epistemic']):.3g} by the model, which more data would tell;"
        f" {float(spread['aleatoric']):.3g} beyond it; {proposal.unit}",
    }


def _hero(proposal: Proposal, truth: str) -> tuple[Drawing, ...]:
    axes = ranking(proposal, truth=truth, width=11.0)
    svg = svg_of(figure_of(axes), name="ranking", titles=hover_titles(proposal))
    said = (
        f"What a new measurement of each candidate is expected to show, its {100 * proposal.level:.3g} % interval,"
        " and how probable it is that the candidate made this state. Filled: in the set; rings: outside of it."
    )
    return (Drawing(svg, said, ranking_chart(proposal, truth=truth), hero=True),)


def _comparisons(proposal: Proposal) -> tuple[Drawing, ...]:
    if not isinstance(proposal.target, ProfileTarget):
        return ()
    plane = plane_of(proposal)
    compare = compared(proposal, "readouts", rank=1, named=6, measured=None)
    found = [
        Drawing(
            svg_of(figure_of(readouts(proposal)), name="readouts"),
            "Predicted against wanted effects, readout by readout: on the line the state is reached. Circles:"
            " brought nearer; squares: moved away.",
            readouts_chart(compare),
        ),
        Drawing(
            svg_of(figure_of(draw_plane(plane)), name="map", titles=hover_titles(proposal)),
            "Where candidates take the cells: the two directions along which predicted effects differ most.",
            plane_chart(plane, proposal),
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
    ][:_REASONED]
    return (
        Attachment.of_table("candidates.csv", proposal.table),
        Attachment("reasons.json", "application/json", json.dumps(why)),
    )
