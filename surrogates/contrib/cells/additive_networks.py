"""The networks of the additive autoencoder in training: what is drawn, what is summed, what is minimised."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear, pad

from surrogates.contrib.cells.adversary import Opponents
from surrogates.contrib.cells.discrepancy import mean_discrepancy
from surrogates.contrib.cells.masks import MaskedRows
from surrogates.models.training import Layers, gaussian_divergence


@dataclass(frozen=True)
class DoseCurves:
    """How far each target has gone at a dose: a sigmoid of its logarithm, zero at no dose, one at the largest.

    ``s(d) = c(d) / c(largest)`` with ``c(d) = sigmoid(a log(1 + d) + b) - sigmoid(b)`` [Lotfollahi 2023]: a target
    of a single dose has one row at that dose, whatever its curve.
    """

    log_slope: Float[Tensor, "t"]
    threshold: Float[Tensor, "t"]
    largest: Float[Tensor, "t"]  # the largest dose in training

    def __call__(self, doses: Float[Tensor, "*b t"]) -> Float[Tensor, "*b t"]:
        """Scale the rows of all targets by their doses; zero for targets that are not given."""
        return self._raw(doses) / self._raw(self.largest)

    def _raw(self, doses: Float[Tensor, "*b t"]) -> Float[Tensor, "*b t"]:
        return (self.log_slope.exp() * doses.log1p() + self.threshold).sigmoid() - self.threshold.sigmoid()


@dataclass(frozen=True)
class TrainingCells:
    """What each cell is, and what was done to it."""

    coordinates: Float[Tensor, "cells r"]
    origins: Float[Tensor, "cells r"]  # coordinates of what is encoded: the cell, or a control cell of its context
    doses: Float[Tensor, "cells t"]  # of each target, 0 where it was not given
    conditions: Int[Tensor, "cells"]  # number of what was done
    contexts: Int[Tensor, "cells"]  # number of the context

    def rows(self, index: Int[Tensor, "m"]) -> "TrainingCells":
        """Take some of the cells."""
        parts = (self.coordinates, self.origins, self.doses, self.conditions, self.contexts)
        return TrainingCells(*(each[index] for each in parts))


@dataclass(frozen=True)
class AdditiveNetworks:
    """All that is trained, in single precision.

    ``free`` rows are latent vectors; ``masked`` ones are sampled; without either, conditions are indicators, which
    stand beside the basal state, and of which the first layer of the decoder takes a column each.
    """

    encoder: Layers
    decoder: Layers
    free: Float[Tensor, "t l"] | None
    masked: MaskedRows | None
    curves: DoseCurves
    of_contexts: Float[Tensor, "c l"]  # no rows without covariates
    log_noise: Float[Tensor, "1"]  # logarithm of the variance of a coordinate around what is decoded
    opponents: Opponents | None
    rate: float  # weight of the divergence of basal states; not sampled at 0
    discrepancy: float  # weight of the maximum mean discrepancy

    @property
    def latent(self) -> int:
        """Length of the basal state."""
        return len(self.encoder.biases[-1]) // 2

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        parts: list[Tensor] = [*self.encoder.parameters, *self.decoder.parameters]
        parts += [self.curves.log_slope, self.curves.threshold]
        parts += [each for each in (self.free, self.of_contexts) if each is not None and len(each)]
        parts += [] if self.masked is None else self.masked.parameters
        return (*parts, self.log_noise) if self.rate > 0 else tuple(parts)

    def rows(self, *, sampled: bool) -> Float[Tensor, "t l"]:
        """What the largest dose of each target adds to the latent state."""
        if self.masked is not None:
            return self.masked.sampled() if sampled else self.masked.expected()
        if self.free is not None:
            return self.free
        return pad(torch.eye(len(self.curves.largest)).to(self.log_noise), (self.latent, 0))

    def basal(
        self, x: Float[Tensor, "b r"], shift: Float[Tensor, "b l"], *, dropout: float = 0.0
    ) -> tuple[Float[Tensor, "b k"], Float[Tensor, "b k"]]:
        """Encode cells, beside what was done to them where the encoder sees it: mean and log variance."""
        wide = self.encoder.weights[0].shape[1] - x.shape[1]
        seen = torch.cat([x, shift[:, shift.shape[1] - wide :]], dim=1)
        mean, log_variance = self.encoder(seen, dropout=dropout).chunk(2, dim=1)
        return mean, log_variance

    def loss(self, cells: TrainingCells, *, total: int, dropout: float, sampled: bool) -> Float[Tensor, ""]:
        """Take what is minimised: the bound on the evidence or squared error per coordinate, and penalties."""
        x, width = cells.coordinates, cells.coordinates.shape[1]
        shift = self.curves(cells.doses) @ self.rows(sampled=sampled)
        mean, log_variance = self.basal(cells.origins, shift, dropout=dropout)
        state = mean
        if self.rate > 0 and sampled:
            state = mean + torch.randn(mean.shape).to(mean) * (log_variance / 2).exp()
        latent = self.summed(state, shift, cells.contexts)
        error = (x - self.decoder(latent, dropout=dropout)).square().sum(1) / width
        if self.rate > 0:
            spent = self.rate * gaussian_divergence(mean, log_variance).sum(1)
            if self.masked is not None:
                spent = spent + self.masked.divergence() / total
            error = (error * (-self.log_noise).exp() + self.log_noise) / 2 + spent / width
        loss = error.mean()
        if self.opponents is not None:
            given: Bool[Tensor, "b t"] = cells.doses > 0
            loss = loss + self.opponents.loss(state, given, cells.contexts)
        if self.discrepancy > 0:
            first = linear(latent, self.decoder.weights[0], self.decoder.biases[0]).relu()
            loss = loss + self.discrepancy * mean_discrepancy(first, cells.conditions)
        return loss

    def summed(
        self, state: Float[Tensor, "b k"], shift: Float[Tensor, "b l"], contexts: Int[Tensor, "b"]
    ) -> Float[Tensor, "b l"]:
        """Add what was done and the covariate to basal states."""
        if len(self.of_contexts):
            state = state + self.of_contexts[contexts]
        return pad(state, (0, shift.shape[1] - state.shape[1])) + shift
