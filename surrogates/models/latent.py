"""LatentAdditive: interventions add up in a latent space, and a network decodes the sum.

``x̂ = D(E(x0) + sum_i z_i)`` with ``x0`` the profile of control cells [Wu 2024, PerturBench]. Here effects against
the control are learnt, and one control profile stands for all, so that its encoding is a constant ``b0`` and
``effect = D(b0 + sum_i z_i) - D(b0)``, see :mod:`surrogates.models.latent_sum`.
"""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.descriptors import Descriptors
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.base import LatentNetwork, sum_over_interventions
from surrogates.models.latent_sum import (
    FittedLatentSum,
    TargetRows,
    decoded_departure,
    fit_latent_sum,
    network_of,
    usual_effect,
)
from surrogates.models.training import Layers, Schedule

Sums = Literal["measured", "learnt"]


@dataclass(frozen=True)
class LatentAdditive:
    """Trains latent rows and decoder on effects, and stops on held-out perturbations.

    What interventions do alone is measured, and a network of few units cannot repeat it: their sum stands beside
    the network, which starts at zero and learns what the sum misses. A target's row is proportional to its dose:
    ``dose / largest dose * (own + map(descriptor))``. A target absent from training gets the mean of the others'
    own rows, to which its descriptor adds; so do targets that are hidden at random while training, by which the
    map of descriptors is learnt. One of five combinations (of ten conditions where these are fewer than ten) is
    held out to find the number of epochs; the model is then trained on all of them for as long.

    Attributes:
        latent: Length of the latent rows.
        hidden: Widths of the decoder's hidden layers.
        sums: Whether the sum of what was measured alone stands beside the network, or the network learns it too.
        descriptors: What is known of the targets.
        rank: Most coordinates of each descriptor.
        hide: Probability with which a target is treated as one never seen, for training only.
        dropout: Probability with which a hidden unit is left out, for training only.
        schedule: How long and how fast to train.
        device: Where to train.
    """

    latent: int = 64
    hidden: tuple[int, ...] = (64,)
    sums: Sums = "measured"
    descriptors: tuple[Descriptors, ...] = ()
    rank: int = 64
    hide: float = 0.1
    dropout: float = 0.1
    schedule: Schedule = field(default=Schedule(epochs=400, batch=32, rate=2e-3, decay=1e-2, patience=60))
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse widths and probabilities that make no network."""
        if min(self.latent, self.rank, *self.hidden, 1) < 1:
            raise DataError(f"widths latent, hidden and rank must be positive; got {self!r}")
        if not (0 <= self.hide < 1 and 0 <= self.dropout < 1):
            raise DataError(f"hide and dropout must be in [0, 1); got {self!r}")
        if self.sums not in get_args(Sums):
            raise DataError(f"sums is {self.sums!r}; take one of {', '.join(get_args(Sums))}")

    def fit(self, screen: Screen, *, seed: int) -> FittedLatentSum:
        """Train the model; it predicts in double precision on the CPU."""
        return fit_latent_sum(screen, partial(_begin, self, seed=seed), schedule=self.schedule, seed=seed)


def decoder_only() -> LatentAdditive:
    """A network from what was given, one-hot, to effects [Wu 2024, PerturBench's decoder only].

    Its first layer is a product of two, and no measured effect stands beside it.
    """
    return LatentAdditive(latent=256, hidden=(256,), sums="learnt", hide=0.0)


def _begin(asked: LatentAdditive, screen: Screen, kept: Int[Tensor, "n"], *, seed: int) -> "_Network":
    generator = torch.Generator().manual_seed(seed)
    vocabulary, unit, batch = screen.vocabulary, usual_effect(screen), screen.batch
    targets = TargetRows.of(screen, kept, device=asked.device)
    blocks = [each.coordinates(vocabulary, rank=asked.rank)[0] for each in asked.descriptors]
    described = torch.cat([vocabulary.doses.new_zeros(len(vocabulary), 0), *blocks], dim=1)
    own = torch.randn(len(targets.names), asked.latent, generator=generator) / asked.latent**0.5
    decoder = Layers.random((asked.latent, *asked.hidden, len(screen.readouts)), generator=generator)
    singles = screen.rows(kept).singles.nan_to_num()
    decoder.weights[-1].zero_()
    if asked.sums == "learnt":
        singles = torch.zeros_like(singles[:1, :1]).expand_as(singles)
    return _Network(
        asked=asked,
        unit=unit,
        effects=(screen.effects / unit).float().to(asked.device),
        batch=PerturbationBatch(batch.genes.to(asked.device), batch.dose.to(asked.device)),
        singles=singles,
        alone=(singles / unit).float().to(asked.device),
        targets=targets,
        described=described.float().to(asked.device),
        own=own.to(asked.device),
        map=torch.zeros(described.shape[1], asked.latent, device=asked.device),
        decoder=decoder.to(device=asked.device, dtype=torch.float32),
    )


@dataclass(frozen=True)
class _Network:
    """What training reads and changes."""

    asked: LatentAdditive
    unit: float  # effect that an output of one stands for
    effects: Float[Tensor, "n g"]  # measured, in that unit
    batch: PerturbationBatch  # what was given in each row
    singles: Float[Tensor, "v g"]  # measured of each entry alone, the mean where it was not; zeros if not used
    alone: Float[Tensor, "v g"]  # the same in that unit
    targets: TargetRows
    described: Float[Tensor, "v f"]  # coordinates of each entry's descriptors
    own: Float[Tensor, "t r"]  # row of each target
    map: Float[Tensor, "f r"]  # from coordinates to the latent state
    decoder: Layers  # weights and thresholds

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        mapped = (self.map,) if len(self.map) else ()
        return (self.own, *mapped, *self.decoder.parameters)

    def loss(self, rows: Int[Tensor, "m"]) -> Tensor:
        """Squared error, with some targets hidden and some units left out."""
        hidden = torch.rand(len(self.own), device=self.own.device) < self.asked.hide
        return self._error(rows, self.targets.trained & ~hidden, dropout=self.asked.dropout)

    def error(self, rows: Int[Tensor, "m"]) -> Tensor:
        """Squared error of held-out rows."""
        return self._error(rows, self.targets.trained, dropout=0.0)

    def decoded(self) -> tuple[Float[Tensor, "v g"], tuple[LatentNetwork, ...]]:
        """What was measured, and the network beside it."""
        rows = self._rows(self.targets.trained)
        if len(self.decoder.weights) > 1:
            return self.singles, (network_of(rows, self.decoder, unit=self.unit),)
        linear = self.decoder.to(device="cpu", dtype=torch.float64).weights[0]
        return self.singles + self.unit * rows.detach().double().cpu() @ linear.T, ()

    def _error(self, rows: Int[Tensor, "m"], known: Bool[Tensor, "t"], *, dropout: float) -> Tensor:
        batch = self.batch.rows(rows)
        latent = sum_over_interventions(self._rows(known), batch)
        made = decoded_departure(self.decoder, latent, dropout=dropout)
        if self.asked.sums == "measured":
            made = made + self._sums(batch, known)
        return (made - self.effects[rows]).square().mean()

    def _rows(self, known: Bool[Tensor, "t"]) -> Float[Tensor, "v r"]:
        """Latent rows, with some targets treated as if they were unseen."""
        own = self.targets.of_entries(self.targets.filled(self.own, known))
        return own + self.targets.dose[:, None] * (self.described @ self.map)

    def _sums(self, batch: PerturbationBatch, known: Bool[Tensor, "t"]) -> Float[Tensor, "b g"]:
        """Sums of what was measured alone, with the mean of all for targets treated as if they were unseen."""
        mean, seen = self.alone.mean(0), known[self.targets.number]
        total = self.alone.new_zeros(len(batch), self.alone.shape[1])
        for ids in batch.genes.T:
            each = torch.where(seen[ids][:, None], self.alone[ids], mean)
            total = total + each * (ids >= 0)[:, None]
        return total
