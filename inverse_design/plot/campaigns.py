"""Figures of a campaign: what each round found, and whether the bounds held that were stated before."""

import numpy as np
from matplotlib.axes import Axes

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.results import ROUND
from inverse_design.campaign.rounds import MEASURED
from inverse_design.plot.style import BLUE, GREY, INK, ORANGE, new_axes, themed
from inverse_design.problem.target import is_state


def campaign_curve(campaign: Campaign, *, ax: Axes | None = None) -> Axes:
    """Draw what was measured in each round, and the best so far.

    Args:
        campaign: With measured experiments, or none yet.
        ax: Where to draw; by default in a new figure.
    """
    found, status, nearer = campaign.outcomes(), campaign.status(), is_state(campaign.target)
    start = (status.gain - status.utility) if nearer else status.utility - status.gain
    best = [start]
    for number in range(1, status.rounds + 1):
        values = found.loc[found[ROUND] == number, MEASURED].dropna().to_numpy(float)
        best.append((min if nearer else max)([best[-1], *values]))
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
    known = campaign.outcomes().dropna(subset=["predicted", "lower", "upper", MEASURED])
    stated = known[["lower", "predicted", "upper", MEASURED]].to_numpy(float)
    held = (stated[:, 0] <= stated[:, 3]) & (stated[:, 3] <= stated[:, 2])
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
