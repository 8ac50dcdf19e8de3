"""Distances to a target mean against experiments, as a figure: one panel for each family of networks."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from benchmarks.causal_matching.rows import DISTANCE
from inverse_design.plot.style import LINES, name_lines, themed, titled, upright
from surrogates.evaluation.intervals import Row


def distances_figure(rows: Sequence[Row], *, title: str) -> Figure:
    """Draw the squared distance after each round, on a logarithmic axis."""
    shown = [row for row in rows if row.metric == DISTANCE]
    families = tuple(dict.fromkeys(row.dataset for row in shown))
    names = tuple(dict.fromkeys(row.model for row in shown))
    with themed():
        figure = titled(2.0 + 2.9 * len(families), 4.2, title)
        grid = figure.subplots(1, len(families), squeeze=False, sharey=True)[0]
        grid[0].set_yscale("log")
        for axes, family in zip(grid, families, strict=True):
            axes.set_title(family)
            axes.set_xlabel("experiments")
            for number, name in enumerate(names):
                curve = [row for row in shown if row.dataset == family and row.model == name]
                colour = LINES[number % len(LINES)]
                axes.plot([row.value for row in curve], color=colour, linewidth=1.5)
                upright(axes, range(len(curve)), curve, colour=colour)
            ticks = range(0, len(curve), max(1, (len(curve) - 1) // 4))
            axes.set_xticks(ticks, labels=[curve[tick].variant.split()[0] for tick in ticks])
        grid[0].set_ylabel("squared distance, mean over worlds; bars: 95 % interval")
        name_lines(
            grid[-1],
            {
                row.model: (row.value, LINES[names.index(row.model) % len(LINES)])
                for row in shown
                if row.dataset == families[-1]
            },
        )
    return figure
