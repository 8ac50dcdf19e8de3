"""Figures of a proposal: each draws into the axes it is given, or into new ones, and returns them.

Marks of single candidates and readouts have ids, by which a page gives them hover titles (:func:`hover_titles`).
"""

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float64
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.candidates import percentage
from inverse_design.plot.predicted import effects_of, labelled_batch, wanted_state
from inverse_design.plot.style import BLUE, GREY, INK, ORANGE, figure_of, interval, new_axes, themed
from inverse_design.problem.likelihood import Baselines
from inverse_design.problem.objective import DISTANCE
from inverse_design.problem.target import AlignedProfile, ProfileTarget
from inverse_design.proposal import Proposal
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError, amount, printable

_ROW, _AROUND = 0.24, 1.2  # inches: of a line, and of all that stands around the lines
_SURE = 0.999


def ranking(
    proposal: Proposal, *, top: int = 20, truth: str = "", width: float = 7.6, ax: Axes | None = None
) -> Axes:
    """Draw what is expected of the first candidates, and how probable it is that each made the target.

    Example:
        >>> ranking(propose(screen, "CEBPE+KLF1", surrogate="additive")).get_xlabel()
        'distance over 8 readouts (smaller is better); line: 90 % interval'

    Args:
        proposal: What was proposed.
        top: How many rows to show.
        truth: The label of a candidate to mark, such as the condition that was held out.
        width: Of a new figure, in inches.
        ax: Where to draw; by default in a new figure.

    Returns:
        The axes; those of the probabilities are inset to their right.
    """
    table = proposal.table.head(top)
    bounded = DISTANCE if DISTANCE in table else "utility"
    filled = table.fillna({"lower": table[bounded], "upper": table[bounded]})
    names = [str(name) for name in table["perturbation"]]
    inside = table["in_set"].fillna(value=False).tolist() if "in_set" in table else [True] * len(table)
    with themed():
        axes = ax or new_axes(width, _AROUND + _ROW * len(names))
        for place, numbers in enumerate(filled[["lower", bounded, "upper"]].to_numpy(float).tolist()):
            colour = ORANGE if names[place] == truth else BLUE if inside[place] else GREY
            interval(axes, place, numbers, colour=colour, sign="dot" if inside[place] else "ring")
            axes.lines[-1].set_gid(f"candidate-{place}")
        _references(axes, proposal.baselines)
        axes.set_yticks(range(len(names)), [printable(f"{n} (truth)" if n == truth else n) for n in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        better = "smaller" if bounded == DISTANCE else "larger"
        axes.set_xlabel(f"{_measure(proposal)} ({better} is better); line: {100 * proposal.level:.3g} % interval")
        _probabilities(axes, table["probability"].to_numpy(float), names)
        if ax is None:  # the room for what is inset is right from the second drawing on
            figure_of(axes).draw_without_rendering()
    return axes


def _measure(proposal: Proposal) -> str:
    """Name what is drawn, with how many readouts it is over."""
    if DISTANCE not in proposal.table or not isinstance(proposal.target, ProfileTarget):
        return "utility"
    return f"distance over {amount(len(wanted_state(proposal, 'ranking').columns), 'readout')}"


def _references(axes: Axes, known: Baselines) -> None:
    """Draw what candidates have to beat; names stand above, one to the left and one to the right."""
    lines = [(known.nothing, "doing nothing", INK, "-"), (known.best, "best measured", GREY, "--")]
    found = sorted(each for each in lines if math.isfinite(each[0]))
    for place, (value, name, colour, style) in enumerate(found):
        axes.axvline(value, color=colour, linewidth=1, linestyle=style)
        axes.annotate(
            name, (value, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="right" if place < len(found) - 1 else "left", va="bottom", fontsize=7, color=INK,
        )  # fmt: skip


def _probabilities(axes: Axes, values: NDArray[np.float64], names: list[str]) -> None:
    if np.isnan(values).all():
        return
    beside = axes.inset_axes((1.03, 0, 0.24, 1), sharey=axes)
    beside.barh(range(len(names)), np.nan_to_num(values), 0.6, color=BLUE)
    for place, value in enumerate(values):
        inside = value > 0.5
        said = in_percent(value)
        beside.annotate(
            said, (value if inside else np.nan_to_num(value), place), (-3 if inside else 3, 0),
            textcoords="offset points", ha="right" if inside else "left", va="center", fontsize=7,
            color="white" if inside else INK,
        )  # fmt: skip
    beside.set_xlim(0, 1)
    beside.set_xticks((0, 0.5, 1), ("0", "50", "100"))
    beside.get_xticklabels()[-1].set_horizontalalignment("right")
    beside.tick_params(axis="y", left=False, labelleft=False)
    beside.grid(visible=False, axis="y")
    beside.set_xlabel("made this state, %")


def in_percent(value: float) -> str:
    """Write a probability in a figure, the extremes as bounds."""
    if math.isnan(value):
        return "-"
    return ">99.9 %" if value > _SURE else "<0.1 %" if value < 1 - _SURE else f"{100 * value:.3g} %"


def pair_distances(proposal: Proposal, *, entries: int = 16, ax: Axes | None = None) -> Axes:
    """Draw how far the predicted mean of every pair of the leading entries is from the target; singles diagonally.

    Raises:
        DataError: If the target is no state, or the proposal has no pairs.
    """
    target = wanted_state(proposal, "pair_distances")
    found = [proposal.space.vocabulary.parse(str(each)) for each in proposal.table["perturbation"]]
    ids = list(dict.fromkeys(int(one) for each in found for one in _members(proposal, each.label)))[:entries]
    if 2 not in proposal.space.orders or len(ids) < 2:
        raise DataError("a proposal without pairs has no distances of pairs; propose with order 2")
    first, second = torch.triu_indices(len(ids), len(ids)).unbind(0)
    known = torch.tensor(ids)
    genes = torch.stack([known[first], torch.where(first == second, -1, known[second])], dim=1)
    genes = torch.where((genes[:, 1:] >= 0) & (genes[:, 1:] < genes[:, :1]), genes.flip(1), genes)
    distance = _distances(proposal, target, proposal.space.vocabulary.dosed(genes)).numpy()
    grid = np.full((len(ids), len(ids)), np.nan)
    grid[first, second] = grid[second, first] = distance
    names = [printable(proposal.space.vocabulary.entries[one].label) for one in ids]
    ranks = {frozenset(_members(proposal, each.label)): number for number, each in enumerate(found, 1)}
    with themed():
        axes = ax or new_axes(5.4, 4.8)
        image = axes.imshow(grid, cmap="cividis_r")
        axes.figure.colorbar(image, ax=axes, label="distance of the predicted mean to the target", shrink=0.8)
        for row, one in enumerate(ids):
            for column, other in enumerate(ids):
                if row < column and (number := ranks.get(frozenset((one, other)))):
                    dark = grid[row, column] > np.nanmean((np.nanmin(grid), np.nanmax(grid)))
                    axes.text(
                        column,
                        row,
                        str(number),
                        ha="center",
                        va="center",
                        fontsize=7,
                        color="white" if dark else INK,
                    )
        axes.set_xticks(range(len(ids)), names, rotation=90)
        axes.set_yticks(range(len(ids)), names)
        axes.grid(visible=False)
        axes.set_title("numbers: ranks in the list; diagonal: alone")
    return axes


def held_out(proposal: Proposal, *, ax: Axes | None = None) -> Axes:
    """Draw which probability held-out truths got from error models that had not seen them.

    Raises:
        DataError: If too few combinations could be held out.
    """
    promise = proposal.fitted.promise
    if promise is None:
        raise DataError("no combination could be held out, so that nothing is known of their probabilities")
    stated = promise.log_probability.exp().clamp(min=1e-6).sort().values.numpy()
    blind = 1 / max(1, min(proposal.space.count_valid, 10**6))
    with themed():
        axes = ax or new_axes(4.6, 3.2)
        shares = np.arange(1, len(stated) + 1) / len(stated)
        axes.step((*stated, 1.0), (*shares, 1.0), where="post", color=BLUE)
        axes.axvline(blind, color=INK, linewidth=1)
        axes.annotate(" a blind guess", (blind, 0.9), fontsize=7)
        axes.set_xscale("log")
        low = min(blind, float(stated[0]))
        ticks = [10.0**power for power in range(math.floor(math.log10(low)), 1)]
        axes.set_xticks(ticks, [f"{100 * tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(low / 2, 1.2)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("probability that the truth was given, %")
        axes.set_ylabel("share of held-out doubles")
        axes.set_title(f"n = {len(stated)} doubles, unseen by what named them")
    return axes


def hover_titles(proposal: Proposal) -> Mapping[str, str]:
    """Say what each marked candidate is, by the id of its mark."""
    bounded = DISTANCE if DISTANCE in proposal.table else "utility"
    said = {}
    for place, row in enumerate(proposal.table.to_dict("records")):
        words = f"{row['rank']}. {row['perturbation']}: {bounded} {row[bounded]:.3g}"
        if not math.isnan(row["lower"]):
            words += f", {row['lower']:.3g} to {row['upper']:.3g}"
        if not math.isnan(row["probability"]):
            words += f"; made this state with {percentage(row['probability'])}"
        said[f"candidate-{place}"] = said[f"listed-{place}"] = words
    return said


def _members(proposal: Proposal, label: str) -> list[int]:
    genes = labelled_batch(proposal, [label]).genes[0].tolist()
    return [one for one in genes if one >= 0]


def _distances(proposal: Proposal, target: AlignedProfile, batch: PerturbationBatch) -> Float64[Tensor, "n"]:
    gap = effects_of(proposal, target, batch) - target.values * target.weights.sqrt()
    return (gap.square().sum(1) / target.weights.sum()).sqrt()
