"""Sparse masks of sampled embeddings: which latent coordinates a perturbation moves, and how far."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import DataError
from surrogates.models.training import gaussian_divergence


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
