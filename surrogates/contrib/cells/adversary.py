"""Adversaries that read a state, and against which an encoder learns to leave out of it what they find."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.errors import DataError
from surrogates.models.training import Layers


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
