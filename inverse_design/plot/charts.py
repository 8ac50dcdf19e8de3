"""Interactive figures of a page, as values for plotly.js: what matplotlib draws, with a label under the pointer.

Plotly reads a few tags in texts. Names are escaped here, so that it shows them as they are.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from inverse_design.plot.candidates import hover_titles, in_percent
from inverse_design.plot.effects import direction
from inverse_design.plot.predicted import Compared, Numbers, Plane
from inverse_design.plot.style import BLUE, GREY, INK, ORANGE, PALE, Chart
from inverse_design.problem.objective import DISTANCE
from inverse_design.proposal import Proposal
from surrogates.errors import amount, printable

Values = Iterable[Any]  # numbers of any type
_MOST = 4000  # readouts of a chart
_LONGEST = 60  # characters of a name beside an axis
ABOVE = {"showlegend": True, "legend": {"orientation": "h", "y": 1.1}}


def ranking_chart(proposal: Proposal, *, top: int = 20, truth: str = "") -> Chart:
    """Show what :func:`inverse_design.plot.ranking` shows."""
    table, titles = proposal.table.head(top), hover_titles(proposal)
    bounded = DISTANCE if DISTANCE in table else "utility"
    filled = table.fillna({"lower": table[bounded], "upper": table[bounded]})
    names, rows = [str(name) for name in table["perturbation"]], list(range(len(table)))
    inside = table["in_set"].fillna(value=False).tolist() if "in_set" in table else [True] * len(table)
    colours = [
        ORANGE if name == truth else BLUE if held else GREY for name, held in zip(names, inside, strict=True)
    ]
    filling = [colour if held else "white" for colour, held in zip(colours, inside, strict=True)]
    said, chances = [titles[f"candidate-{row}"] for row in rows], table["probability"].fillna(0.0)
    known = bool(table["probability"].notna().any())
    spans = [
        line((low, high), (row, row), color=colour, width=3)
        for row, low, high, colour in zip(rows, filled["lower"], filled["upper"], colours, strict=True)
    ]
    dots = marks(filled[bounded], rows, said, size=11, color=filling, line={"color": colours, "width": 2})
    bars = marks(100 * chances, rows, said, color=BLUE)
    bars |= {
        "type": "bar", "orientation": "h", "xaxis": "x2", "width": 0.6, "cliponaxis": False,
        "textposition": ["inside" if each > 0.5 else "outside" for each in chances],
        "text": [_plain(in_percent(each)) for each in table["probability"]],
    }  # fmt: skip
    references = (
        (proposal.baselines.nothing, "doing nothing", INK, "solid"),
        (proposal.baselines.best, "best measured", GREY, "dash"),
    )
    lines = sorted(each for each in references if math.isfinite(each[0]))
    drawn = [*filled["lower"], *filled["upper"], *(each[0] for each in lines)]
    least, most = min(drawn), max(drawn)
    margin = 0.03 * (most - least)
    better = "smaller" if bounded == DISTANCE else "larger"
    across = f"{bounded} ({better} is better); line: {100 * proposal.level:.3g} % interval"
    ticks = [_plain(f"{_short(name)}{' (truth)' * (name == truth)}") for name in names]
    shape = layout(
        axis(across, domain=[0, 0.78 if known else 1], range=[least - margin, most + margin]),
        axis("", range=[len(rows) - 0.4, -0.6], tickvals=rows, ticktext=ticks, showgrid=False),
        height=110 + 26 * len(rows),
        shapes=[_upright(at, colour, dash) for at, _, colour, dash in lines],
        annotations=[
            _named(at, 1.0, name, INK, yref="paper", yanchor="bottom", xanchor=side)
            for (at, name, *_), side in zip(lines, ("right", "left")[-len(lines) :], strict=True)
        ],
    )
    if known:
        shape["xaxis2"] = axis("made this state, %", domain=[0.82, 1], range=[0, 100], tickvals=[0, 50, 100])
    return {"data": [*spans, dots, *([bars] if known else [])], "layout": shape}


def readouts_chart(found: Compared) -> Chart:
    """Show predicted against wanted effects; of very many readouts those of the largest effects."""
    order = np.argsort(-np.maximum(np.abs(found.wanted), np.abs(found.predicted)), kind="stable")[:_MOST].tolist()
    marked = dict.fromkeys(found.fixes, (BLUE, "circle")) | dict.fromkeys(found.breaks, (ORANGE, "square"))
    right, left = {"xanchor": "left", "xshift": 6}, {"xanchor": "right", "xshift": -6}
    sides = dict.fromkeys(found.fixes, right) | dict.fromkeys(found.breaks, left)
    ends = min(*found.wanted, *found.predicted), max(*found.wanted, *found.predicted)
    some = f" of {len(found.names):,}" if len(order) < len(found.names) else ""

    def some_marks(rows: Sequence[int], **marker: object) -> dict[str, Any]:
        said = [
            f"{found.names[row]}: wanted {found.wanted[row]:+.3g},"
            f" predicted {found.predicted[row]:+.3g} ± {found.spread[row]:.2g}"
            for row in rows
        ]
        return marks([found.wanted[row] for row in rows], [found.predicted[row] for row in rows], said, **marker)

    return {
        "data": [
            line(ends, ends, color=INK, width=1),
            some_marks([row for row in order if row not in marked], color=GREY, size=4),
            *(some_marks([row], color=colour, symbol=sign, size=9) for row, (colour, sign) in marked.items()),
        ],
        "layout": layout(
            axis(f"wanted effect, {amount(len(order), 'readout')}{some}, {found.unit}"),
            axis("predicted effect"),
            annotations=[
                _named(found.wanted[row], found.predicted[row], found.names[row], marked[row][0], **sides[row])
                for row in _apart(found, marked)
            ],
        ),
    }


def _apart(found: Compared, rows: Iterable[int]) -> list[int]:
    """Take readouts whose names do not stand on each other's; the others are named under the pointer."""
    across, up = (float(np.ptp(each)) or 1.0 for each in (found.wanted, found.predicted))
    kept: list[int] = []
    for row in rows:
        near = (
            abs(found.wanted[row] - found.wanted[one]) < 0.2 * across
            and abs(found.predicted[row] - found.predicted[one]) < 0.04 * up
            for one in kept
        )
        kept += [] if any(near) else [row]
    return kept


def plane_chart(plane: Plane, proposal: Proposal, *, named: int = 5) -> Chart:
    """Show candidates, target and control where they are."""
    titles = hover_titles(proposal)
    listed = [titles[f"listed-{row}"] for row in range(len(plane.listed))]
    numbers = [str(row + 1) if row < named else "" for row in range(len(listed))]
    words = {"mode": "markers+text", "text": numbers, "textposition": "top right", "textfont": {"color": BLUE}}
    return {
        "data": [
            _group("candidates", plane.cloud, plane.names, color="#BBBBBB", size=5),
            _group("listed", plane.listed, listed, color=BLUE, size=8) | words,
            _group("control", plane.control, ["control"], color=INK, size=11, symbol="cross"),
            _group("target", plane.target, [proposal.target.name], color=ORANGE, size=15, symbol="star"),
        ],
        "layout": layout(axis(direction(plane, 0)), axis(direction(plane, 1)), **ABOVE),
    }


def marks(across: Values, up: Values, said: Sequence[str], **marker: object) -> dict[str, Any]:
    """Place marks, each with a label under the pointer."""
    return {
        "type": "scatter", "mode": "markers", "x": numbers(across), "y": numbers(up),
        "marker": marker, "hovertext": [_plain(each) for each in said], "hoverinfo": "text",
    }  # fmt: skip


def _group(name: str, points: Numbers, said: Sequence[str], **marker: object) -> dict[str, Any]:
    return marks(points[:, 0], points[:, 1], said, **marker) | {"name": name}


def line(across: Values, up: Values, **style: object) -> dict[str, Any]:
    """Draw a line of marks without labels."""
    return {
        "type": "scatter", "mode": "lines", "x": numbers(across), "y": numbers(up), "line": style,
        "hoverinfo": "skip", "showlegend": False,
    }  # fmt: skip


def _upright(at: float, colour: str, dash: str) -> dict[str, Any]:
    style = {"color": colour, "width": 1.5, "dash": dash}
    return {"type": "line", "x0": at, "x1": at, "yref": "paper", "y0": 0, "y1": 1, "line": style}


def _named(x: float, y: float, name: str, colour: str, **place: object) -> dict[str, Any]:
    font = {"size": 11, "color": colour}
    return {"x": float(x), "y": float(y), "text": _plain(_short(name)), "showarrow": False, "font": font} | place


def axis(title: str, **more: object) -> dict[str, Any]:
    """Describe an axis."""
    text = {"text": title, "font": {"size": 13}}
    return {"title": text, "gridcolor": PALE, "zeroline": False, "linecolor": PALE, "automargin": True} | more


def layout(across: Chart, up: Chart, **more: object) -> dict[str, Any]:
    """Lay a chart out."""
    return {
        "xaxis": across, "yaxis": up, "height": 460, "margin": {"l": 60, "r": 20, "t": 30, "b": 50},
        "showlegend": False, "hovermode": "closest", "plot_bgcolor": "white", "paper_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": INK},
        "hoverlabel": {"bgcolor": "white", "bordercolor": INK, "font": {"color": INK}, "align": "left"},
    } | more  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _plain(text: str) -> str:
    return html.escape(printable(text), quote=False)


def numbers(values: Values) -> list[float | None]:
    """Write numbers that JSON can hold, six digits of each."""
    return [float(f"{each:.6g}") if math.isfinite(each) else None for each in map(float, values)]
