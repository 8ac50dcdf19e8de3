"""Networks of a flow of cells: a perturbation as a set of parts, and velocities of principal coordinates."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.errors import DataError
from surrogates.models.training import Layers

_FREQUENCIES = (1, 2, 4)  # half turns of the clock between start and end
CLOCK = 2 * len(_FREQUENCIES) + 1


def clock(time: Float[Tensor, "b 1"]) -> Float[Tensor, "b t"]:
    """Spell a time between 0 and 1 out, so that a small network can tell early from late."""
    turns = math.pi * torch.cat([time * each for each in _FREQUENCIES], dim=1)
    return torch.cat([time, turns.sin(), turns.cos()], dim=1)


@dataclass(frozen=True)
class SetEncoder:
    """Attention pooling of the parts of a perturbation: ``output(sum_i softmax_i(<query, h_i>) h_i)``.

    The order of the parts does not matter, and any number of them is one condition.
    """

    parts: Layers  # from embedding and log dose of a part to h
    query: Float[Tensor, "h"]  # what is attended to
    output: Layers  # from the pooled parts to the condition

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """All weights, biases and the query."""
        return (*self.parts.parameters, self.query, *self.output.parameters)

    def __call__(self, described: Float[Tensor, "n k e"], present: Bool[Tensor, "n k"]) -> Float[Tensor, "n c"]:
        """Encode perturbations, each with at least one part that is present."""
        hidden = self.parts(described.flatten(0, 1)).unflatten(0, present.shape).relu()
        scores = (hidden @ self.query).masked_fill(~present, -torch.inf)
        condition: Tensor = self.output((scores.softmax(1)[:, None] @ hidden)[:, 0])
        return condition


@dataclass(frozen=True)
class MaskedAttention:
    """Differential attention between readouts, each to its neighbours in a graph only.

    A readout's token is ``value * v + embedding + given(time, condition)``. Its velocity is a perceptron of its
    token and of ``(softmax(Q1 K1) - balance * softmax(Q2 K2)) V`` over its neighbours and itself.
    """

    readouts: Float[Tensor, "r n"]  # from coordinates to values of the readouts that have tokens
    graph: Bool[Tensor, "n n"]  # which readouts each attends to, itself among them
    embeddings: Float[Tensor, "n d"]  # of each readout
    value: Float[Tensor, "d"]  # what a unit of its value adds to a readout's token
    given: Layers  # from time and condition to what they add to every token
    projections: Float[Tensor, "d p"]  # to two queries, two keys and the values, side by side
    balance: Float[Tensor, "1"]  # weight of the attention that is taken off
    head: Layers  # from token and attended values to the readout's velocity
    output: Float[Tensor, "n r"]  # from velocities of readouts to those of coordinates

    @classmethod
    def random(
        cls,
        graph: "ReadoutGraph",
        cells: Cells,
        axes: PrincipalAxes,
        *,
        condition: int,
        generator: torch.Generator,
    ) -> "MaskedAttention":
        """Draw starting weights, for the readouts of which the coordinates carry most."""
        spread = (axes.axes * axes.coordinates(cells.values.double()).std(0)[:, None] * axes.scale).norm(dim=0)
        eligible = graph.eligible(cells.readouts)
        chosen = eligible[spread[eligible].topk(min(graph.readouts, len(eligible))).indices].sort().values
        spread = spread[chosen].clamp(min=1e-9)
        width, count = graph.width, len(chosen)

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        head = Layers.random([2 * width, 2 * width, 1], generator=generator)
        head.weights[-1].mul_(0.1)
        return cls(
            readouts=(axes.axes[:, chosen] * axes.scale / spread).float(),
            graph=graph.among(cells, chosen.tolist()),
            embeddings=normal(count, width),
            value=normal(width),
            given=Layers.random([CLOCK + condition, 2 * width, width], generator=generator),
            projections=normal(width, 5 * width) / width**0.5,
            balance=torch.full((1,), 0.5),
            head=head,
            output=(axes.axes[:, chosen] * spread / axes.scale).T.float().contiguous(),
        )

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """All that is trained: neither what makes readouts of coordinates nor the graph."""
        own = (self.embeddings, self.value, self.projections, self.balance, self.output)
        return (*own, *self.given.parameters, *self.head.parameters)

    def __call__(
        self, state: Float[Tensor, "b r"], time: Float[Tensor, "b 1"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b r"]:
        """Say where a state moves, per unit of time."""
        given = self.given(torch.cat([clock(time), condition], dim=1))
        tokens = (state @ self.readouts)[:, :, None] * self.value + self.embeddings + given[:, None]
        # One head apiece: the fast kernels take four axes.
        query, contrary, key, other, values = (tokens @ self.projections)[:, None].chunk(5, dim=3)
        attended = scaled_dot_product_attention(query, key, values, attn_mask=self.graph)
        taken_off = scaled_dot_product_attention(contrary, other, values, attn_mask=self.graph)
        attended = (attended - self.balance * taken_off)[:, 0]
        rows = torch.cat([tokens, attended], dim=2)
        found: Tensor = self.head(rows.flatten(0, 1)).reshape(rows.shape[:2]) @ self.output
        return found


@dataclass(frozen=True)
class Velocity:
    """A perceptron of state, time and condition, and what readouts learn from their neighbours, if they attend."""

    layers: Layers
    attention: MaskedAttention | None

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """All that is trained."""
        return self.layers.parameters + (() if self.attention is None else self.attention.parameters)

    def __call__(
        self, state: Float[Tensor, "b r"], time: Float[Tensor, "b 1"], condition: Float[Tensor, "b c"]
    ) -> Float[Tensor, "b r"]:
        """Say where a state moves, per unit of time."""
        found: Tensor = self.layers(torch.cat([state, clock(time), condition], dim=1))
        return found if self.attention is None else found + self.attention(state, time, condition)


@dataclass(frozen=True)
class ReadoutGraph:
    """Which readouts attend to each other."""

    # Source and target of each edge; targets attend to sources, and edges of readouts that are not measured are
    # left out. By default, each readout attends to those with which it correlates most over control cells, within
    # contexts.
    edges: tuple[tuple[str, str], ...] = ()
    # How many readouts have a token: those, of all or of those with edges, of which the principal coordinates
    # carry most.
    readouts: int = 64
    neighbours: int = 8  # how many others each attends to where no edges are given
    width: int = 8  # numbers in a token

    def __post_init__(self) -> None:
        """Refuse sizes that leave nothing to attend with."""
        if min(self.readouts, self.neighbours, self.width) < 1:
            raise DataError(
                f"readouts={self.readouts}, neighbours={self.neighbours} and width={self.width} must be at least 1"
            )

    def eligible(self, readouts: Sequence[str]) -> Int[Tensor, "m"]:
        """Number the readouts that may have a token: all, or those that share an edge with another."""
        known = set(readouts)
        linked = {
            name for one, other in self.edges if one != other and {one, other} <= known for name in (one, other)
        }
        if self.edges and not linked:
            raise DataError(
                f"none of {len(self.edges)} edges, the first {self.edges[0]!r}, is between two of {len(known)}"
                f" readouts, the first {readouts[0]!r}; give edges between names of these readouts"
            )
        return torch.tensor([at for at, name in enumerate(readouts) if name in (linked or known)])

    def among(self, cells: Cells, chosen: Sequence[int]) -> Bool[Tensor, "n n"]:
        """Say which of the chosen readouts each attends to."""
        itself = torch.eye(len(chosen), dtype=torch.bool)
        if not self.edges:
            parts = [cells.of(CONTROL, where)[:, chosen] for what, where in cells.sizes if what == CONTROL]
            within = torch.cat([part - part.mean(0) for part in parts]).double()
            within = within / within.norm(dim=0).clamp(min=1e-9)
            alike = (within.T @ within).abs().masked_fill(itself, 0)
            nearest = alike.topk(min(self.neighbours, len(chosen)), dim=1).indices
            return itself.scatter(1, nearest, value=True)
        number = {cells.readouts[column]: row for row, column in enumerate(chosen)}
        found = [(number[one], number[other]) for one, other in self.edges if one in number and other in number]
        if not found:
            raise DataError(f"no edge is between two of the {len(chosen)} readouts that have tokens; allow more")
        sources, targets = torch.tensor(found).T
        itself[targets, sources] = True
        return itself
