"""Figures of a proposal: each draws into the axes it is given, or into new ones, and returns them.

Marks of single candidates and readouts have ids, by which a page gives them hover titles (:func:`hover_titles`).
"""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.candidates import percentage
from inverse_design.plot.style import BLUE, GREY, INK, ORANGE, PALE, figure_of, interval, new_axes, themed
from inverse_design.problem.likelihood import Baselines
from inverse_design.problem.objective import DISTANCE
from inverse_design.problem.target import AlignedProfile, ProfileTarget
from inverse_design.proposal import Proposal
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError, printable

_ROW, _AROUND = 0.24, 1.2  # inches: of a line, and of all that stands around the lines
_MANY = 2000  # marks that are drawn as an image
_CLOUD = 1000  # candidates of a map
_SURE = 0.999
_LINE, _APART = 8.0, 45.0  # points: height of a name, and its usual width


def ranking(proposal: Proposal, *, top: int = 20, truth: str = "", ax: Axes | None = None) -> Axes:
    """Draw what is expected of the first candidates, and how probable it is that each made the target.

    Example:
        >>> ranking(propose(screen, "CEBPE+KLF1")).figure  # doctest: +SKIP

    Args:
        proposal: What was proposed.
        top: How many rows to show.
        truth: The label of a candidate to mark, such as the condition that was held out.
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
        axes = ax or new_axes(7.6, _AROUND + _ROW * len(names))
        for place, numbers in enumerate(filled[["lower", bounded, "upper"]].to_numpy(float).tolist()):
            colour = ORANGE if names[place] == truth else BLUE if inside[place] else GREY
            interval(axes, place, numbers, colour=colour, sign="dot" if inside[place] else "ring")
            axes.lines[-1].set_gid(f"candidate-{place}")
        _references(axes, proposal.baselines)
        axes.set_yticks(range(len(names)), [printable(f"{n} (truth)" if n == truth else n) for n in names])
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        better = "smaller" if bounded == DISTANCE else "larger"
        axes.set_xlabel(f"{bounded} ({better} is better); line: {100 * proposal.level:.3g} % interval")
        _probabilities(axes, table["probability"].to_numpy(float), names)
    return axes


def _references(axes: Axes, known: Baselines) -> None:
    """Draw what candidates have to beat; names stand above, one to the left and one to the right."""
    lines = [(known.nothing, "doing nothing", INK, "-"), (known.best, "best measured", GREY, "--")]
    found = sorted(each for each in lines if math.isfinite(each[0]))
    for place, (value, name, colour, style) in enumerate(found):
        axes.axvline(value, color=colour, linewidth=1, linestyle=style)
        axes.annotate(
            name, (value, 1), (0, 3), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="right" if place < len(found) - 1 else "left", va="bottom", fontsize=7, color=colour,
        )  # fmt: skip


def _probabilities(axes: Axes, values: NDArray[np.float64], names: list[str]) -> None:
    if np.isnan(values).all():
        return
    beside = axes.inset_axes((1.03, 0, 0.24, 1), sharey=axes)
    beside.barh(range(len(names)), np.nan_to_num(values), 0.6, color=BLUE)
    for place, value in enumerate(values):
        inside = value > 0.5
        said = ">99.9 %" if value > _SURE else "<0.1 %" if value < 1 - _SURE else f"{100 * value:.3g} %"
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


def readouts(
    proposal: Proposal,
    *,
    rank: int = 1,
    named: int = 6,
    measured: pd.Series | None = None,
    ax: Axes | None = None,
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
    target = _state(proposal, "readouts")
    if not 1 <= rank <= len(proposal.table):
        raise DataError(f"rank {rank} is not within the {len(proposal.table)} rows of the proposal")
    label = str(proposal.table["perturbation"].iloc[rank - 1])
    posterior = proposal.fitted.predict(_batch(proposal, [label]))
    wanted, names = target.values.numpy(), [proposal.fitted.readouts[int(each)] for each in target.columns]
    predicted = posterior.mean[0, target.columns].numpy()
    spread = posterior.variance[0, target.columns].sqrt().numpy()
    why, place = proposal.explanations[rank - 1], dict(zip(names, range(len(names)), strict=True))
    with themed():
        axes = ax or new_axes(4.6, 4.6)
        many = len(names) > _MANY
        if not many:
            axes.errorbar(wanted, predicted, spread, fmt="none", ecolor=PALE, elinewidth=0.8)
        axes.plot(wanted, predicted, ".", color=GREY, markersize=3, rasterized=many, zorder=2)
        if measured is not None:
            known = measured.reindex(names).to_numpy(float)
            axes.plot(wanted, known, "o", color=INK, markerfacecolor="none", markersize=4, label="measured")
            axes.legend(loc="upper left")
        low, high = (
            float(pick(each)) for pick, each in ((min, (*wanted, *predicted)), (max, (*wanted, *predicted)))
        )
        axes.plot((low, high), (low, high), color=INK, linewidth=1)
        marked = ((why.fixes, BLUE, "o"), (why.breaks, ORANGE, "s"))
        names_at: dict[str, tuple[float, float, str]] = {}
        for contributions, colour, sign in marked:
            for each in [one for one in contributions if one.readout in place][:named]:
                at = place[each.readout]
                axes.plot([wanted[at]], [predicted[at]], sign, color=colour, markersize=5, gid=f"readout-{at}")
                names_at[each.readout] = (wanted[at], predicted[at], colour)
        _name_points(axes, names_at)
        axes.set_xlabel(f"wanted effect, {len(names):,} readouts, unit of the screen")
        axes.set_ylabel("predicted effect ± standard deviation")
        axes.set_title(printable(f"{label}: circles come nearer, squares move away"))
    return axes


def _name_points(axes: Axes, points: Mapping[str, tuple[float, float, str]]) -> None:
    """Write a name beside each point, above or below those that stand there already."""
    taken: list[tuple[float, float]] = []
    for name, (x, y, colour) in points.items():
        left, base = map(float, axes.transData.transform((x, y)))
        unit = float(figure_of(axes).dpi) / 72
        tries = (sign * (3 + _LINE * step) for step in range(len(points) + 1) for sign in (1, -1))
        free = next(
            each
            for each in tries
            if all(
                abs(base + each * unit - other) >= _LINE * unit or abs(left - at) > _APART * unit
                for at, other in taken
            )
        )
        taken.append((left, base + free * unit))
        arrow = (
            {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
            if abs(free) > _LINE
            else None
        )
        axes.annotate(
            printable(name),
            (x, y),
            (6, free),
            textcoords="offset points",
            fontsize=7,
            color=colour,
            arrowprops=arrow,
        )


def pair_distances(proposal: Proposal, *, entries: int = 16, ax: Axes | None = None) -> Axes:
    """Draw how far the predicted mean of every pair of the leading entries is from the target; singles diagonally.

    Raises:
        DataError: If the target is no state, or the proposal has no pairs.
    """
    target = _state(proposal, "pair_distances")
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


def candidate_map(proposal: Proposal, *, named: int = 5, ax: Axes | None = None) -> Axes:
    """Draw the predicted effects of candidates along their two main directions, with the target and the control.

    Raises:
        DataError: If the target is no state.
    """
    target, space = _state(proposal, "candidate_map"), proposal.space
    last = space.span(max(space.orders))[1]
    at = torch.linspace(0, min(last, 2**53) - 1, min(last, _CLOUD), dtype=torch.float64).round().long().unique()
    labels = [str(each) for each in proposal.table["perturbation"]]
    cloud, first = (_effects(proposal, target, each) for each in (space.take(at), _batch(proposal, labels)))
    centre, wanted = cloud.mean(0), target.values * target.weights.sqrt()
    _, sizes, axis = torch.linalg.svd(cloud - centre, full_matrices=False)
    shares = (sizes.square() / sizes.square().sum().clamp(min=torch.finfo(torch.float64).tiny)).tolist()

    def placed(rows: Float64[Tensor, "n g"]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = ((rows - centre) @ axis[:2].T).numpy()
        return found if found.shape[1] == 2 else np.column_stack([found, np.zeros(len(found))])

    with themed():
        axes = ax or new_axes(5.0, 4.6)
        axes.plot(
            *placed(cloud).T, ".", color=PALE, markersize=4, rasterized=len(cloud) > _MANY, label="candidates"
        )
        points = placed(first)
        axes.plot(*points.T, "o", color=BLUE, markersize=4, label="listed")
        for number, (x, y) in enumerate(points[:named], 1):
            axes.annotate(str(number), (x, y), (4, 3), textcoords="offset points", fontsize=8, color=BLUE)
            axes.plot([x], [y], "o", color=BLUE, markersize=5, gid=f"listed-{number - 1}")
        axes.plot(*placed(torch.zeros_like(wanted)[None]).T, "P", color=INK, markersize=7, label="control")
        axes.plot(*placed(wanted[None]).T, "*", color=ORANGE, markersize=11, label="target")
        axes.set_xlabel(f"first direction ({100 * shares[0]:.0f} % of the variance)")
        axes.set_ylabel(f"second direction ({100 * shares[1]:.0f} %)" if len(shares) > 1 else "")
        axes.set_title(f"predicted effects of {len(cloud):,} combinations")
        axes.legend(loc="best", fontsize=7)
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


def _state(proposal: Proposal, figure: str) -> AlignedProfile:
    if not isinstance(proposal.target, ProfileTarget):
        raise DataError(f"target {proposal.target.name!r:.80} is no state, and {figure} compares with one")
    return proposal.target.on(proposal.fitted.readouts)


def _members(proposal: Proposal, label: str) -> list[int]:
    genes = _batch(proposal, [label]).genes[0].tolist()
    return [one for one in genes if one >= 0]


def _batch(proposal: Proposal, labels: list[str]) -> PerturbationBatch:
    vocabulary = proposal.space.vocabulary
    return vocabulary.batch([vocabulary.parse(each) for each in labels])


def _effects(proposal: Proposal, target: AlignedProfile, batch: PerturbationBatch) -> Float64[Tensor, "n g"]:
    return proposal.fitted.predict(batch).mean[:, target.columns] * target.weights.sqrt()


def _distances(proposal: Proposal, target: AlignedProfile, batch: PerturbationBatch) -> Float64[Tensor, "n"]:
    gap = _effects(proposal, target, batch) - target.values * target.weights.sqrt()
    return (gap.square().sum(1) / target.weights.sum()).sqrt()
