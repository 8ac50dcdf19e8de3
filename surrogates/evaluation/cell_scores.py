"""How near predicted cells come to measured ones: genes that change, mean effects, and whole distributions.

A readout is differentially expressed when the rank-sum test between measured treated and control cells says so, at
a false discovery rate of 5 %; readouts are ranked by the absolute log2 fold change of the means of predicted
and of control cells [Zhu 2025]. Errors and correlations are those of the mean effects, in the units of the values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.evaluation.differential import (
    average_precision_rows,
    delogged,
    differential_readouts,
    log2_fold_change,
    precision_at_recall,
)
from surrogates.evaluation.metrics import absolute_errors, pearson_rows, squared_errors

COMPONENTS = 50  # in which distances between cells are taken
RECALLS = (0.25, 0.5, 0.75)
_AT_ONCE = 512  # readouts that are sorted together: bounds the memory


@dataclass(frozen=True)
class HeldOutCells:
    """The measured cells of a condition that is held out, and what is asked of a prediction."""

    control: Float[Tensor, "n g"]  # control cells of its context
    treated: Float[Tensor, "m g"]  # its own cells
    changed: Bool[Tensor, "g"]  # which readouts are differentially expressed
    weights: Float[Tensor, "g"]  # weight of each readout in the weighted error, summing to one
    own: Bool[Tensor, "g"]  # which readouts are targets of the perturbation itself
    axes: PrincipalAxes  # components in which cells are compared, of the cells that were trained on
    pseudocount: float  # of fold changes, in units without the logarithm

    @classmethod
    def of(
        cls,
        control: Float[Tensor, "n g"],
        treated: Float[Tensor, "m g"],
        *,
        own: Bool[Tensor, "g"],
        axes: PrincipalAxes,
        pseudocount: float,
    ) -> "HeldOutCells":
        """Test which readouts differ, and weigh them."""
        one, other = control.double(), treated.double()
        changed = differential_readouts(other, one)
        return cls(one, other, changed, differential_weights(other, one), own, axes, pseudocount)


class Predicted(NamedTuple):
    """Predicted cells, and what they are without the logarithm; a mean has two forms, as logarithms do not add."""

    logged: Float[Tensor, "n g"]
    plain: Float[Tensor, "n g"]

    @classmethod
    def cells(cls, logged: Float[Tensor, "n g"]) -> "Predicted":
        """Undo the logarithm of predicted cells."""
        return cls(logged.double(), delogged(logged.double()))


def differential_weights(treated: Float[Tensor, "n g"], control: Float[Tensor, "m g"]) -> Float[Tensor, "g"]:
    """Weigh readouts by how clearly they differ: ``|t|`` scaled to 0..1, squared, summing to one [Mejia 2025].

    ``t`` is Welch's. The source compares a perturbation with all others; here it is compared with control cells,
    as a context need have no other perturbation. Where nothing differs, all readouts weigh the same.
    """
    spread = treated.var(0) / len(treated) + control.var(0) / len(control)
    t = ((treated.mean(0) - control.mean(0)).abs() / spread.sqrt()).nan_to_num(0.0, posinf=0.0)
    scaled = (t - t.min()) / (t.max() - t.min())
    weights = scaled.square() if bool(torch.isfinite(scaled).all()) else torch.ones_like(t)
    return weights / weights.sum()


def e_distance(one: Float[Tensor, "n r"], other: Float[Tensor, "m r"]) -> Float[Tensor, ""]:
    """Measure ``2 E|x - y| - E|x - x'| - E|y - y'|``, Euclidean, over all pairs [Székely 2013; Peidli 2024]."""
    return 2 * torch.cdist(one, other).mean() - torch.cdist(one, one).mean() - torch.cdist(other, other).mean()


def wasserstein_columns(one: Float[Tensor, "n g"], other: Float[Tensor, "m g"]) -> Float[Tensor, "g"]:
    """Integrate ``|F - G|`` for each readout: the 1-Wasserstein distance of its two empirical distributions."""
    found = []
    for x, y in zip(one.T.split(_AT_ONCE), other.T.split(_AT_ONCE), strict=True):
        ordered = [side.contiguous().sort(dim=1).values for side in (x, y)]
        at = torch.cat(ordered, 1).sort(dim=1).values
        between = at[:, :-1].contiguous()
        below = [torch.searchsorted(side, between, right=True).double() / side.shape[1] for side in ordered]
        found.append(((below[0] - below[1]).abs() * at.diff(dim=1)).sum(1))
    return torch.cat(found)


class _Compared(NamedTuple):
    """What the metrics see of one prediction."""

    held_out: HeldOutCells
    cells: Predicted
    treated: Float[Tensor, "m g"]  # the measured cells that it is compared with
    effect: Float[Tensor, "1 g"]
    truth: Float[Tensor, "1 g"]
    change: Float[Tensor, "1 g"]  # size of the log2 fold change


def _precision(recall: float) -> Callable[[_Compared], Tensor]:
    return lambda seen: precision_at_recall(seen.change, seen.held_out.changed[None], recall=recall)


def _interventional_error(seen: _Compared) -> Tensor:
    kept = ~seen.held_out.own
    return absolute_errors(seen.effect[:, kept], seen.truth[:, kept]) / kept.sum()


def _in_components(seen: _Compared) -> Tensor:
    axes = seen.held_out.axes
    return e_distance(*(axes.coordinates(each) * axes.scale for each in (seen.cells.logged, seen.treated)))


# A metric is added by one line here; the second part says whether larger is better.
CELL_METRICS: Mapping[str, tuple[Callable[[_Compared], Tensor], bool]] = {
    "average_precision": (lambda seen: average_precision_rows(seen.change, seen.held_out.changed[None]), True),
    **{f"precision_at_{100 * recall:.0f}": (_precision(recall), True) for recall in RECALLS},
    "pearson": (lambda seen: pearson_rows(seen.effect, seen.truth), True),
    "relative_squared_error": (
        lambda seen: squared_errors(seen.effect, seen.truth) / seen.truth.square().sum(1),
        False,
    ),
    # Of Mejia 2025; relative to no change, as the errors of weak and strong perturbations are averaged.
    "weighted_squared_error": (
        lambda seen: (
            ((seen.effect - seen.truth).square() @ seen.held_out.weights)
            / (seen.truth.square() @ seen.held_out.weights)
        ),
        False,
    ),
    "i_mae": (_interventional_error, False),  # without the readouts that are intervened upon [Rohbeck 2024]
    "e_distance": (_in_components, False),
    "wasserstein": (lambda seen: wasserstein_columns(seen.cells.logged, seen.treated).mean(), False),
}


def judged_prediction(
    held_out: HeldOutCells, cells: Predicted, treated: Float[Tensor, "m g"] | None = None
) -> tuple[Float[Tensor, "p"], Float[Tensor, "g"]]:
    """Score predicted cells, one number for each of :data:`CELL_METRICS`, and take the error of their mean."""
    treated = held_out.treated if treated is None else treated
    control = held_out.control.mean(0)
    effect, truth = (each.mean(0)[None] - control for each in (cells.logged, treated))
    level = delogged(held_out.control).mean(0)[None]
    change = log2_fold_change(cells.plain.mean(0)[None], level, pseudocount=held_out.pseudocount).abs()
    seen = _Compared(held_out, cells, treated, effect, truth, change)
    scores = torch.stack([of(seen).double().reshape(()) for of, _ in CELL_METRICS.values()])
    return scores, (effect - truth)[0]


def between_halves(
    held_out: HeldOutCells, *, splits: int, generator: torch.Generator
) -> tuple[Float[Tensor, "p"], Float[Tensor, "g"]]:
    """Let a random half of the treated cells predict the other half: a floor that no model can be held to pass."""
    found = []
    for _ in range(splits):
        order = torch.randperm(len(held_out.treated), generator=generator)
        one, other = (held_out.treated[half] for half in order.tensor_split(2))
        found.append(judged_prediction(held_out, Predicted.cells(one), other))
    scores, errors = zip(*found, strict=True)
    return torch.stack(scores).mean(0), torch.stack(errors).square().mean(0).sqrt()
