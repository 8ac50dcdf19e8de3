"""The networks of the additive autoencoder in training: sparse masks of embeddings, adversaries, dose curves."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import linear, pad

from surrogates.contrib.cells.discrepancy import mean_discrepancy
from surrogates.errors import DataError
from surrogates.models.training import Layers, gaussian_divergence


@dataclass(frozen=True)
class Masks:
    """Prior of the masks, and how their samples are relaxed."""

    prior: float = 0.1  # probability with which a perturbation moves a latent coordinate
    # Of the relaxed samples, by which gradients flow [Maddison 2017]; the samples used are 0 or 1.
    temperature: float = 1.0

    def __post_init__(self) -> None:
        """Refuse priors that are certain."""
        if not (0 < self.prior < 1 and self.temperature > 0):
            raise DataError(f"the prior of {self!r} must be between 0 and 1, its temperature positive")


@dataclass(frozen=True)
class MaskedRows:
    """The approximate posterior of masks and embeddings: ``q(m) q(e | m)``.

    Where a mask is off, its embedding is not seen by the data and keeps the prior N(0, 1), so that the divergence
    from the prior is a closed form: that of the mask, and that of the embedding times the chance of the mask.
    """

    settings: Masks
    logits: Float[Tensor, "v l"]  # of the masks
    mean: Float[Tensor, "v l"]  # of the embeddings whose mask is on
    log_variance: Float[Tensor, "v l"]

    @classmethod
    def start(cls, settings: Masks, entries: int, latent: int, *, generator: torch.Generator) -> "MaskedRows":
        """Begin with masks that are nearly always on, and small embeddings that are nearly known."""
        mean = 0.1 * torch.randn(entries, latent, generator=generator)
        return cls(settings, torch.full_like(mean, 3.0), mean, torch.full_like(mean, -6.0))

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        return (self.logits, self.mean, self.log_variance)

    def sampled(self) -> Float[Tensor, "v l"]:
        """Draw masks that are 0 or 1 and embeddings; gradients take the masks as relaxed."""
        uniform = torch.rand(self.logits.shape).clamp(1e-6, 1 - 1e-6).to(self.logits)
        relaxed = torch.sigmoid((self.logits + torch.logit(uniform)) / self.settings.temperature)
        masks = (relaxed > 0.5).to(relaxed) + relaxed - relaxed.detach()
        noise = torch.randn(self.mean.shape).to(self.mean)
        return masks * (self.mean + noise * (self.log_variance / 2).exp())

    def expected(self) -> Float[Tensor, "v l"]:
        """Take the mean of mask times embedding."""
        return torch.sigmoid(self.logits) * self.mean

    def divergence(self) -> Float[Tensor, ""]:
        """Sum the Kullback-Leibler divergences from the prior over all entries and coordinates."""
        on = torch.sigmoid(self.logits)
        log_on, log_off = (torch.nn.functional.logsigmoid(each) for each in (self.logits, -self.logits))
        prior = torch.tensor(self.settings.prior).to(on)
        of_masks = on * (log_on - prior.log()) + (1 - on) * (log_off - (-prior).log1p())
        return (of_masks + on * gaussian_divergence(self.mean, self.log_variance)).sum()


@dataclass(frozen=True)
class Adversary:
    """How two networks that predict perturbations and covariates from the basal state are opposed."""

    # Weight for the encoder of their cross entropy with what is usual in a batch: it is least where they cannot
    # tell cells apart. Rewarding their errors, as the source does, rewards wrong guesses above none.
    weight: float = 1.0
    penalty: float = 0.1  # weight of the squared norm of their gradients by the state, which keeps them smooth
    steps: int = 3  # steps of theirs before each step of the encoder
    hidden: tuple[int, ...] = (64,)  # width of each hidden layer
    rate: float = 3e-3  # their step size

    def __post_init__(self) -> None:
        """Refuse weights that oppose nothing."""
        if not (min(self.weight, self.rate) > 0 and self.penalty >= 0 and min(self.steps, *self.hidden, 1) > 0):
            raise DataError(
                f"weight, rate, steps and widths of {self!r} must be positive, its penalty not negative"
            )

    def start(
        self, latent: int, entries: int, contexts: int, *, generator: torch.Generator, device: str = "cpu"
    ) -> "Opponents":
        """Draw starting weights."""
        of_entries, of_contexts = (
            Layers.random((latent, *self.hidden, out), generator=generator).to(device=device, dtype=torch.float32)
            for out in (entries, contexts)
        )
        parameters = [each.requires_grad_() for each in (*of_entries.parameters, *of_contexts.parameters)]
        optimiser = torch.optim.Adam(parameters, lr=self.rate, betas=(0.5, 0.9))
        return Opponents(self, of_entries, of_contexts, optimiser)


@dataclass(frozen=True)
class Opponents:
    """Adversaries in training, which they do on their own."""

    settings: Adversary
    of_entries: Layers  # from a state to the logit of each intervention
    of_contexts: Layers  # from a state to the logit of each covariate
    optimiser: torch.optim.Adam

    def loss(
        self, state: Float[Tensor, "b l"], given: Bool[Tensor, "b v"], context: Int[Tensor, "b"]
    ) -> Float[Tensor, ""]:
        """Let adversaries learn from some states, and take how far they then are from knowing nothing."""
        marks = given.to(state.dtype)
        names = torch.nn.functional.one_hot(context, len(self.of_contexts.biases[-1])).to(state.dtype)
        fixed = state.detach().requires_grad_()
        for _ in range(self.settings.steps):
            logits = self.of_entries(fixed), self.of_contexts(fixed)
            error = _error(*logits, marks, names)
            for each in logits if self.settings.penalty > 0 else ():
                (slope,) = torch.autograd.grad(each.sum(), fixed, create_graph=True)
                error = error + self.settings.penalty * slope.square().sum(1).mean()
            self.optimiser.zero_grad()
            error.backward()
            self.optimiser.step()
        usual = [each.mean(0).expand(each.shape) for each in (marks, names)]
        return self.settings.weight * _error(self.of_entries(state), self.of_contexts(state), *usual)


def _error(
    entries: Float[Tensor, "b v"],
    contexts: Float[Tensor, "b c"],
    marks: Float[Tensor, "b v"],
    names: Float[Tensor, "b c"],
) -> Float[Tensor, ""]:
    """Take the cross entropy of logits, of each entry and of one context, with wanted probabilities."""
    functional = torch.nn.functional
    of_entries = functional.binary_cross_entropy_with_logits(entries, marks)
    return of_entries + functional.cross_entropy(contexts, names)


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
