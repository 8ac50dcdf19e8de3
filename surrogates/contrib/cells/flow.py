"""Cells moved along a learnt velocity field: conditional flow matching between cells that transport pairs.

The forms of CellFlow and scDFM.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchdiffeq import odeint

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.discrepancy import discrepancy
from surrogates.contrib.cells.flow_networks import CLOCK, MaskedAttention, ReadoutGraph, SetEncoder, Velocity
from surrogates.contrib.cells.shift import checked_cells, treated_beside_controls
from surrogates.contrib.cells.transport import transport_plan
from surrogates.data.descriptors import Descriptors
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.training import Layers, Schedule, placed, train

_TOGETHER = 32  # pairs of one condition that are one row of the training: sets that can be compared
_AT_ONCE = 256  # cells that are moved together: bounds the memory


@dataclass(frozen=True)
class EmbeddedTargets:
    """Vectors of the targets that parts of perturbations may have."""

    names: tuple[str, ...]  # of the targets
    vectors: Float[Tensor, "m e"]  # learnt, or taken from a table
    doses: tuple[float, float]  # the lowest and the highest dose of the training data

    def numbered(self, perturbations: Sequence[Perturbation]) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n k"]]:
        """Look parts up: the number of each target, -1 in an empty slot, and the logarithm of its dose."""
        number, (lowest, highest) = {name: row for row, name in enumerate(self.names)}, self.doses
        shape = len(perturbations), max(each.order for each in perturbations)
        rows, doses = torch.full(shape, -1), torch.ones(shape, dtype=torch.float64)
        for row, perturbation in enumerate(perturbations):
            for slot, part in enumerate(perturbation.interventions):
                if part.target not in number:
                    raise UnknownNameError.from_known("perturbation", part.target, self.names)
                if not lowest <= part.dose <= highest:
                    raise DataError(
                        f"dose {part.dose:g} of {part.target!r} lies outside of those that the flow was trained"
                        f" on, {lowest:g} to {highest:g}; take one among them"
                    )
                rows[row, slot], doses[row, slot] = number[part.target], part.dose
        return rows, doses.log10()

    def conditions(
        self, rows: Int[Tensor, "n k"], doses: Float[Tensor, "n k"], encoder: SetEncoder
    ) -> Float[Tensor, "n c"]:
        """Encode perturbations by the vectors and the log doses of their parts."""
        parts = torch.cat([self.vectors[rows.clamp(min=0)], doses[:, :, None].to(self.vectors)], dim=2)
        return encoder(parts, (rows >= 0).to(parts.device))


@dataclass(frozen=True)
class FittedFlow:
    """A velocity field along which control cells become treated ones."""

    readouts: tuple[str, ...]  # names of the readouts
    axes: PrincipalAxes  # coordinates in which cells move
    targets: EmbeddedTargets  # what parts of perturbations are called, and their vectors
    encoder: SetEncoder  # from the parts of a perturbation to a condition
    velocity: Velocity  # of a state, at a time, under a condition
    solver: str  # name of the method in torchdiffeq
    steps: int  # from time 0 to 1

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Move control cells along the field; what lies outside the components stays."""
        cells = checked_cells(control, self.readouts)
        if perturbation.order == 0 or not len(cells):
            return cells
        condition = self.targets.conditions(*self.targets.numbered([perturbation]), self.encoder)
        return torch.cat([part + self._shift(part, condition) for part in cells.split(_AT_ONCE)])

    def _shift(self, cells: Float[Tensor, "m g"], condition: Float[Tensor, "1 c"]) -> Float[Tensor, "m g"]:
        start, every = self.axes.coordinates(cells), condition.expand(len(cells), -1)
        ends: Tensor = odeint(
            lambda time, state: self.velocity(state, time.expand(len(state), 1), every),
            start,
            torch.tensor([0.0, 1.0], dtype=torch.float64),
            method=self.solver,
            options={"step_size": 1 / self.steps},
        )
        return (ends[-1] - start) @ self.axes.axes * self.axes.scale


@dataclass(frozen=True)
class FlowMatching:
    """Moves control cells by ``dx/dt = v(x, t, c)`` from time 0 to 1 [Klein 2025, bioRxiv 2025.04.11.648220].

    In each context that has both, control cells ``x0`` are paired with treated ones ``x1`` by optimal transport
    between their principal coordinates, and a network minimises ``|v(x_t, t, c) - (x1 - x0)|^2`` at
    ``x_t = (1 - t) x0 + t x1 + noise`` and uniform ``t`` [Lipman 2023; Tong 2024]. The condition ``c`` is an
    attention pool over the parts of a perturbation, each its target's vector and log dose: any set of targets that
    have vectors can be predicted, and an unmeasured target where the vectors come from a table. Departures from
    the source: plans are exact, each between all cells of a condition and not within each batch; there is no
    covariate beside the cell itself; and what the components lose of a cell is kept.

    With ``discrepancy_weight`` and ``graph`` it takes the form of scDFM, see :func:`scdfm`.
    """

    components: int = 20  # number of principal coordinates
    hidden: tuple[int, ...] = (128, 128)  # width of each hidden layer of the velocity
    width: int = 16  # numbers in a vector of a target and in a condition
    pairs: int = 512  # pairs drawn for each condition; rounded up to a multiple of 32
    # Most cells of a condition that are paired, drawn by the seed: transport takes time with their square.
    most: int = 2000
    # Standard deviation of what is added to ``x_t``, in units of the root mean square of the coordinates.
    noise: float = 0.3
    # Weight of the maximum mean discrepancy between the one-step estimates ``x_t + (1 - t) v`` of 32 pairs of a
    # condition and their ``x1``.
    discrepancy_weight: float = 0.0
    # Lets readouts attend to their neighbours in a graph, beside the perceptron of coordinates.
    graph: ReadoutGraph | None = None
    # Table of targets whose leading kernel axes are the vectors; learnt without it.
    embeddings: Descriptors | None = None
    solver: Literal["euler", "midpoint"] = "euler"  # how the equation is solved
    steps: int = 20  # how many steps it takes
    # How long and how fast to train; one row is 32 pairs.
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch=8, annealing=0.98))
    device: str = "cpu"  # where to train; predictions are made on the CPU

    def __post_init__(self) -> None:
        """Refuse sizes and weights that train nothing."""
        if min(self.components, self.width, self.pairs, self.most, self.steps, *self.hidden) < 1:
            raise DataError(f"components, hidden, width, pairs, most and steps of {self!r} must be at least 1")
        if not (self.noise >= 0 and self.discrepancy_weight >= 0):
            raise DataError(
                f"noise={self.noise} and discrepancy_weight={self.discrepancy_weight} must not be negative"
            )

    def fit(self, cells: Cells, *, seed: int) -> FittedFlow:
        """Pair the cells of each condition and train; control cells of the context to predict belong here."""
        ordered = cells.in_canonical_order()
        beside = treated_beside_controls(ordered)
        axes = PrincipalAxes.of(ordered.values.double(), self.components)
        generator = torch.Generator().manual_seed(seed)
        drawn = [self._pairs(ordered, each, where, axes, generator) for each, where in beside.items()]
        pairs = torch.cat(drawn).to(self.device)
        what = torch.repeat_interleave(torch.arange(len(drawn)), torch.tensor([len(each) for each in drawn]))
        targets = self._targets(beside, generator)
        numbers = targets.numbered(tuple(beside))
        encoder, velocity = self._networks(ordered, axes, targets.vectors.shape[1], generator)
        length = (2 * pairs.shape[3]) ** 0.5

        def loss(rows: Tensor) -> Tensor:
            start, end = pairs[rows].unbind(1)
            # Random numbers are drawn on the CPU, so that a seed means the same on every device.
            time = torch.rand(*start.shape[:2], 1).to(self.device)
            state = start + time * (end - start) + self.noise * torch.randn(start.shape).to(self.device)
            condition = targets.conditions(*numbers, encoder)[what[rows]]
            each = condition.repeat_interleave(start.shape[1], dim=0)
            found = velocity(state.flatten(0, 1), time.flatten(0, 1), each).view_as(state)
            error = (found - (end - start)).square().mean()
            if not self.discrepancy_weight:
                return error
            apart = discrepancy(state + (1 - time) * found, end, length)
            return error + self.discrepancy_weight * apart.mean()

        learnt = (targets.vectors,) if self.embeddings is None else ()
        parameters = (*learnt, *encoder.parameters, *velocity.parameters)
        train(parameters, loss, rows=len(pairs), schedule=self.schedule, seed=seed)
        fitted = FittedFlow(ordered.readouts, axes, targets, encoder, velocity, self.solver, self.steps)
        return placed(fitted, device="cpu", dtype=torch.float64)

    def _pairs(
        self,
        cells: Cells,
        treatment: Perturbation,
        contexts: Sequence[str],
        axes: PrincipalAxes,
        generator: torch.Generator,
    ) -> Float[Tensor, "p 2 t r"]:
        """Draw pairs of control and treated cells by the masses of their transport plans, evenly."""
        found = []
        count = -(-self.pairs // _TOGETHER) * _TOGETHER
        for context in contexts:
            start, end = (
                axes.coordinates(each[torch.randperm(len(each), generator=generator)[: self.most]].double())
                for each in (cells.of(CONTROL, context), cells.of(treatment, context))
            )
            masses = transport_plan(start, end).flatten().cumsum(0)
            at = (torch.arange(count) + torch.rand(1, generator=generator, dtype=torch.float64)) / count
            drawn = torch.searchsorted(masses / masses[-1], at)[torch.randperm(count, generator=generator)]
            pairs = torch.stack([start[drawn // len(end)], end[drawn % len(end)]]).float()
            found.append(pairs.unflatten(1, (-1, _TOGETHER)).transpose(0, 1))
        return torch.cat(found)

    def _targets(self, treatments: Iterable[Perturbation], generator: torch.Generator) -> EmbeddedTargets:
        """Give each target of the training data a vector, and every other one of a table."""
        given = {part.target: part for treatment in treatments for part in treatment.interventions}
        dosed = [part.dose for treatment in treatments for part in treatment.interventions]
        limits = (min(dosed), max(dosed))
        if self.embeddings is None:
            vectors = torch.randn(len(given), self.width, generator=generator).to(self.device)
            return EmbeddedTargets(tuple(sorted(given)), vectors, limits)
        vocabulary = Vocabulary(tuple(map(Intervention, sorted({*given, *self.embeddings.symbols}))))
        vectors, known = self.embeddings.coordinates(vocabulary, rank=self.width)
        names = tuple(name for name, has in zip(vocabulary.targets, known.tolist(), strict=True) if has)
        if missing := sorted({*given} - {*names}):
            raise DataError(
                f"{len(missing)} of {len(given)} targets have no vector in {self.embeddings.name!r},"
                f" {', '.join(missing[:6])} among them; leave their cells out, or extend the table"
            )
        vectors = vectors[known] / vectors[known].square().mean().sqrt()
        return EmbeddedTargets(names, vectors.float().to(self.device), limits)

    def _networks(
        self, cells: Cells, axes: PrincipalAxes, vector: int, generator: torch.Generator
    ) -> tuple[SetEncoder, Velocity]:
        """Draw starting weights."""
        wide, width = 2 * self.width, len(axes.axes)
        parts, output = (
            Layers.random(sizes, generator=generator) for sizes in ([vector + 1, wide], [wide, self.width])
        )
        encoder = SetEncoder(parts, torch.zeros(wide), output)
        layers = Layers.random([width + CLOCK + self.width, *self.hidden, width], generator=generator)
        attention = None
        if self.graph is not None:
            attention = MaskedAttention.random(self.graph, cells, axes, condition=self.width, generator=generator)
        return placed((encoder, Velocity(layers, attention)), device=self.device, dtype=torch.float32)


def scdfm() -> FlowMatching:
    """Configure the form of scDFM [Yu 2026, arXiv 2602.07103]: discrepancies of sets, and attention along a graph.

    The velocity gains a layer of differential attention between readouts, masked by their co-expression, and the
    one-step estimates are compared with treated cells as sets. Departures from the source beside those of
    :class:`FlowMatching`: that layer stands beside a perceptron in place of a deep transformer; tokens of 64
    readouts read and move principal coordinates; and flows start from control cells, not from noise.
    """
    schedule = Schedule(epochs=30, batch=8, annealing=0.93)
    return FlowMatching(discrepancy_weight=1.0, noise=0.6, graph=ReadoutGraph(), schedule=schedule)
