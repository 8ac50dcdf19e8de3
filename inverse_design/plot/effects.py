"""Figures of predicted effects: one candidate readout by readout, and all candidates in a plane."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox
from scipy.special import log_ndtr

from inverse_design.plot.predicted import Compared, Numbers, Plane, compared, plane_of
from inverse_design.plot.style import BLUE, GREY, INK, ORANGE, PALE, figure_of, new_axes, themed
from inverse_design.proposal import Proposal
from surrogates.errors import amount, printable

_MANY = 500  # marks that are drawn as an image
_LINE, _LETTER, _BESIDE = 8.0, 5.0, 6.0  # points: height of a name, width of a letter, and how far off it begins


def readouts(
    proposal: Proposal, *, rank: int = 1, named: int = 6, measured: pd.Series | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the predicted effect of a candidate against the wanted one, readout by readout.

    Args:
        proposal: What was proposed, for a state.
        rank: Which row of its table.
        named: How many readouts to name that the candidate fixes, and how many that it breaks.
        measured: Effects that were measured of the candidate, by readout: drawn as rings.
        ax: Where to draw; by default in a new figure.

    Raises:
        DataError: If the target is no state, or there is no such row.
    """
    found = compared(proposal, "readouts", rank=rank, named=named, measured=measured)
    wanted, predicted = found.wanted, found.predicted
    with themed():
        axes = ax or new_axes(4.6, 4.6)
        many = len(wanted) > _MANY
        reach = (predicted - found.spread, predicted + found.spread, np.full(len(wanted), np.nan))
        bars = np.column_stack(reach).ravel()  # one line with gaps: a page of thousands of lines would be large
        axes.plot(np.repeat(wanted, 3), bars, color=PALE, linewidth=0.8, rasterized=many)
        axes.plot(wanted, predicted, ".", color=GREY, markersize=3, rasterized=many, zorder=2)
        if found.measured is not None:
            known = found.measured
            axes.plot(wanted, known, "o", color=INK, markerfacecolor="none", markersize=4, label="measured")
            axes.legend(loc="upper left")
        ends = min(*wanted, *predicted), max(*wanted, *predicted)
        axes.plot(ends, ends, color=INK, linewidth=1)
        _mark(axes, found, wanted, predicted)
        axes.set_xlabel(f"wanted effect, {amount(len(wanted), 'readout')}, {proposal.unit}")
        axes.set_ylabel("predicted effect ± standard deviation")
        axes.set_title(printable(f"{found.label}: circles come nearer, squares move away"))
    return axes


def volcano(proposal: Proposal, *, rank: int = 1, named: int = 6, ax: Axes | None = None) -> Axes:
    """Draw the predicted effects of a candidate against how sure it is that they are not zero.

    Args:
        proposal: What was proposed, for a state.
        rank: Which row of its table.
        named: How many readouts to name that the candidate fixes, and how many that it breaks.
        ax: Where to draw; by default in a new figure.

    Raises:
        DataError: If the target is no state, or there is no such row.
    """
    found = compared(proposal, "volcano", rank=rank, named=named, measured=None)
    score = np.abs(found.predicted) / np.where(found.spread > 0, found.spread, np.nan)
    sure = -(log_ndtr(-score) + np.log(2)) / np.log(10)
    with themed():
        axes = ax or new_axes(4.6, 4.6)
        axes.axvline(0, color=INK, linewidth=1)
        axes.plot(found.predicted, sure, ".", color=GREY, markersize=3, rasterized=len(sure) > _MANY, zorder=2)
        _mark(axes, found, found.predicted, sure)
        axes.set_xlabel(f"predicted effect, {amount(len(sure), 'readout')}, {proposal.unit}")
        axes.set_ylabel("-log10 p of no effect, by the posterior")
        axes.set_title(printable(f"{found.label}: circles come nearer, squares move away"))
    return axes


def _mark(axes: Axes, found: Compared, across: Numbers, up: Numbers) -> None:
    """Mark and name the readouts that a candidate fixes, names to the right, and breaks, names to the left."""
    points: list[tuple[str, float, float, str]] = []
    for rows, colour, sign in ((found.fixes, BLUE, "o"), (found.breaks, ORANGE, "s")):
        for at in (row for row in rows if np.isfinite(up[row])):
            axes.plot([across[at]], [up[at]], sign, color=colour, markersize=5, gid=f"readout-{at}")
            points.append((printable(found.names[at]), float(across[at]), float(up[at]), colour))
    figure_of(axes).draw_without_rendering()  # names are placed where the marks will be
    unit, taken = float(figure_of(axes).dpi) / 72, list[Bbox]()
    for name, x, y, colour in points:
        right = colour == BLUE
        left, base = map(float, axes.transData.transform((x, y)) / unit)
        wide = _LETTER * len(name)
        start = left + _BESIDE if right else left - _BESIDE - wide
        tries = (sign * _LINE * step / 2 for step in range(2 * len(points) + 1) for sign in (1, -1))
        boxes = ((up, Bbox.from_bounds(start, base + up - _LINE / 2, wide, _LINE)) for up in tries)
        free, box = next(each for each in boxes if not any(each[1].overlaps(other) for other in taken))
        taken.append(box)
        arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        place = (_BESIDE if right else -_BESIDE, free)
        axes.annotate(
            name, (x, y), place, textcoords="offset points", fontsize=7, color=colour, va="center",
            ha="left" if right else "right", arrowprops=arrow if abs(free) > _LINE else None,
        )  # fmt: skip


def candidate_map(proposal: Proposal, *, named: int = 5, ax: Axes | None = None) -> Axes:
    """Draw the predicted effects of candidates along their two main directions, with the target and the control.

    Raises:
        DataError: If the target is no state.
    """
    return draw_plane(plane_of(proposal), named=named, ax=ax)


def draw_plane(plane: Plane, *, named: int = 5, ax: Axes | None = None) -> Axes:
    """Draw candidates, target and control where they are."""
    with themed():
        axes = ax or new_axes(5.0, 4.6)
        many = len(plane.cloud) > _MANY
        axes.plot(*plane.cloud.T, ".", color=PALE, markersize=4, rasterized=many, label="candidates")
        axes.plot(*plane.listed.T, "o", color=BLUE, markersize=4, label="listed")
        for number, (x, y) in enumerate(plane.listed[:named], 1):
            axes.annotate(str(number), (x, y), (4, 3), textcoords="offset points", fontsize=8, color=BLUE)
            axes.plot([x], [y], "o", color=BLUE, markersize=5, gid=f"listed-{number - 1}")
        axes.plot(*plane.control.T, "P", color=INK, markersize=7, label="control")
        axes.plot(*plane.target.T, "*", color=ORANGE, markersize=11, label="target")
        axes.set_xlabel(direction(plane, 0))
        axes.set_ylabel(direction(plane, 1))
        axes.set_title(f"predicted effects of {len(plane.cloud):,} combinations")
        axes.legend(loc="best", fontsize=7)
    return axes


def direction(plane: Plane, number: int) -> str:
    """Name a direction of a plane."""
    if number >= len(plane.shares):
        return ""
    share = f"{100 * plane.shares[number]:.0f} %"
    return f"second direction ({share})" if number else f"first direction ({share} of the variance)"
