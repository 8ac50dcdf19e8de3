"""A shift added to control cells in the latent space of an autoencoder: the form of scGen."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.shift import Shifts, balanced_shifts, checked_cells, treated_beside_controls
from surrogates.data.io.cells import Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError
from surrogates.models.training import Layers, Schedule, Training, gaussian_divergence, train


@dataclass(frozen=True)
class FittedLatentShift:
    """An autoencoder of cells, and how far each perturbation moves its latent state."""

    readouts: tuple[str, ...]  # names of the readouts
    axes: PrincipalAxes  # coordinates in which the networks work
    encoder: Layers  # from coordinates to the mean, then the log variance of the latent state
    decoder: Layers  # from latent states to coordinates
    shifts: Shifts  # latent shift of each perturbation
    keep_remainder: bool  # whether predictions keep what the autoencoder loses of a cell
    training: Training  # how the training went

    def encode(self, cells: Float[Tensor, "cells g"]) -> Float[Tensor, "cells l"]:
        """Take cells to the mean of their latent states."""
        both: Tensor = self.encoder(self.axes.coordinates(checked_cells(cells, self.readouts)))
        return both[:, : both.shape[1] // 2]

    def decode(self, latent: Float[Tensor, "cells l"]) -> Float[Tensor, "cells g"]:
        """Take latent states to cells."""
        return self.axes.cells(self.decoder(latent))

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Shift control cells in latent space, and decode them."""
        cells = checked_cells(control, self.readouts)
        if perturbation.order == 0:
            return cells
        latent = self.encode(cells)
        shifted = self.decode(latent + self.shifts.of(perturbation))
        return cells + shifted - self.decode(latent) if self.keep_remainder else shifted


@dataclass(frozen=True)
class LatentShift:
    """Predicts ``Dec(z(x) + delta)`` for control cells ``x``, of any context that has some [Lotfollahi 2019].

    A variational autoencoder with a Gaussian decoder of unit variance minimises ``(|x - Dec(z)|^2 + weight * KL) /
    2`` over all cells, whatever was done to them. A perturbation's ``delta`` is the difference between the mean
    latent states of treated and of control cells, each context counting the same. Two departures from the source:
    the networks see principal coordinates of the cells, which makes them many times smaller, and contexts without
    treated cells are left out of the mean over control cells, as they would shift it.

    The faithful form also predicts what the autoencoder makes of a cell without any shift: that differs from a
    measured cell, and the difference counts as an effect. ``keep_remainder`` takes it out.

    Attributes:
        components: Number of principal coordinates.
        hidden: Width of each hidden layer of the encoder; the decoder has them in reverse.
        latent: Number of latent coordinates.
        divergence_weight: Weight of the Kullback-Leibler term.
        dropout: Probability with which each hidden unit is left out in training.
        held_out: Fraction of the cells on which training is stopped early.
        keep_remainder: Predict ``x + Dec(z + delta) - Dec(z)`` instead.
        alignment: Weight of one less the cosine between a linear map of the latent state and the embedding of the
            cell; the 50 leading principal coordinates stand for embeddings where the cells have none.
        cycle: Weight of the squared error of a cell that is moved to another condition of its batch by the
            difference of the mean states, decoded, encoded, moved back and decoded again.
        schedule: How long and how fast to train.
        device: Where to train; predictions are made on the CPU.
    """

    components: int = 256
    hidden: tuple[int, ...] = (256,)
    latent: int = 64
    divergence_weight: float = 5e-5
    dropout: float = 0.1
    held_out: float = 0.1
    keep_remainder: bool = False
    alignment: float = 0.0
    cycle: float = 0.0
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch=64, patience=15))
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse sizes and fractions that make no network or leave no cells."""
        if min(self.components, self.latent, *self.hidden) < 1:
            raise DataError(f"components, hidden and latent of {self!r} must be at least 1")
        if not (0 < self.held_out < 1 and 0 <= self.dropout < 1 and self.divergence_weight >= 0):
            raise DataError(
                f"held_out={self.held_out} must be between 0 and 1, dropout={self.dropout} at least 0 and below 1,"
                f" divergence_weight={self.divergence_weight} not negative"
            )
        if min(self.alignment, self.cycle) < 0:
            raise DataError(f"alignment={self.alignment} and cycle={self.cycle} must not be negative")

    def fit(self, cells: Cells, *, seed: int) -> FittedLatentShift:
        """Train the autoencoder, and average latent states; control cells of the target context belong here."""
        ordered = trainable(cells)
        values = ordered.values.double()
        axes = PrincipalAxes.of(values, self.components)
        encoder, decoder, training = self._trained(axes.coordinates(values), axes.scale, ordered, seed)
        fitted = FittedLatentShift(
            readouts=ordered.readouts,
            axes=axes,
            encoder=encoder,
            decoder=decoder,
            shifts=Shifts((), values.new_zeros(0, self.latent)),
            keep_remainder=self.keep_remainder,
            training=training,
        )
        return replace(fitted, shifts=balanced_shifts(fitted.encode(values), ordered))

    def _trained(
        self, coordinates: Float[Tensor, "cells r"], scale: float, cells: Cells, seed: int
    ) -> tuple[Layers, Layers, Training]:
        generator = torch.Generator().manual_seed(seed)
        order, begun = _Autoencoder.begin(self, coordinates, scale, cells, generator=generator)
        judging = min(max(1, round(self.held_out * len(order))), len(order) - 1)
        held_out, kept = order.to(self.device).tensor_split([judging])
        training = train(
            begun.parameters,
            # The noise is drawn on the CPU, so that a seed means the same on every device.
            lambda rows: begun.loss(kept[rows], torch.randn(len(rows), self.latent), self.dropout),
            rows=len(kept),
            schedule=self.schedule,
            seed=seed,
            held_out=lambda: begun.loss(held_out, torch.zeros(len(held_out), self.latent), 0.0),
        )
        plain = [each.to(device="cpu", dtype=torch.float64) for each in (begun.encoder, begun.decoder)]
        return plain[0], plain[1], training


@dataclass(frozen=True)
class _Autoencoder:
    """What training reads and changes."""

    asked: LatentShift
    cells: Float[Tensor, "cells r"]  # their coordinates
    scale: float  # of a coordinate, in units of the readouts
    wanted: Float[Tensor, "cells e"]  # embeddings that latent states are aligned to
    conditions: Int[Tensor, "cells"]  # what was done to each cell
    encoder: Layers
    decoder: Layers
    projector: Layers  # from latent states to embeddings

    @classmethod
    def begin(
        cls,
        asked: LatentShift,
        coordinates: Float[Tensor, "cells r"],
        scale: float,
        cells: Cells,
        *,
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "cells"], "_Autoencoder"]:
        """Draw the networks, and an order of the cells."""

        def layers(*sizes: int) -> Layers:
            return Layers.random(sizes, generator=generator).to(device=asked.device, dtype=torch.float32)

        width = coordinates.shape[1]
        encoder = layers(width, *asked.hidden, 2 * asked.latent)
        decoder = layers(asked.latent, *asked.hidden[::-1], width)
        start_quiet(encoder, decoder)
        order = torch.randperm(len(coordinates), generator=generator)
        every = coordinates.to(device=asked.device, dtype=torch.float32)
        wanted = every[:, :50] if cells.embeddings is None else cells.embeddings.float().to(asked.device)
        labels = sorted({what.label for what in cells.perturbations})
        conditions = torch.tensor([labels.index(what.label) for what in cells.perturbations])[cells.codes]
        conditions = conditions.to(asked.device)
        projector = layers(asked.latent, wanted.shape[1])
        return order, cls(asked, every, scale, wanted, conditions, encoder, decoder, projector)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        projected = self.projector.parameters if self.asked.alignment else ()
        return (*self.encoder.parameters, *self.decoder.parameters, *projected)

    def loss(self, rows: Int[Tensor, "m"], noise: Float[Tensor, "m l"], dropout: float) -> Tensor:
        """The bound on the evidence, in units of the readouts, in which the weight of the divergence is stated."""
        x = self.cells[rows]
        mean, log_variance = self.encoder(x, dropout=dropout).chunk(2, dim=1)
        latent = mean + noise.to(x.device) * (log_variance / 2).exp()
        missed = (x - self.decoder(latent, dropout=dropout)).square().sum(1) * self.scale**2
        bound = missed + self.asked.divergence_weight * gaussian_divergence(mean, log_variance).sum(1)
        found: Tensor = bound.mean() / 2
        if self.asked.alignment > 0:
            towards = torch.nn.functional.cosine_similarity(self.projector(latent), self.wanted[rows], dim=1)
            found = found + self.asked.alignment * (1 - towards).mean()
        return (
            found + self.asked.cycle * self._unreturned(rows, latent, dropout) if self.asked.cycle > 0 else found
        )

    def _unreturned(self, rows: Int[Tensor, "m"], latent: Float[Tensor, "m l"], dropout: float) -> Tensor:
        """Squared error of cells that are moved to another condition of the batch, and back."""
        _, place = self.conditions[rows].unique(return_inverse=True)
        share = torch.nn.functional.one_hot(place).to(latent)
        means = (share.T @ latent / share.sum(0)[:, None])[place]
        move = means.roll(1, 0) - means  # to the condition of the cell before
        moved = self.encoder(self.decoder(latent + move, dropout=dropout), dropout=dropout)[:, : move.shape[1]]
        back = self.decoder(moved - move, dropout=dropout)
        return (self.cells[rows] - back).square().sum(1).mean() * self.scale**2 / 2


def trainable(cells: Cells) -> Cells:
    """Put cells in order, and refuse designs from which nothing can be learnt before the minutes of training."""
    ordered = cells.in_canonical_order()
    if len(ordered) < 3:
        raise DataError(f"{len(ordered)} cells are too few to train on and to stop early on; bring more")
    treated_beside_controls(ordered)
    return ordered


def start_quiet(encoder: Layers, decoder: Layers) -> None:
    """Begin with hardly any noise: loud noise drives the decoder to ignore the latent state, for good."""
    latent = len(encoder.biases[-1]) // 2  # means come first, then log variances
    encoder.weights[-1][latent:] = 0.0
    encoder.biases[-1][latent:] = -4.0
    decoder.weights[-1].mul_(0.1)


def remainder_kept() -> LatentShift:
    """Configure the form that keeps what the autoencoder loses of a cell."""
    return LatentShift(keep_remainder=True)


def screpa() -> LatentShift:
    """Build scREPA [Li 2025]: latent states aligned to embeddings of the cells, and cycles between conditions.

    Give embeddings of a foundation model with ``replace(cells, embeddings=table)``. Different: the shift is the
    mean difference of latent states, the same for all cells, and what the autoencoder loses of a cell is kept.
    """
    return LatentShift(alignment=1.0, cycle=1.0, keep_remainder=True)
