"""Figures of a campaign: what each round found, and whether the bounds held that were stated before."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import NDArray

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.results import ROUND
from inverse_design.campaign.rounds import MEASURED
from inverse_design.plot.charts import ABOVE, axis, layout, line, marks, numbers
from inverse_design.plot.style import BLUE, GREY, INK, ORANGE, Chart, new_axes, themed
from inverse_design.problem.target import is_state
from inverse_design.recommend.protocol import PERTURBATION


def campaign_curve(campaign: Campaign, *, ax: Axes | None = None) -> Axes:
    """Draw what was measured in each round, and the best so far.

    Args:
        campaign: With measured experiments, or none yet.
        ax: Where to draw; by default in a new figure.
    """
    found, best = curve_of(campaign)
    nearer = is_state(campaign.target)
    with themed():
        axes = ax or new_axes(5.0, 3.4)
        axes.plot(found[ROUND], found[MEASURED], "o", color=GREY, markersize=4, label="measured")
        axes.step(range(len(best)), best, where="post", color=BLUE, linewidth=1.5, label="best so far")
        axes.plot(range(len(best)), best, "o", color=BLUE, markersize=4)
        axes.set_xticks(range(len(best)))
        axes.set_xlabel("round (0: the starting screen)")
        axes.set_ylabel("distance (smaller is better)" if nearer else "utility (larger is better)")
        axes.set_title(f"n = {found[MEASURED].notna().sum()} measured experiments")
        axes.legend(fontsize=7)
    return axes


def campaign_coverage(campaign: Campaign, *, ax: Axes | None = None) -> Axes:
    """Draw what was stated before each experiment against what was measured."""
    known, held = stated_of(campaign)
    stated = known[["lower", "predicted", "upper", MEASURED]].to_numpy(float)
    with themed():
        axes = ax or new_axes(4.2, 4.0)
        for rows, colour, sign, name in (
            (stated[held], BLUE, "o", "held"),
            (stated[~held], ORANGE, "s", "missed"),
        ):
            reach = np.abs(rows[:, [0, 2]] - rows[:, [1]]).T
            axes.errorbar(
                rows[:, 3], rows[:, 1], reach, fmt=sign, color=colour, markersize=4, elinewidth=1,
                label=f"{name}: {len(rows)}",
            )  # fmt: skip
        low, high = axes.get_xlim()
        axes.plot((low, high), (low, high), color=INK, linewidth=1)
        axes.set_xlabel("measured")
        axes.set_ylabel(f"stated before, {100 * campaign.settings.level:g} % interval")
        axes.legend(fontsize=7)
    return axes


def curve_chart(campaign: Campaign) -> Chart:
    """Show what :func:`campaign_curve` shows."""
    found, best = curve_of(campaign)
    rounds = list(range(len(best)))
    said = [f"{name}: {value:.3g}" for name, value in zip(found[PERTURBATION], found[MEASURED], strict=True)]
    steps = marks(rounds, best, [f"best so far: {value:.3g}" for value in best], color=BLUE)
    steps |= {"name": "best so far", "mode": "lines+markers", "line": {"color": BLUE, "shape": "hv", "width": 2}}
    sense = "distance (smaller is better)" if is_state(campaign.target) else "utility (larger is better)"
    return {
        "data": [marks(found[ROUND], found[MEASURED], said, color=GREY, size=7) | {"name": "measured"}, steps],
        "layout": layout(axis("round (0: the starting screen)", tickvals=rounds), axis(sense), **ABOVE),
    }


def coverage_chart(campaign: Campaign) -> Chart:
    """Show what :func:`campaign_coverage` shows."""
    known, held = stated_of(campaign)
    parts = []
    for rows, colour, sign, name in ((held, BLUE, "circle", "held"), (~held, ORANGE, "square", "missed")):
        some = known[rows]
        said = [
            f"{row[PERTURBATION]}: measured {row[MEASURED]:.3g}, {row['lower']:.3g} to {row['upper']:.3g}"
            for row in some.to_dict("records")
        ]
        above, below = some["upper"] - some["predicted"], some["predicted"] - some["lower"]
        reach = {"type": "data", "symmetric": False, "array": numbers(above), "arrayminus": numbers(below)}
        placed = marks(some[MEASURED], some["predicted"], said, color=colour, symbol=sign, size=8)
        bars = reach | {"color": colour, "thickness": 1.5, "width": 0}
        parts.append(placed | {"name": f"{name}: {len(some)}", "error_y": bars})
    values = known[["predicted", MEASURED]].to_numpy(float)
    ends = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    stated = f"stated before, {100 * campaign.settings.level:g} % interval"
    return {
        "data": [line(ends, ends, color=INK, width=1), *parts],
        "layout": layout(axis("measured"), axis(stated), **ABOVE),
    }


def curve_of(campaign: Campaign) -> tuple[pd.DataFrame, list[float]]:
    """Give what was measured, and the best before the first round and after each."""
    found, status, nearer = campaign.outcomes(), campaign.status(), is_state(campaign.target)
    best = [(status.gain - status.utility) if nearer else status.utility - status.gain]
    for number in range(1, status.rounds + 1):
        values = found.loc[found[ROUND] == number, MEASURED].dropna().to_numpy(float)
        best.append((min if nearer else max)([best[-1], *values]))
    return found, best


def stated_of(campaign: Campaign) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """Give the experiments that have bounds and a measurement, and whether the bounds held."""
    known = campaign.outcomes().dropna(subset=["predicted", "lower", "upper", MEASURED])
    lower, upper, found = known[["lower", "upper", MEASURED]].to_numpy(float).T
    return known, (lower <= found) & (found <= upper)
