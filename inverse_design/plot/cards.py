"""Figures of measurements on a screen: the scorecard, curves of a replay, and the calibration card."""

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from inverse_design.plot.style import (
    BLUE,
    INK,
    LINES,
    ORANGE,
    interval,
    name_lines,
    new_axes,
    themed,
    titled,
    upright,
)
from inverse_design.validate.forward import RATIO, verdict
from inverse_design.validate.judged import Bin
from inverse_design.validate.replay import FOUND, REGRET
from surrogates.errors import DataError, printable
from surrogates.evaluation.intervals import Row
from surrogates.evaluation.metrics import exact_binomial_interval

_WIDTH, _ROW, _AROUND = 7.6, 0.22, 1.3  # inches: of a figure, of a line, and of all that stands around the lines
_TICKS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)  # of ratios
_SIGNS = {"better": (BLUE, "dot"), "worse": (ORANGE, "square")}
_SIDE = 2.5  # inches of a panel
_BAND = "#C8DCEB"
_SHIFT = 0.008  # so that two marks of one level do not hide each other
_COVERAGE, _STATED = "coverage_", "posterior_coverage_"
_CURVES = {FOUND: "share of the best that was found", REGRET: "utility below the best of all"}


def scorecard_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Draw the squared error of each model relative to the reference of each novelty class, best first."""
    panels = _panels(rows)
    with themed():
        heights = [len(panel) + 2 for panel in panels] or [1]
        figure = titled(_WIDTH, _AROUND + _ROW * sum(heights), title)
        grid = figure.subplots(len(heights), 1, squeeze=False, sharex=True, height_ratios=heights)[:, 0]
        for axes, panel in zip(grid, panels, strict=False):
            reference = panel[0].metric.removeprefix(RATIO)
            axes.set_title(printable(f"{panel[0].novelty} (n = {panel[0].n}), relative to {reference}"))
            axes.axvline(1.0, color=INK, linewidth=1)
            for place, row in enumerate(panel):
                colour, sign = _SIGNS.get(verdict(row), (INK, "ring"))
                numbers = [_within(each) for each in (row.low, row.value, row.high)]
                interval(axes, place, numbers, colour=colour, sign=sign)
                number = f"{row.value:.3f}" if row.value < 100 else f"{row.value:,.0f}"
                axes.annotate(number, (1.01, place), xycoords=("axes fraction", "data"), va="center")
            axes.set_yticks(range(len(panel)), labels=[printable(row.model) for row in panel])
            axes.set_ylim(len(panel) - 0.4, -0.6)
            axes.grid(visible=False, axis="y")
        last = grid[-1]
        last.set_xscale("log")
        last.set_xlim(_TICKS[0] * 0.95, _TICKS[-1] * 1.05)
        last.set_xticks(_TICKS, labels=[f"{tick:g}" for tick in _TICKS])
        last.minorticks_off()
        last.set_xlabel(
            "ratio of squared errors (smaller is better); line: 95 % interval\n"
            "filled circle: better, square: worse, ring: cannot tell"
        )
    return figure


def curves_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Draw which share of the best was found after each round, one line for each policy."""
    with themed():
        figure = titled(_WIDTH, 4.2, title)
        replay_curves(rows, ax=figure.subplots())
    return figure


def replay_curves(rows: Sequence[Row], *, metric: str = FOUND, ax: Axes | None = None) -> Axes:
    """Draw what each policy of a replay had reached after each round.

    Args:
        rows: What :func:`inverse_design.validate.replay.replay_rows` found.
        metric: ``found``, the share of the best candidates that were measured, or ``regret``, how far the best
            measured utility is below the best of all.
        ax: Where to draw; by default in a new figure.

    Raises:
        DataError: If the rows have no such curve.
    """
    found = [row for row in rows if row.metric == metric and row.variant.startswith("round ")]
    if metric not in _CURVES or not found:
        raise DataError(f"there is no curve {metric!r:.80} among the rows; curves are {', '.join(_CURVES)}")
    curves = {name: [row for row in found if row.model == name] for name in dict.fromkeys(r.model for r in found)}
    with themed():
        axes = ax or new_axes(_WIDTH, 4.2)
        ends = {}
        for number, (name, curve) in enumerate(curves.items()):
            colour = LINES[number % len(LINES)]
            axes.plot([row.value for row in curve], color=colour, linewidth=1.5)
            upright(axes, range(len(curve)), curve, colour=colour)
            ends[name] = (curve[-1].value, colour)
        if metric == FOUND:
            axes.set_ylim(-0.02, 1.02)
        else:
            axes.set_ylim(bottom=0)
        rounds = max(map(len, curves.values()))
        axes.set_xlim(-0.1, rounds - 0.9)
        axes.set_xticks(range(rounds))
        axes.set_xlabel("round (0: random start)")
        axes.set_title(f"{_CURVES[metric]}: mean over {found[0].n} seeds; bars: 95 % interval")
        name_lines(axes, ends)
    return axes


def _within(ratio: float) -> float:
    return min(max(ratio, _TICKS[0]), _TICKS[-1])


def _panels(rows: Sequence[Row]) -> list[list[Row]]:
    """Take the first ratio of each novelty class, without the model that it refers to, the smallest first."""
    panels = []
    for novelty in dict.fromkeys(row.novelty for row in rows):
        ratios = [row for row in rows if row.novelty == novelty and row.metric.startswith(RATIO)]
        shown = [
            row
            for row in ratios
            if row.metric == ratios[0].metric != RATIO + row.model and math.isfinite(row.value)
        ]
        if shown:
            panels.append(sorted(shown, key=lambda row: row.value))
    return panels


def calibration_figure(rows: Sequence[Row], bins: Mapping[str, Sequence[Bin]], *, title: str) -> Figure:
    """Draw a column for each novelty class (coverage above the transform), and reliability below."""
    shown = [row for row in rows if row.variant == rows[0].variant] if rows else []
    classes = list(dict.fromkeys(row.novelty for row in shown))
    columns, lines = max(len(classes), len(bins), 2), 3 if bins else 2
    variant = f" ({rows[0].variant.replace('_', ' ')})" if rows else ""
    with themed():
        figure = titled(_SIDE * columns, 1.0 + 0.9 * _SIDE * lines, f"{title}{variant}")
        grid = figure.subplots(lines, columns, squeeze=False)
        for axes in grid.flat:
            axes.set_visible(False)
        for number, novelty in enumerate(classes):
            own = {row.metric: row for row in shown if row.novelty == novelty}
            _coverage(grid[0, number], novelty, own, lowest=_floor(shown))
            _transform(grid[1, number], own)
        for number, (name, found) in enumerate(bins.items()):
            heading = f"reliability of the first candidate\nshare that came true, {name.replace('_', ' ')}"
            reliability_curve(found, title=heading, ax=grid[2, number]).set_ylabel("")
        marks = [
            Line2D([], [], color=BLUE, marker="o", label="conformal intervals"),
            Line2D([], [], color=ORANGE, marker="s", label="the posterior's own"),
            Patch(color=_BAND, label="what so few calibrating perturbations may give; lines: 95 % intervals"),
        ]
        figure.legend(handles=marks, loc="outside lower left", ncols=1, fontsize=8)
    return figure


def _coverage(axes: Axes, novelty: str, rows: Mapping[str, Row], *, lowest: float) -> None:
    levels = [name.removeprefix(_STATED).removesuffix("_all") for name in rows if name.startswith(_STATED)]
    n = max((row.n for name, row in rows.items() if name.startswith(_STATED)), default=0)
    _square(axes, f"{novelty} (n = {n})\ncoverage of single readouts", "nominal level", lowest=lowest)
    for each in (level for level in levels if f"{_STATED}{level}_all" in rows):
        at = float(each) / 100
        expected = rows.get(f"calibration_{each}")
        if expected is not None and math.isfinite(expected.low):
            axes.bar(at, expected.high - expected.low, 0.03, expected.low, color=_BAND, zorder=1)
        _mark(axes, at + _SHIFT, rows.get(f"{_STATED}{each}_all"), ORANGE, "s")
        _mark(axes, at - _SHIFT, rows.get(f"{_COVERAGE}{each}_all"), BLUE, "o")


def _floor(rows: Sequence[Row]) -> float:
    """Begin the axes of coverage where there is something to see: levels are close together at the upper end."""
    lows = [row.low for row in rows if _COVERAGE in row.metric and row.metric.endswith("_all")]
    lows += [min(row.value, row.low) for row in rows if row.metric.startswith("calibration_")]
    return 0.4 if min((low for low in lows if math.isfinite(low)), default=0.0) >= 0.4 else 0.0


def _mark(axes: Axes, at: float, row: Row | None, colour: str, sign: str) -> None:
    if row is not None and math.isfinite(row.value):
        upright(axes, [at], [row], colour=colour, sign=sign)


def _transform(axes: Axes, rows: Mapping[str, Row]) -> None:
    axes.set_visible(True)
    deciles = {n: rows[f"pit_decile_{n}"] for n in range(1, 11) if f"pit_decile_{n}" in rows}
    for number, row in deciles.items():
        axes.bar((number - 0.5) / 10, row.value, 0.085, color=BLUE)
        axes.plot([(number - 0.5) / 10] * 2, (row.low, row.high), color=INK, linewidth=1)
    axes.axhline(0.1, color=INK, linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.05 * max((0.2, *(row.high for row in deciles.values()))))
    axes.set_title("share of readouts")
    axes.set_xlabel("posterior probability of\nthe measured value")


def reliability_curve(bins: Sequence[Bin], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw how often statements came true that were made with each probability.

    Args:
        bins: What :func:`inverse_design.validate.judged.reliability` found.
        title: What the statements were about.
        ax: Where to draw; by default in a new figure.
    """
    with themed():
        axes = ax or new_axes(3.4, 3.4)
        n = sum(each.n for each in bins)
        _square(axes, title or f"n = {n}", "stated probability")
        axes.set_ylabel("share that came true; line: 95 % interval")
        for each in bins:
            low, high = exact_binomial_interval(round(each.found * each.n), each.n)
            axes.plot((each.stated, each.stated), (low, high), color=BLUE, linewidth=1.5, solid_capstyle="butt")
            axes.plot([each.stated], [each.found], "o", color=BLUE, markersize=4.5)
            axes.annotate(str(each.n), (each.stated, each.found), (4, -10), textcoords="offset points", fontsize=7)
    return axes


def _square(axes: Axes, heading: str, across: str, *, lowest: float = 0.0) -> None:
    axes.set_visible(True)
    axes.plot((lowest, 1), (lowest, 1), color=INK, linewidth=1)
    axes.set_xlim(lowest, 1.02)
    axes.set_ylim(lowest, 1.02)
    axes.set_title("\n".join(map(printable, heading.splitlines())))
    axes.set_xlabel(across)
