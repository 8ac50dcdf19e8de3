"""How figures look, and how they are written: same numbers, same bytes."""

import html
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from surrogates.errors import printable
from surrogates.evaluation.intervals import Row
from surrogates.whole_file import write_whole

Chart = Mapping[str, Any]  # an interactive figure for plotly.js: ``data`` and ``layout``
_CREATOR = "inverse-design"
BLUE, ORANGE, INK, GREY, PALE = "#0072B2", "#D55E00", "#222222", "#999999", "#DDDDDD"
LINES = (INK, GREY, ORANGE, "#009E73", "#CC79A7", BLUE, "#56B4E9", "#E69F00")  # Okabe and Ito
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": PALE,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.titlesize": 11,
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": PALE,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "savefig.dpi": 200,
    "svg.fonttype": "none",  # words stay words: they can be searched and read aloud
    "svg.hashsalt": "inverse-design",
    "text.color": INK,
    "text.parse_math": False,  # a name with two dollar signs is a name
    "xtick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.color": PALE,
    "ytick.labelcolor": INK,
}
_LINK = re.compile(r' id="|href="#|url\(#')
_APART = 0.055  # of the height of the axes, between names
# Without a date, so that the same numbers give the same file; signed, so that it may be overwritten.
_METADATA = {
    ".svg": {"Date": None, "Creator": _CREATOR},
    ".pdf": {"CreationDate": None, "Creator": _CREATOR},
    ".png": {"Software": _CREATOR},
}


@contextmanager
def themed() -> Iterator[None]:
    """Draw in the style of this package; what the caller has set elsewhere is left alone."""
    with rc_context(_STYLE):
        yield


def titled(width: float, height: float, title: str) -> Figure:
    """Begin a figure of so many inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.suptitle(printable(title), x=0.01, ha="left")
    return figure


def new_axes(width: float, height: float) -> Axes:
    """Begin a figure of so many inches with one pair of axes."""
    with themed():
        return Figure(figsize=(width, height), layout="constrained").subplots()


def figure_of(axes: Axes) -> Figure:
    """Take the figure that axes stand in."""
    figure = axes.get_figure(root=True)
    if figure is None:
        raise ValueError("axes that were removed from their figure are in none")
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as .svg, .png or .pdf, whole or not at all."""
    ending = path.suffix
    metadata = _METADATA[ending]
    with themed():
        write_whole(path, lambda place: figure.savefig(place, format=ending.removeprefix("."), metadata=metadata))


def interval(axes: Axes, place: int, numbers: Sequence[float], *, colour: str, sign: str) -> None:
    """Draw a value with its interval along x: low, value and high."""
    low, value, high = numbers
    axes.plot((low, high), (place, place), color=colour, linewidth=2, solid_capstyle="butt")
    filled = "white" if sign == "ring" else colour
    axes.plot([value], [place], "s" if sign == "square" else "o", color=colour, markerfacecolor=filled)


def upright(
    axes: Axes, places: range | Sequence[float], rows: Sequence[Row], *, colour: str, sign: str = "o"
) -> None:
    """Draw values with their intervals along y."""
    for place, row in zip(places, rows, strict=True):
        axes.plot((place, place), (row.low, row.high), color=colour, linewidth=1.5, solid_capstyle="butt")
        axes.plot([place], [row.value], sign, color=colour, markersize=4.5)


def name_lines(axes: Axes, ends: Mapping[str, tuple[float, str]]) -> None:
    """Write the name of each line at its end, a height and a colour, none on another; the limits stand already."""
    low, high = map(float, axes.get_ylim())
    if axes.get_yscale() == "log":
        shares = {name: math.log(end / low) / math.log(high / low) for name, (end, _) in ends.items()}
    else:
        shares = {name: (end - low) / (high - low) for name, (end, _) in ends.items()}
    for name, place in _apart(shares).items():
        arrow = {"arrowstyle": "-", "color": ends[name][1], "shrinkA": 1, "shrinkB": 0, "relpos": (0.0, 0.5)}
        axes.annotate(
            printable(name),
            xy=(1.0, shares[name]),
            xytext=(1.05, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            annotation_clip=False,
            arrowprops=arrow,
        )


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """Push heights apart: upwards from the lowest, and down again from the top where there is no more room."""
    upwards = sorted(heights, key=lambda each: heights[each])
    places = {name: max(0.0, heights[name]) for name in upwards}
    for below, above in pairwise(upwards):
        places[above] = max(places[above], places[below] + _APART)
    highest = 1.0
    for name in reversed(upwards):
        places[name] = min(places[name], highest)
        highest = places[name] - _APART
    return places


def svg_of(figure: Figure, *, name: str, titles: Mapping[str, str] | None = None) -> str:
    """Draw a figure as an element of a page: its ids begin with a name, and marks of an id have a hover title."""
    place = io.StringIO()
    with themed():
        figure.savefig(place, format="svg", metadata=_METADATA[".svg"])
    text = place.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for mark, said in (titles or {}).items():
        text = text.replace(f'<g id="{mark}">', f'<g id="{mark}"><title>{html.escape(printable(said))}</title>')
    # Texts have no angle brackets: what looks like an id in them is left alone.
    return re.sub(r"<[^>]*>", lambda tag: _LINK.sub(rf"\g<0>{name}-", tag.group(0)), text)
