"""One autoencoder of cells in whose latent space perturbations and covariates add up, and the systems it gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.contrib.cells.additive_networks import (
    AdditiveNetworks,
    Adversary,
    DoseCurves,
    MaskedRows,
    Masks,
    TrainingCells,
)
from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.latent_shift import start_quiet, trainable
from surrogates.contrib.cells.shift import checked_cells
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import LatentNetwork
from surrogates.models.training import Layers, Schedule, Training, placed, train


@dataclass(frozen=True)
class FittedAdditiveAutoencoder:
    """Encoder, decoder, and what perturbations and covariates add between them."""

    readouts: tuple[str, ...]  # names of the readouts
    axes: PrincipalAxes  # coordinates in which the networks work
    encoder: Layers  # from the coordinates of control cells to their basal state
    decoder: Layers  # from latent states to coordinates
    targets: tuple[str, ...]  # names of what was given
    rows: Float[Tensor, "t l"]  # what the largest dose of each adds to the latent state
    curves: DoseCurves  # how much of it a dose adds
    contexts: Float[Tensor, "c l"]  # what each covariate adds; no rows without covariates
    centres: Float[Tensor, "c r"]  # coordinates of the mean control cell of each
    keep_remainder: bool  # whether predictions keep what the autoencoder loses of a cell
    training: Training  # how the training went

    def encode(self, cells: Float[Tensor, "cells g"]) -> Float[Tensor, "cells l"]:
        """Take control cells to their latent states, each with the covariate of the nearest mean control cell."""
        coordinates = self.axes.coordinates(checked_cells(cells, self.readouts))
        latent = torch.nn.functional.pad(
            self.encoder(coordinates), (0, self.rows.shape[1] - len(self.encoder.biases[-1]))
        )
        if len(self.contexts):
            nearest = torch.cdist(coordinates, self.centres, compute_mode="donot_use_mm_for_euclid_dist").argmin(1)
            latent = latent + self.contexts[nearest]
        return latent

    def shifts(self, interventions: Sequence[Intervention]) -> Float[Tensor, "n l"]:
        """Find what each intervention adds to the latent state."""
        for each in interventions:
            if each.target not in self.targets:
                raise UnknownNameError.from_known("perturbation", each.target, self.targets)
        at = torch.tensor([self.targets.index(each.target) for each in interventions], dtype=torch.int64)
        doses = torch.tensor([each.dose for each in interventions], dtype=self.rows.dtype)
        scale = self.curves(doses[:, None].expand(-1, len(self.targets)))
        return scale.gather(1, at[:, None]) * self.rows[at]

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Add what a perturbation does to the states of control cells, and decode them."""
        cells = checked_cells(control, self.readouts)
        if perturbation.order == 0:
            return cells
        latent = self.encode(cells)
        shifted = self.decoder(latent + self.shifts(perturbation.interventions).sum(0))
        if not self.keep_remainder:
            return self.axes.cells(shifted)
        return cells + (shifted - self.decoder(latent)) @ self.axes.axes * self.axes.scale

    def latent_network(self, control: Float[Tensor, "g"], interventions: Sequence[Intervention]) -> LatentNetwork:
        """Give the effects of all sums of some interventions on one control profile; see :class:`LatentSum`."""
        (*weights, last), (*biases, _) = self.decoder.weights, self.decoder.biases
        received, thresholds = self.encode(control[None])[0], []
        for weight, bias in zip(weights, biases, strict=True):
            thresholds.append(weight @ received + bias)
            received = thresholds[-1].relu()
        rows = self.shifts(interventions) @ weights[0].T
        output = self.axes.scale * self.axes.axes.T @ last
        return LatentNetwork(rows, tuple(thresholds), tuple(weights[1:]), output)


@dataclass(frozen=True)
class AdditiveAutoencoder:
    """Predicts ``Dec(Enc(x) + sum_p s_p(dose) m_p * e_p + e_cov)`` for control cells ``x``.

    Trained on all cells, whatever was done to them; named constructors below give the published systems. Common to
    them, and different from the sources: networks see principal coordinates of log-normalised cells, with a
    Gaussian likelihood there in place of one of counts; a cell to predict has the covariate of the nearest mean
    control cell; and with ``keep_remainder`` what the autoencoder loses of a cell stays, ``x + Dec(z + e) -
    Dec(z)``, as it would otherwise count as an effect.
    """

    components: int = 256  # number of principal coordinates
    hidden: tuple[int, ...] = (256,)  # widths of the hidden layers of the encoder; the decoder has them in reverse
    latent: int = 64  # length of the basal state
    # What the encoder sees of a treated cell in training: the ``cell``, or a ``control`` cell of its context that
    # is drawn for it, which cannot show what was done.
    encoded: Literal["cell", "control"] = "cell"
    # Weight of the divergence of basal states from the prior N(0, 1) in a bound on the evidence with a learnt
    # variance of the coordinates; at 0 states are not sampled, and the squared error is minimised.
    rate: float = 0.0
    # Perturbations are indicators, seen by the encoder and by the first layer of the decoder, in place of latent
    # vectors.
    conditional: bool = False
    covariates: bool = True  # learn a vector for each context
    masks: Masks | None = None  # sample sparse masks and embeddings, which the encoder sees
    # Oppose networks that predict perturbations and covariates from the basal state.
    adversary: Adversary | None = None
    # Weight of the maximum mean discrepancy of the first decoder layer between perturbations.
    discrepancy: float = 0.0
    dropout: float = 0.1  # probability with which each hidden unit is left out in training
    held_out: float = 0.1  # fraction of the cells on which training is stopped early; at 0 every epoch is run
    keep_remainder: bool = True  # predict changes of measured cells
    # How long and how fast to train.
    schedule: Schedule = field(default_factory=lambda: Schedule(epochs=100, batch=64, patience=15))
    device: str = "cpu"  # where to train; predictions are made on the CPU

    def __post_init__(self) -> None:
        """Refuse sizes, weights and parts that do not go together."""
        if min(self.components, self.latent, *self.hidden, len(self.hidden)) < 1:
            raise DataError(f"components, hidden and latent of {self!r} must be at least 1, with a hidden layer")
        if not (0 <= self.held_out < 1 and 0 <= self.dropout < 1):
            raise DataError(f"held_out={self.held_out} and dropout={self.dropout} must be at least 0 and below 1")
        if min(self.discrepancy, self.rate) < 0:
            raise DataError(f"rate={self.rate} and discrepancy={self.discrepancy} must not be negative")
        if self.masks is not None and (self.conditional or not self.rate):
            raise DataError("masks need a positive rate, and embeddings in place of conditional=True")

    def fit(self, cells: Cells, *, seed: int) -> FittedAdditiveAutoencoder:
        """Train all networks; control cells of the contexts to predict belong here."""
        ordered = trainable(cells)
        values = ordered.values.double()
        axes = PrincipalAxes.of(values, self.components)
        given = sorted({each for what in ordered.treatments for each in what.interventions})
        targets = tuple(dict.fromkeys(each.target for each in given))
        generator = torch.Generator().manual_seed(seed)
        design = self._design(ordered, targets, axes.coordinates(values), generator)
        networks = self._start(design, generator=generator)
        order = torch.randperm(len(values), generator=generator)
        judging = min(round(self.held_out * len(order)), len(order) - 1) if self.held_out else 0
        held_out, kept = design.rows(order[:judging]), design.rows(order[judging:])

        training = train(
            networks.parameters,
            lambda part: networks.loss(
                kept.rows(part), total=len(kept.contexts), dropout=self.dropout, sampled=True
            ),
            rows=len(kept.contexts),
            schedule=self.schedule,
            seed=seed,
            held_out=None
            if not judging
            else lambda: networks.loss(held_out, total=len(kept.contexts), dropout=0.0, sampled=False),
        )
        return self._fitted(networks, training, axes, ordered, targets)

    def _design(
        self,
        cells: Cells,
        targets: tuple[str, ...],
        coordinates: Float[Tensor, "cells r"],
        generator: torch.Generator,
    ) -> TrainingCells:
        doses = torch.zeros(len(cells.perturbations), len(targets))
        for row, what in zip(doses, cells.perturbations, strict=True):
            for each in what.interventions:
                if each.target in targets:
                    row[targets.index(each.target)] = each.dose
        labels = sorted({what.label for what in cells.perturbations})
        conditions = torch.tensor([labels.index(what.label) for what in cells.perturbations])
        contexts = torch.tensor(
            [cells.context_names.index(each) if each in cells.context_names else 0 for each in cells.contexts]
        )
        origins = coordinates.clone()
        if self.encoded == "control":
            untreated = (doses[cells.codes] == 0).all(1)
            for number in range(len(cells.context_names)):
                own = contexts[cells.codes] == number
                to = torch.nonzero(own & ~untreated).flatten()
                # A context without control cells borrows those of the others.
                some = own & untreated if bool((own & untreated).any()) else untreated
                drawn = torch.randint(int(some.sum()), (len(to),), generator=generator)
                origins[to] = coordinates[some][drawn]
        parts = (coordinates, origins, doses[cells.codes], conditions[cells.codes], contexts[cells.codes])
        return TrainingCells(
            *(each.float().to(self.device) if each.is_floating_point() else each.to(self.device) for each in parts)
        )

    def _start(self, cells: TrainingCells, *, generator: torch.Generator) -> AdditiveNetworks:
        width, targets, contexts = cells.coordinates.shape[1], cells.doses.shape[1], int(cells.contexts.max()) + 1
        latent = self.latent + targets * self.conditional
        seen = targets if self.conditional else latent if self.masks else 0

        encoder = Layers.random((width + seen, *self.hidden, 2 * self.latent), generator=generator)
        decoder = Layers.random((latent, *self.hidden[::-1], width), generator=generator)
        start_quiet(encoder, decoder)
        plain = self.masks is None and not self.conditional
        networks = AdditiveNetworks(
            encoder,
            decoder,
            0.1 * torch.randn(targets, latent, generator=generator) if plain else None,
            None if self.masks is None else MaskedRows.start(self.masks, targets, latent, generator=generator),
            DoseCurves(torch.zeros(targets), torch.zeros(targets), cells.doses.amax(0)),
            torch.zeros(contexts if self.covariates and contexts > 1 else 0, self.latent),
            torch.zeros(1),
            None,
            self.rate,
            self.discrepancy,
        )
        networks = placed(networks, device=self.device, dtype=torch.float32)
        if self.adversary is None:
            return networks
        widths = (self.latent, targets, contexts)
        return replace(networks, opponents=self.adversary.start(*widths, generator=generator, device=self.device))

    def _fitted(
        self,
        networks: AdditiveNetworks,
        training: Training,
        axes: PrincipalAxes,
        cells: Cells,
        targets: Sequence[str],
    ) -> FittedAdditiveAutoencoder:
        """Take what predicts, in double precision: the mean of each state, and the encoder as controls see it."""
        networks = placed(replace(networks, opponents=None), device="cpu", dtype=torch.float64)
        encoder, rows, contexts = networks.encoder, networks.rows(sampled=False), networks.of_contexts
        (first, *rest), width = encoder.weights, len(axes.axes)
        matrices, biases = [first[:, :width], *rest], [*encoder.biases]
        matrices[-1], biases[-1] = matrices[-1][: self.latent], biases[-1][: self.latent]
        centres = [_centre(cells, name) for name in cells.context_names] if len(contexts) else []
        return FittedAdditiveAutoencoder(
            readouts=cells.readouts,
            axes=axes,
            encoder=Layers(tuple(matrices), tuple(biases)),
            decoder=networks.decoder,
            targets=tuple(targets),
            rows=rows,
            curves=networks.curves,
            contexts=torch.nn.functional.pad(contexts, (0, rows.shape[1] - self.latent)),
            centres=axes.coordinates(torch.stack(centres)) if centres else axes.centre.new_zeros(0, width),
            keep_remainder=self.keep_remainder,
            training=training,
        )


def _centre(cells: Cells, context: str) -> Float[Tensor, "g"]:
    """Take the mean control cell of a context, or its mean cell if it has none."""
    there = [each for each in cells.sizes if each[1] == context]
    there = [(CONTROL, context)] if (CONTROL, context) in there else sorted(there, key=str)
    return torch.cat([cells.of(*each) for each in there]).double().mean(0)


def cpa() -> AdditiveAutoencoder:
    """CPA [Lotfollahi 2023, Mol Syst Biol 19, e11517].

    The same: adversaries of several steps with a penalty on their gradients, sigmoid dose curves, covariates.
    Different: the encoder is drawn to what tells adversaries nothing, in place of what misleads them: against
    misled ones states turned around, and half of the response stayed in them. Every epoch is run.
    """
    return AdditiveAutoencoder(adversary=Adversary(), held_out=0.0)


def cpa_without_adversary() -> AdditiveAutoencoder:
    """CPA without adversaries, as compared in PerturBench [Wu 2024, arXiv 2408.10609].

    Different: basal states are sampled, at a rate of 5. Without that the encoder keeps what was done: of the
    response of blood cells to interferon, .94 were missing in the very cells that were trained on, with it .09.
    """
    return AdditiveAutoencoder(rate=5.0)


def sams_vae() -> AdditiveAutoencoder:
    """SAMS-VAE [Bereket 2023, NeurIPS].

    The same: normal embeddings, Bernoulli masks sampled by Gumbel-softmax, an encoder that sees both, and the
    bound on the evidence. Different: a Gaussian likelihood of log-normalised values; where a mask is off its
    embedding keeps the prior, in closed form, in place of a network; basal states count five times in the bound,
    for the reason given in :func:`cpa_without_adversary` (.24 of the response missing; .64 at a rate of 1).
    """
    return AdditiveAutoencoder(rate=5.0, masks=Masks(), covariates=False)


def trvae() -> AdditiveAutoencoder:
    """Build trVAE [Lotfollahi 2020, Bioinformatics 36, i610].

    The same: conditions enter encoder and decoder, and the first layer of the decoder is matched between them.
    Different: the variance of the likelihood is learnt. A new combination gets the sum of the columns of its
    parts, which the source, with one indicator per condition, cannot predict.
    """
    return AdditiveAutoencoder(rate=1.0, conditional=True, covariates=False, discrepancy=1.0)
