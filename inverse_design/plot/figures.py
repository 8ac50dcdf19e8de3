"""The ranking, the scorecard and the curves of a replay as figures: a value and an interval for each line."""

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from inverse_design.cli.console import printable
from inverse_design.plot.theme import BLUE, INK, LINES, ORANGE, interval, name_lines, themed, titled, upright
from inverse_design.validate.forward import RATIO, verdict
from inverse_design.validate.replay_rows import FOUND
from surrogates.evaluation.rows import Row

_WIDTH, _ROW, _AROUND = 7.6, 0.22, 1.3  # inches: of a figure, of a line, and of all that stands around the lines
_TICKS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)  # of ratios
_SIGNS = {"better": (BLUE, "dot"), "worse": (ORANGE, "square")}


def ranking_figure(
    table: pd.DataFrame, *, title: str, level: float, marked: str = "", nothing: float = math.nan
) -> Figure:
    """Draw what an experiment with each candidate will show, with its interval."""
    bounded = "distance" if "distance" in table else "utility"
    table = table.fillna({"lower": table[bounded], "upper": table[bounded]})
    names = [str(name) for name in table["perturbation"]]
    with themed():
        figure = titled(_WIDTH, _AROUND + _ROW * len(names), title)
        axes = figure.subplots()
        bounds = table[["lower", bounded, "upper"]].to_numpy(float).tolist()
        for place, (name, numbers) in enumerate(zip(names, bounds, strict=True)):
            colour, sign = (ORANGE, "square") if name == marked else (BLUE, "dot")
            interval(axes, place, numbers, colour=colour, sign=sign)
        if math.isfinite(nothing):
            axes.axvline(nothing, color=INK, linewidth=1)
            axes.annotate(" doing nothing", (nothing, 0), xycoords=("data", "axes fraction"), va="bottom")
        axes.set_title(f"dot: expected {bounded}; line: {100 * level:.3g} % interval of what will be measured")
        labels = [printable(f"{name} (truth)" if name == marked else name) for name in names]
        axes.set_yticks(range(len(names)), labels=labels)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        better = "smaller" if bounded == "distance" else "larger"
        axes.set_xlabel(f"{bounded} ({better} is better)")
    return figure


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
    found = [row for row in rows if row.metric == FOUND]
    curves = {name: [row for row in found if row.model == name] for name in dict.fromkeys(r.model for r in found)}
    with themed():
        figure = titled(_WIDTH, 4.2, title)
        axes = figure.subplots()
        axes.set_ylim(-0.02, 1.02)
        ends = {}
        for number, (name, curve) in enumerate(curves.items()):
            colour = LINES[number % len(LINES)]
            axes.plot([row.value for row in curve], color=colour, linewidth=1.5)
            upright(axes, range(len(curve)), curve, colour=colour)
            ends[name] = (curve[-1].value, colour)
        rounds = max(map(len, curves.values()), default=1)
        axes.set_xlim(-0.1, rounds - 0.9)
        axes.set_xticks(range(rounds))
        axes.set_xlabel("round (0: random start)")
        axes.set_title("share found: mean over seeds; bars: 95 % interval over seeds and genes")
        name_lines(axes, ends)
    return figure


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
