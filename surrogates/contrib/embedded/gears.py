"""GEARS in the form that effects allow: embeddings averaged over a graph of genes, summed, and decoded twice."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.descriptors import Descriptors
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import LatentNetwork, sum_over_interventions
from surrogates.models.kernel import chosen_descriptors
from surrogates.models.latent_sum import (
    FittedLatentSum,
    TargetRows,
    decoded_departure,
    fit_latent_sum,
    network_of,
    usual_effect,
)
from surrogates.models.training import Layers, Schedule


@dataclass(frozen=True)
class Gears:
    """Decodes sums of embeddings that similar genes share [Roohani 2023, GEARS].

    ``u = MLP(sum_p (S E)_p)``, with ``E`` one learnt row per target and ``S`` the convolution of the graph that
    joins each target to those most alike. A head of its own makes each readout, ``y_g = w_g · u``; the cross-gene
    head adds ``v_g · c`` with ``c = MLP(y)``. The loss is ``|y - ŷ|^(2 + gamma) + direction (sign y - sign ŷ)^2``.

    As published: the graph of Gene Ontology by Jaccard index, its convolution, the sum, both heads, the focus on
    large errors. Different: effects against the control are learnt and not cells, so that no embedding of readouts
    is decoded beside the perturbation's, and networks on sums remain, by which all pairs are searched exactly; the
    graph joins the targets of the screen; the sign of a prediction, whose gradient is zero, is a hyperbolic
    tangent. A target that was never trained has the mean row in ``E``, and what its neighbours have learnt; one
    outside of the graph has its own row alone, or that mean. The epochs are chosen on held-out combinations.
    """

    # One table of what is known of the targets, whose kernel says how alike two are; by default the biological
    # processes of Gene Ontology, by Jaccard index; no graph where it is empty, or there are no tables.
    descriptors: tuple[Descriptors, ...] | None = None
    neighbours: int = 20  # to how many others each target is joined
    latent: int = 64  # length of the embeddings
    hidden: int = 64  # width of the hidden layers
    gamma: float = 2.0  # how much more large errors count
    direction: float = 1e-3  # weight of wrong signs
    # How long and how fast to train.
    schedule: Schedule = field(default=Schedule(epochs=200, batch=32, rate=1e-3, decay=5e-4, patience=100))

    def __post_init__(self) -> None:
        """Refuse what makes no network."""
        if min(self.neighbours, self.latent, self.hidden) < 1 or min(self.gamma, self.direction) < 0:
            raise DataError(
                f"{self!r} is no network; take positive widths, and gamma and direction not below zero"
            )
        if self.descriptors is not None and len(self.descriptors) > 1:
            raise DataError(f"{len(self.descriptors)} tables make no graph; give one of what is known of targets")

    def fit(self, screen: Screen, *, seed: int) -> FittedLatentSum:
        """Train the model; it predicts in double precision."""
        return fit_latent_sum(screen, partial(_begin, self, seed=seed), schedule=self.schedule, seed=seed)


def _begin(asked: Gears, screen: Screen, kept: Int[Tensor, "n"], *, seed: int) -> "_Network":
    generator, unit = torch.Generator().manual_seed(seed), usual_effect(screen)
    targets, readouts = TargetRows.of(screen, kept), len(screen.readouts)
    own = torch.randn(len(targets.names), asked.latent, generator=generator) / asked.latent**0.5
    first = Layers.random((asked.latent, asked.hidden, asked.hidden, readouts), generator=generator)
    cross = Layers.random((readouts, asked.hidden, readouts), generator=generator)
    for heads in (first, cross):
        heads.weights[-1].zero_()  # it starts as no effect
    return _Network(
        asked,
        unit,
        (screen.effects / unit).float(),
        screen.batch,
        targets,
        convolution(_graph(asked, screen), targets.names, count=asked.neighbours),
        own,
        first,
        cross,
    )


def _graph(asked: Gears, screen: Screen) -> Descriptors | None:
    if asked.descriptors is not None:
        return next(iter(asked.descriptors), None)
    shipped = (each for each in chosen_descriptors(None, screen.vocabulary) if each.name == "go")
    return next((replace(each, kernel="jaccard") for each in shipped), None)


@dataclass(frozen=True)
class _Network:
    """What training reads and changes."""

    asked: Gears
    unit: float  # effect that an output of one stands for
    effects: Float[Tensor, "n g"]  # measured, in that unit
    batch: PerturbationBatch  # what was given in each row
    targets: TargetRows
    shared: Float[Tensor, "t t"]  # the convolution, sparse
    own: Float[Tensor, "t r"]  # embedding of each target
    first: Layers  # from sums to the readouts' own heads
    cross: Layers  # from all readouts to what they add to each

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        return (self.own, *self.first.parameters, *self.cross.parameters)

    def loss(self, rows: Int[Tensor, "m"]) -> Tensor:
        """The published loss."""
        made, wanted = self._made(rows), self.effects[rows]
        focused = (made - wanted).abs().pow(2 + self.asked.gamma).mean()
        return focused + self.asked.direction * (made.tanh() - wanted.sign()).square().mean()

    def error(self, rows: Int[Tensor, "m"]) -> Tensor:
        """Squared error of held-out rows."""
        return (self._made(rows) - self.effects[rows]).square().mean()

    def decoded(self) -> tuple[Float[Tensor, "v g"], tuple[LatentNetwork, ...]]:
        """Both heads as networks on the same sums."""
        first = network_of(self._rows(), self.first, unit=1.0)
        cross = self.cross.to(device="cpu", dtype=torch.float64)
        after = LatentNetwork(
            first.rows,
            (*first.thresholds, cross.biases[0]),
            (*first.weights, cross.weights[0] @ first.output),
            self.unit * cross.weights[1],
        )
        nothing = first.rows.new_zeros(1, 1).expand(len(first.rows), len(first.output))
        return nothing, (replace(first, output=self.unit * first.output), after)

    def _made(self, rows: Int[Tensor, "m"]) -> Float[Tensor, "m g"]:
        own = decoded_departure(self.first, sum_over_interventions(self._rows(), self.batch.rows(rows)))
        return own + decoded_departure(self.cross, own)

    def _rows(self) -> Float[Tensor, "v r"]:
        averaged: Tensor = torch.sparse.mm(self.shared, self.targets.filled(self.own))
        return self.targets.of_entries(averaged)


def convolution(descriptors: Descriptors | None, names: tuple[str, ...], *, count: int) -> Float[Tensor, "t t"]:
    """Make the matrix ``S = D^-1/2 (A + I) D^-1/2`` of a graph convolution [Wu 2019, simple graph convolution].

    ``A`` holds the similarity of two targets if one is among the nearest of the other. A target that nothing
    describes, or that is like no other, is joined to itself alone: its row of ``S`` is that of the identity.
    """
    size = len(names)
    eye = torch.arange(size).expand(2, -1)
    if descriptors is None:
        return torch.sparse_coo_tensor(eye, torch.ones(size), (size, size), check_invariants=True).coalesce()
    entries = Vocabulary(tuple(Intervention(name) for name in names))
    near, alike = descriptors.nearest(entries, count=count)
    start, slot = torch.nonzero(alike > 0, as_tuple=True)
    end, weight = near[start, slot], alike[start, slot]
    # An edge that both ends name counts once: the two values are equal.
    keys = torch.cat([start * size + end, end * size + start])
    distinct, first = keys.unique(return_inverse=True)
    weights = weight.new_zeros(len(distinct)).index_copy(0, first, weight.repeat(2))
    edges = torch.cat([torch.stack([distinct // size, distinct % size]), eye], dim=1)
    weights = torch.cat([weights, weights.new_ones(size)])
    degree = weights.new_zeros(size).index_add(0, edges[0], weights)
    scaled = weights / (degree[edges[0]] * degree[edges[1]]).sqrt()
    return torch.sparse_coo_tensor(edges, scaled.float(), (size, size), check_invariants=True).coalesce()
