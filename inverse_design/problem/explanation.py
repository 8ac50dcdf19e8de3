"""Why a candidate: what it fixes and breaks, what is additive, what was measured near it, and causal paths."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.problem.target import AlignedProfile
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.base import Fitted, FollowsPaths, sum_over_interventions
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.stacked import FittedStacked


def graph_of(model: Fitted) -> FollowsPaths | None:
    """Take the graph by which a model predicts combinations."""
    graph = model.members[0] if isinstance(model, FittedStacked) else model
    return graph if isinstance(graph, FollowsPaths) else None


def causal_paths(model: Fitted, genes: Int[Tensor, "k"], readouts: Sequence[str]) -> tuple[str, ...]:
    """Name the strongest path from a candidate to each of some readouts."""
    graph = graph_of(model)
    if graph is None:
        return ()
    said = []
    for readout in readouts:
        labels = [model.vocabulary.entries[gene].label for gene in genes.tolist() if gene >= 0]
        found = [best for label in labels if (best := graph.strongest_path(label, readout)) is not None]
        if found:
            path, contribution = max(found, key=lambda each: abs(each[1]))
            said.append(f"{path} ({contribution:+.2g})")
    return tuple(said)


@dataclass(frozen=True)
class Contribution:
    """What a candidate does to one readout."""

    readout: str  # its name
    # How much nearer to the target it comes, in standard deviations of the prediction error; negative when it
    # moves away.
    gain: float
    predicted: float  # predicted effect in the same unit, signed


def contributions_in_words(contributions: Sequence[Contribution], most: int) -> str:
    """Write the first of some contributions."""
    return ", ".join(f"{each.readout} {each.predicted:+.1f}" for each in contributions[:most])


@dataclass(frozen=True)
class Explanation:
    """Why one candidate is where it is."""

    fixes: tuple[Contribution, ...]  # readouts that come nearest to the target, best first
    breaks: tuple[Contribution, ...]  # readouts that move away from it, worst first
    additive: float  # length of the sum of the parts' single effects, in standard deviations over the readouts
    interaction: float  # length of the rest of the predicted effect, in the same unit
    nearest: str  # the measured perturbation whose effect is most like the predicted one
    similarity: float  # cosine of the two
    # Strongest path of a causal graph to each of the readouts fixed best; none for a model without one.
    paths: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """One line: what it fixes, what it breaks."""
        fixed, broken = contributions_in_words(self.fixes, 3), contributions_in_words(self.breaks, 1)
        return (f"fixes {fixed}" if fixed else "fixes nothing") + (f"; breaks {broken}" if broken else "")


def explain(
    fitted: FittedCalibrated, batch: PerturbationBatch, target: AlignedProfile, screen: Screen, *, top: int = 10
) -> tuple[Explanation, ...]:
    """Explain candidates one by one."""
    posterior = fitted.predict(batch)
    spread = posterior.variance.sqrt()
    columns = target.columns
    predicted = posterior.mean[:, columns] / spread[:, columns]
    wanted = target.values / spread[:, columns]
    gains = wanted.abs() - (wanted - predicted).abs()
    sums = sum_over_interventions(fitted.singles, batch)
    likeness = _cosines(posterior.mean, screen.effects)
    names = [fitted.readouts[int(column)] for column in columns]
    fixes = [_largest(names, gains[row], predicted[row], top) for row in range(len(batch))]
    return tuple(
        Explanation(
            fixes=fixes[row],
            breaks=_largest(names, -gains[row], predicted[row], top, sign=-1.0),
            additive=float((sums[row] / spread[row]).norm()),
            interaction=float(((posterior.mean[row] - sums[row]) / spread[row]).norm()),
            nearest=screen.labels[int(likeness[row].argmax())],
            similarity=float(likeness[row].max()),
            paths=causal_paths(fitted.base, batch.genes[row], [each.readout for each in fixes[row][:3]]),
        )
        for row in range(len(batch))
    )


def _largest(
    names: Sequence[str], gains: Float[Tensor, "m"], predicted: Float[Tensor, "m"], top: int, sign: float = 1.0
) -> tuple[Contribution, ...]:
    best = gains.topk(min(top, len(gains)))
    return tuple(
        Contribution(names[int(at)], sign * float(gain), float(predicted[at]))
        for gain, at in zip(best.values, best.indices, strict=True)
        if gain > 0
    )


def _cosines(rows: Float[Tensor, "b g"], others: Float[Tensor, "n g"]) -> Float[Tensor, "b n"]:
    tiny = torch.finfo(torch.float64).tiny
    lengths = rows.norm(dim=1)[:, None] * others.norm(dim=1)
    cosines: Tensor = rows @ others.T / lengths.clamp(min=tiny)
    return cosines
