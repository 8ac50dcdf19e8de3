"""An inverse model on a network of genes: from a wanted effect to the genes that were perturbed."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.contrib.regulation.network import Regulations, regulations_among
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import require_one_context
from surrogates.models.training import Layers, Schedule, Training, train

_ABSENT = -1
_HELD_OUT = 1 / 6
_FEWEST = 10
_SCHEDULE = Schedule(epochs=100, batch=32)


@dataclass(frozen=True)
class InverseNetwork:
    """Two graph networks of two layers over known regulations [after PDGrapher: Gonzalez 2025, Nat Biomed Eng].

    One, ``discovery``, reads an effect on the genes of the network and scores each gene that may be perturbed;
    the other, ``response``, predicts the effect of perturbed genes, into which no edges lead any more. They are
    trained together on the perturbations of a screen: ``discovery`` to name what was perturbed (cross-entropy),
    ``response`` to predict the effect (squared error), and ``discovery`` again so that the response to what it
    names, softly, is the effect that it was given (the cycle).

    What is the same: two networks, a position of each gene that is learnt, cut edges, the cycle. What differs:
    effects stand for pairs of states, CollecTRI for the interactions of proteins, values enter as they are and not
    in 500 bins, and edges of ``discovery`` go both ways, so that a factor sees what it regulates.
    """

    network: Regulations | None = None  # which gene regulates which, as pairs; ``None`` for CollecTRI
    width: int = 16  # of each layer
    cycle: float = 1.0  # weight of the cycle in the loss
    # How long to train; it stops by how well a sixth of the conditions is named.
    schedule: Schedule = field(default_factory=lambda: _SCHEDULE)

    def __post_init__(self) -> None:
        """Refuse networks without a layer, and a cycle that counts against."""
        if self.width < 1 or not self.cycle >= 0:
            raise DataError(f"width {self.width} must be positive and cycle {self.cycle!r} not negative")

    def fit(self, screen: Screen, *, seed: int) -> "FittedInverseNetwork":
        """Learn from singles and combinations alike."""
        require_one_context(screen)
        if len(screen) < _FEWEST:
            raise DataError(f"{len(screen)} conditions are too few to train two networks; give {_FEWEST} or more")
        screen = screen.in_canonical_order()
        graph = Graph.of(screen.vocabulary, screen.readouts, self.network)
        scale = float(screen.effects.square().mean().sqrt().clamp(min=1e-12))
        effects = graph.on_nodes(screen.effects / scale).to(torch.float32)
        slots = torch.where(
            screen.batch.present, graph.of_entry[screen.batch.genes.clamp(min=0)], len(graph.names)
        )
        marks = torch.zeros(len(screen), len(graph.names) + 1).scatter_(1, slots, 1.0)[:, :-1]
        generator = torch.Generator().manual_seed(seed)
        discovery, response = (Convolutions.random(len(graph.names), self.width, generator) for _ in range(2))
        order = torch.randperm(len(screen), generator=generator)
        held, rows = order.split([count := int(_HELD_OUT * len(order)), len(order) - count])

        def named(some: Int[Tensor, "m"]) -> tuple[Tensor, Tensor]:
            scores = discovery(effects[some], graph.both_ways)[:, graph.targets]
            chosen = marks[some][:, graph.targets] / marks[some].sum(1, keepdim=True)
            return scores, -(chosen * scores.log_softmax(1)).sum(1).mean()

        def loss(some: Int[Tensor, "m"]) -> Tensor:
            wanted, truth = effects[some], marks[some]
            scores, surprise = named(some)
            fitted = graph.away(response(truth, graph.edges, cut=truth), wanted)
            soft = torch.zeros_like(truth)
            soft[:, graph.targets] = (scores.softmax(1) * truth.sum(1, keepdim=True)).clamp(max=1.0)
            back = graph.away(response.fixed()(soft, graph.edges, cut=soft), wanted)
            return surprise + fitted + self.cycle * back

        training = train(
            [*discovery.parameters, *response.parameters],
            lambda part: loss(rows[part]),
            rows=len(rows),
            schedule=self.schedule,
            seed=seed,
            held_out=lambda: named(held)[1],
        )
        return FittedInverseNetwork(screen.vocabulary, screen.readouts, graph, discovery.fixed(), scale, training)


@dataclass(frozen=True)
class Graph:
    """The genes that regulations link, and all targets."""

    names: tuple[str, ...]
    columns: Int[Tensor, "n"]  # readout of each node, ``-1`` for none
    of_entry: Int[Tensor, "v"]  # node of each vocabulary entry
    edges: Int[Tensor, "2 e"]  # from, to

    @classmethod
    def of(cls, vocabulary: Vocabulary, readouts: tuple[str, ...], network: Regulations | None) -> "Graph":
        """Look the regulations between readouts and targets up."""
        known = tuple(dict.fromkeys((*readouts, *vocabulary.targets)))
        pairs = regulations_among(known) if network is None else network
        pairs = tuple(each for each in pairs if {*each} <= {*known} and each[0] != each[1])
        if not pairs:
            raise DataError(
                "no regulation is known between the genes of the screen; give network=regulations_from(table)"
            )
        names = tuple(sorted({*vocabulary.targets} | {name for pair in pairs for name in pair}))
        number = {name: at for at, name in enumerate(names)}
        column = {name: at for at, name in enumerate(readouts)}
        if not column.keys() & number.keys():
            raise DataError(
                f"none of {len(names)} genes of the network and targets of the screen is a readout, the first"
                f" {names[0]!r}; measure some, or give a network that holds some"
            )
        return cls(
            names,
            torch.tensor([column.get(name, _ABSENT) for name in names]),
            torch.tensor([number[target] for target in vocabulary.targets]),
            torch.tensor([[number[source], number[target]] for source, target in sorted(pairs)]).T,
        )

    @property
    def both_ways(self) -> Int[Tensor, "2 e2"]:
        """The edges and their reverse."""
        return torch.cat([self.edges, self.edges.flip(0)], dim=1)

    @property
    def targets(self) -> Int[Tensor, "t"]:
        """The nodes that can be perturbed."""
        nodes: Int[Tensor, t] = self.of_entry.unique()
        return nodes

    def on_nodes(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b n"]:
        """Effect on each node, zero where it is no readout."""
        return torch.where(self.columns == _ABSENT, 0.0, effects[:, self.columns.clamp(min=0)])

    def away(self, predicted: Float[Tensor, "b n"], effects: Float[Tensor, "b n"]) -> Tensor:
        """Mean squared error over nodes that are readouts."""
        error: Tensor = (predicted - effects)[:, self.columns != _ABSENT].square().mean()
        return error


@dataclass(frozen=True)
class Convolutions:
    """Two layers that add up what comes along edges, and a network that reads them and the position of a node."""

    positions: Float[Tensor, "n w"]
    values: Float[Tensor, "w"]
    own: tuple[Float[Tensor, "w w"], ...]
    along: tuple[Float[Tensor, "w w"], ...]
    readout: Layers

    @classmethod
    def random(cls, nodes: int, width: int, generator: torch.Generator) -> "Convolutions":
        """Draw starting weights."""

        def draw(*shape: int) -> Tensor:
            drawn: Tensor = torch.randn(*shape, generator=generator) / width**0.5
            return drawn

        return cls(
            draw(nodes, width),
            draw(width),
            (draw(width, width), draw(width, width)),
            (draw(width, width), draw(width, width)),
            Layers.random((3 * width, width, 1), generator=generator),
        )

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """All weights."""
        return (self.positions, self.values, *self.own, *self.along, *self.readout.parameters)

    def fixed(self) -> "Convolutions":
        """The same weights, through which nothing is learnt."""
        return Convolutions(
            self.positions.detach(),
            self.values.detach(),
            tuple(each.detach() for each in self.own),
            tuple(each.detach() for each in self.along),
            self.readout.to(device="cpu", dtype=torch.float32),
        )

    def __call__(
        self, inputs: Float[Tensor, "b n"], edges: Int[Tensor, "2 e"], *, cut: Float[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b n"]:
        """One number for each node; edges into nodes that are ``cut`` carry nothing."""
        source, target = edges
        arriving = torch.zeros(len(self.positions)).index_add(0, target, torch.ones(len(target)))
        state = inputs[:, :, None] * self.values + self.positions
        states = [state]
        for own, along in zip(self.own, self.along, strict=True):
            carried = state[:, source] / arriving[target][:, None]
            if cut is not None:
                carried = carried * (1 - cut[:, target, None])
            gathered = torch.zeros_like(state).index_add(1, target, carried)
            state = (state @ own + gathered @ along).relu()
            states.append(state)
        read: Float[Tensor, "b n 1"] = self.readout(torch.cat(states, dim=2).flatten(0, 1)).reshape(
            *inputs.shape, 1
        )
        return read[:, :, 0]


@dataclass(frozen=True)
class FittedInverseNetwork:
    """Names what may have been perturbed."""

    vocabulary: Vocabulary
    readouts: tuple[str, ...]
    graph: Graph
    discovery: Convolutions
    scale: float
    training: Training

    def scores(self, effects: Float[Tensor, "t g"]) -> Float[Tensor, "t v"]:
        """Log probability that each entry is among what made each effect, of one draw."""
        values = self.graph.on_nodes(effects / self.scale).to(torch.float32)
        targets = self.graph.targets
        found = self.discovery(values, self.graph.both_ways)[:, targets].log_softmax(1)
        return found[:, torch.searchsorted(targets, self.graph.of_entry)].to(torch.float64)

    def name(self, effect: Float[Tensor, "g"], *, count: int) -> tuple[str, ...]:
        """Name the entries of the largest scores, the first first."""
        order = self.scores(effect[None])[0].argsort(descending=True, stable=True)[:count]
        return tuple(self.vocabulary.entries[int(at)].label for at in order)
