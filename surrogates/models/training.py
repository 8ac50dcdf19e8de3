"""Multilayer perceptrons as values, and their training: Adam over minibatches, stopped on a held-out loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.errors import DataError

Network = TypeVar("Network")


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    epochs: int = 200  # at most this many passes over the rows
    batch: int = 64  # rows per step
    rate: float = 1e-3  # step size of Adam
    decay: float = 1e-4  # weight decay, decoupled [Loshchilov 2019]
    annealing: float = 1.0  # factor on the step size after each epoch
    patience: int = 20  # stop after so many epochs without a better held-out loss

    def __post_init__(self) -> None:
        """Refuse a schedule that trains nothing."""
        if min(self.epochs, self.batch, self.patience) < 1 or not self.rate > 0:
            raise DataError(f"{self!r} trains nothing; take positive epochs, batch, patience and rate")


@dataclass(frozen=True)
class Training:
    """How a training went."""

    epochs: int  # number of the epoch whose parameters were kept, from 1
    loss: float  # mean training loss of the last epoch
    held_out: float  # the best held-out loss, ``nan`` without held-out rows


def train(
    parameters: Sequence[Tensor],
    loss: Callable[[Int[Tensor, "m"]], Tensor],
    *,
    rows: int,
    schedule: Schedule,
    seed: int,
    held_out: Callable[[], Tensor] | None = None,
) -> Training:
    """Minimise a loss in place, and leave the parameters of the epoch with the best held-out loss.

    Everything random, dropout included, follows from the seed, and the global generator is left as it was. An
    interruption is passed on: whoever catches it finds the parameters of the last step.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for each in parameters:
            each.requires_grad = True
        try:
            return _epochs(parameters, loss, rows, schedule, held_out)
        finally:
            for each in parameters:
                each.requires_grad = False


def _epochs(
    parameters: Sequence[Tensor],
    loss: Callable[[Int[Tensor, "m"]], Tensor],
    rows: int,
    schedule: Schedule,
    held_out: Callable[[], Tensor] | None,
) -> Training:
    optimiser = torch.optim.AdamW(parameters, lr=schedule.rate, weight_decay=schedule.decay)
    annealing = torch.optim.lr_scheduler.ExponentialLR(optimiser, schedule.annealing)
    best, best_epoch, value = float("inf"), 0, float("nan")
    kept: list[Tensor] = []
    for epoch in range(1, schedule.epochs + 1):
        value = _one_epoch(optimiser, loss, rows, schedule.batch)
        annealing.step()
        if held_out is None:
            continue
        with torch.no_grad():
            now = float(held_out())
        if now < best:
            best, best_epoch, kept = now, epoch, [each.detach().clone() for each in parameters]
        elif epoch - best_epoch >= schedule.patience:
            break
    if held_out is None:
        return Training(schedule.epochs, value, float("nan"))
    if not kept:
        raise DataError("the held-out loss was never finite; lower the step size or scale the readouts")
    with torch.no_grad():
        for each, copy in zip(parameters, kept, strict=True):
            each.copy_(copy)
    return Training(best_epoch, value, best)


def _one_epoch(
    optimiser: torch.optim.Optimizer, loss: Callable[[Int[Tensor, "m"]], Tensor], rows: int, batch: int
) -> float:
    total = 0.0
    for part in torch.randperm(rows).split(batch):
        optimiser.zero_grad()
        value = loss(part)
        if not bool(torch.isfinite(value)):
            raise DataError(
                f"the training loss became {float(value.detach())}; lower the step size or scale the readouts"
            )
        value.backward()
        optimiser.step()
        total += float(value.detach()) * len(part)
    return total / rows


@dataclass(frozen=True)
class Layers:
    """Linear layers with rectifiers between them."""

    weights: tuple[Float[Tensor, "_ _"], ...]  # one matrix per layer, outputs by inputs
    biases: tuple[Float[Tensor, "_"], ...]  # one vector per layer

    @classmethod
    def random(
        cls, sizes: Sequence[int], *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> "Layers":
        """Draw starting weights, uniform with the variance that keeps rectified signals alike [He 2015]."""
        steps = list(pairwise(sizes))
        weights = tuple(
            (2 * torch.rand(out, into, generator=generator, dtype=dtype) - 1) * (6 / max(into, 1)) ** 0.5
            for into, out in steps
        )
        return cls(weights, tuple(torch.zeros(out, dtype=dtype) for _, out in steps))

    def __call__(self, rows: Float[Tensor, "b _"], *, dropout: float = 0.0) -> Float[Tensor, "b _"]:
        """Apply the layers."""
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = torch.nn.functional.linear(rows, weight, bias)
            if number < last:
                rows = torch.nn.functional.dropout(rows.relu(), dropout)
        return rows

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """All weights, then all biases."""
        return (*self.weights, *self.biases)

    def to(self, *, device: str, dtype: torch.dtype) -> "Layers":
        """Move and convert the layers."""
        return Layers(
            tuple(weight.detach().to(device=device, dtype=dtype) for weight in self.weights),
            tuple(bias.detach().to(device=device, dtype=dtype) for bias in self.biases),
        )


def placed(network: Network, *, device: str, dtype: torch.dtype) -> Network:
    """Move the tensors of nested dataclasses and tuples, and convert those of real numbers."""

    def of(value: Any) -> Any:  # noqa: ANN401 - any field
        if isinstance(value, Tensor):
            return value.detach().to(device=device, dtype=dtype if value.is_floating_point() else value.dtype)
        if isinstance(value, tuple):
            return tuple(map(of, value))
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **{each.name: of(getattr(value, each.name)) for each in fields(value)})
        return value

    found: Network = of(network)
    return found


def gaussian_divergence(mean: Float[Tensor, "*b"], log_variance: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Take the Kullback-Leibler divergence of a normal distribution from N(0, 1)."""
    return (mean.square() + log_variance.exp() - 1 - log_variance) / 2
