"""What figures show of a proposal for a state: predicted effects beside wanted ones, and candidates in a plane."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float64
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.problem.explanation import Contribution
from inverse_design.problem.target import AlignedProfile, ProfileTarget
from inverse_design.proposal import Proposal
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError

_CLOUD = 1000  # candidates of a map
_TINY = torch.finfo(torch.float64).tiny
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Compared:
    """One candidate against the target, on the aligned readouts."""

    label: str
    names: tuple[str, ...]  # of the readouts
    unit: str  # of effects
    wanted: Numbers
    predicted: Numbers
    spread: Numbers  # standard deviation of each prediction
    measured: Numbers | None  # effects of the candidate, ``nan`` where none was measured
    fixes: tuple[int, ...]  # readouts that come nearest to the target, by their numbers, best first
    breaks: tuple[int, ...]  # readouts that move away from it, worst first


def compared(proposal: Proposal, figure: str, *, rank: int, named: int, measured: pd.Series | None) -> Compared:
    """Set the candidate of a rank beside the target, for a figure."""
    target = wanted_state(proposal, figure)
    if not 1 <= rank <= len(proposal.table):
        raise DataError(f"rank {rank} is not within the {len(proposal.table)} rows of the proposal")
    label = str(proposal.table["perturbation"].iloc[rank - 1])
    posterior = proposal.fitted.predict(labelled_batch(proposal, [label]))
    names = tuple(proposal.fitted.readouts[int(each)] for each in target.columns)
    place = {name: at for at, name in enumerate(names)}

    def places(found: Sequence[Contribution]) -> tuple[int, ...]:
        return tuple(place[each.readout] for each in found if each.readout in place)[:named]

    return Compared(
        label=label,
        names=names,
        unit=proposal.unit,
        wanted=target.values.double().numpy(),
        predicted=posterior.mean[0, target.columns].double().numpy(),
        spread=posterior.variance[0, target.columns].sqrt().double().numpy(),
        measured=None if measured is None else measured.reindex(list(names)).to_numpy(float),
        fixes=places(proposal.explanations[rank - 1].fixes),
        breaks=places(proposal.explanations[rank - 1].breaks),
    )


@dataclass(frozen=True)
class Plane:
    """Predicted effects of candidates along their two main directions."""

    names: tuple[str, ...]  # of the candidates that are spread over the space
    cloud: Numbers  # where those are, two columns
    listed: Numbers  # where the rows of the proposal are
    control: Numbers  # one row
    target: Numbers  # one row
    shares: tuple[float, ...]  # of the variance, along each direction


def plane_of(proposal: Proposal) -> Plane:
    """Find the plane in which predicted effects differ most."""
    target, space = wanted_state(proposal, "candidate_map"), proposal.space
    last = space.span(max(space.orders))[1]
    at = torch.linspace(0, min(last, 2**53) - 1, min(last, _CLOUD), dtype=torch.float64).round().long().unique()
    batch = space.take(at)
    labels = [str(each) for each in proposal.table["perturbation"]]
    cloud, first = (effects_of(proposal, target, each) for each in (batch, labelled_batch(proposal, labels)))
    centre, wanted = cloud.mean(0), target.values * target.weights.sqrt()
    axis, shares = _main_directions(cloud - centre)

    def placed(rows: Float64[Tensor, "n g"]) -> Numbers:
        found: Numbers = ((rows - centre) @ axis).numpy()
        return found

    return Plane(
        names=tuple(space.vocabulary.perturbation(genes).label for genes in batch.genes),
        cloud=placed(cloud),
        listed=placed(first),
        control=placed(torch.zeros_like(wanted)[None]),
        target=placed(wanted[None]),
        shares=shares,
    )


def _main_directions(rows: Float64[Tensor, "n g"]) -> tuple[Float64[Tensor, "g 2"], tuple[float, ...]]:
    """Find the two directions of most variance, and their shares, by the products of rows: these are few."""
    sizes, vectors = torch.linalg.eigh(rows @ rows.T)
    sizes, vectors = sizes.flip(0).clamp(min=0.0), vectors.flip(1)
    kept = sizes[:2] > torch.finfo(torch.float64).eps * sizes[:1]
    axis = torch.zeros(rows.shape[1], 2, dtype=torch.float64)
    axis[:, : len(kept)] = torch.where(kept, (rows.T @ vectors[:, :2]) / sizes[:2].sqrt().clamp(min=_TINY), 0.0)
    return axis, tuple((sizes[:2] / sizes.sum().clamp(min=_TINY)).tolist())


def wanted_state(proposal: Proposal, figure: str) -> AlignedProfile:
    """Take the state that a figure compares with."""
    if not isinstance(proposal.target, ProfileTarget):
        raise DataError(f"target {proposal.target.name!r:.80} is no state, and {figure} compares with one")
    return proposal.target.on(proposal.fitted.readouts)


def labelled_batch(proposal: Proposal, labels: Sequence[str]) -> PerturbationBatch:
    """Read labels as candidates."""
    vocabulary = proposal.space.vocabulary
    return vocabulary.batch([vocabulary.parse(each) for each in labels])


def effects_of(proposal: Proposal, target: AlignedProfile, batch: PerturbationBatch) -> Float64[Tensor, "n g"]:
    """Predict effects on the aligned readouts, times the roots of their weights."""
    return proposal.fitted.predict(batch).mean[:, target.columns] * target.weights.sqrt()
