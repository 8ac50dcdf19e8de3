"""Single cells paired by optimal transport, and the shifts of the pairs carried over to new cells by attention.

The form of scPRAM.
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.shift import checked_cells, known_parts, treated_beside_controls
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError

_AT_ONCE = 128  # new cells that are compared with all control cells: bounds the memory
_MOST_ROUNDS = 10**8  # of the network simplex; 2,000 cells with as many take about 150,000


def transport_plan(source: Float[Tensor, "n r"], target: Float[Tensor, "m r"]) -> Float[Tensor, "n m"]:
    """Move equal masses from source to target cells at the least sum of squared distances [Villani 2009]."""
    try:
        import ot  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise DataError(
            "pairing cells needs POT, which is not installed; install the extra 'inverse-design[cells]'"
        ) from error
    masses = [torch.full((len(cells),), 1 / len(cells), dtype=torch.float64).numpy() for cells in (source, target)]
    cost = torch.cdist(source, target).square().numpy()
    with warnings.catch_warnings():  # what is wrong stands in the log, too
        warnings.simplefilter("ignore", UserWarning)
        found, log = ot.emd(*masses, cost, numItermax=_MOST_ROUNDS, log=True)
    if log["warning"]:
        raise DataError(f"{len(source)} cells cannot be paired with {len(target)}: {log['warning']}; pair fewer")
    return torch.from_numpy(found)


def transported(source: Float[Tensor, "n r"], target: Float[Tensor, "m r"]) -> Float[Tensor, "n r"]:
    """Send each source cell to the mean of the target cells that optimal transport pairs it with.

    A cell whose mass is split goes to the barycentre of the parts.
    """
    plan = transport_plan(source, target)
    return plan @ target / plan.sum(1, keepdim=True)


@dataclass(frozen=True)
class Pairs:
    """Control cells of all contexts, and how far one perturbation moved each."""

    cells: Float[Tensor, "n r"]  # coordinates of the control cells
    shifts: Float[Tensor, "n r"]  # from each to where transport sends it

    def attended(self, cells: Float[Tensor, "m r"], nearest: float) -> Float[Tensor, "m r"]:
        """Weigh the shifts of the control cells that point most nearly where a cell does, by their cosines."""
        count = max(1, round(nearest * len(self.cells)))
        known = torch.nn.functional.normalize(self.cells, dim=1)
        found = []
        for part in torch.nn.functional.normalize(cells, dim=1).split(_AT_ONCE):
            closest = (part @ known.T).topk(count, dim=1)
            weights = torch.softmax(closest.values, dim=1)
            found.append((weights[:, None] @ self.shifts[closest.indices])[:, 0])
        return torch.cat(found)


@dataclass(frozen=True)
class FittedTransportShift:
    """Paired control cells for each perturbation."""

    readouts: tuple[str, ...]  # names of the readouts
    axes: PrincipalAxes  # coordinates in which cells are paired and compared
    pairs: dict[str, Pairs]  # by the label of the perturbation
    nearest: float  # fraction of the control cells that a new cell attends to

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Move control cells; what lies outside the components stays, and parts of a new combination add up."""
        cells = checked_cells(control, self.readouts)
        coordinates = self.axes.coordinates(cells)
        for label in known_parts(perturbation, self.pairs):
            cells = (
                cells + self.pairs[label].attended(coordinates, self.nearest) @ self.axes.axes * self.axes.scale
            )
        return cells


@dataclass(frozen=True)
class TransportShift:
    """Moves each control cell as similar cells of other contexts moved [Jiang 2024, Bioinformatics 40, btae265].

    In each context that has both, control cells are paired with treated ones by optimal transport between their
    principal coordinates. A new cell attends to the control cells that are nearest to it by the cosine, and moves
    by the mean of their shifts under softmax weights. Two departures from the source: principal components stand
    for its variational autoencoder, and what they lose of a cell is kept.
    """

    components: int = 50  # number of principal coordinates
    nearest: float = 0.05  # fraction of all paired control cells that a new cell attends to
    # Most cells of a condition that are paired, drawn by the seed: transport takes time with their square.
    most: int = 2000

    def __post_init__(self) -> None:
        """Refuse sizes that pair or compare nothing."""
        if min(self.components, self.most) < 1 or not 0 < self.nearest <= 1:
            raise DataError(
                f"components={self.components} and most={self.most} must be at least 1, nearest={self.nearest}"
                " above 0 and at most 1"
            )

    def fit(self, cells: Cells, *, seed: int) -> FittedTransportShift:
        """Pair the cells of each context; control cells of the context to predict belong here."""
        ordered = cells.in_canonical_order()
        beside = treated_beside_controls(ordered)
        axes = PrincipalAxes.of(ordered.values.double(), self.components)
        generator = torch.Generator().manual_seed(seed)

        def drawn(what: Perturbation, context: str) -> Float[Tensor, "n r"]:
            found = ordered.of(what, context).double()
            chosen = torch.randperm(len(found), generator=generator)[: self.most].sort().values
            return axes.coordinates(found[chosen])

        pairs = {}
        for treatment, contexts in beside.items():
            controls = [drawn(CONTROL, context) for context in contexts]
            shifts = [
                transported(control, drawn(treatment, context)) - control
                for control, context in zip(controls, contexts, strict=True)
            ]
            pairs[treatment.label] = Pairs(torch.cat(controls), torch.cat(shifts))
        return FittedTransportShift(ordered.readouts, axes, pairs, self.nearest)
