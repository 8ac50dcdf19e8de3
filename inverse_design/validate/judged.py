"""What was found of held-out perturbations: numbers for each, promises and what was kept, reliability.

A fit promises by the perturbations that it holds out inside its training data; what it keeps is seen on those held
out of them. Each perturbation is in the training data of all outer folds but one, so that the same ones are
compared with themselves. Reliability is that of stated probabilities, binned, with the expected calibration error.
Everything is asked with all readouts, and without those that are targets themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.selection import Promise

Columns = Mapping[str, Float[Tensor, "n *c"]]


@dataclass(frozen=True)
class Judged:
    """Numbers of the held-out perturbations of one novelty class."""

    conditions: Int[Tensor, "n"]  # rows of the screen, each once
    columns: Columns  # numbers by name, ``nan`` where undefined

    def __len__(self) -> int:
        return len(self.conditions)

    def column(self, name: str) -> Float[Tensor, "n *c"]:
        """Take one number of each perturbation."""
        return self.columns.get(name, torch.full((len(self),), torch.nan, dtype=torch.float64))

    @classmethod
    def pooled(cls, parts: Sequence["Judged"]) -> "Judged":
        """Pool folds; a perturbation that several of them hold out counts once, with the mean of its numbers."""
        conditions, place = torch.unique(torch.cat([part.conditions for part in parts]), return_inverse=True)
        shapes = {name: values.shape[1:] for part in parts for name, values in part.columns.items()}
        columns = {}
        for name, shape in shapes.items():
            missing = torch.tensor(torch.nan, dtype=torch.float64)
            values = torch.cat([part.columns.get(name, missing.expand(len(part), *shape)) for part in parts])
            columns[name] = _averaged(values, place, len(conditions))
        return cls(conditions, columns)


def _averaged(values: Float[Tensor, "m *c"], place: Int[Tensor, "m"], count: int) -> Float[Tensor, "n *c"]:
    defined = ~values.isnan()
    total = values.new_zeros(count, *values.shape[1:]).index_add(0, place, values.nan_to_num(0.0))
    return total / values.new_zeros(count, *values.shape[1:]).index_add(0, place, defined.double())


AGREE = 2.5  # standard errors between promise and performance that chance is taken to explain


@dataclass(frozen=True)
class Kept:
    """Mean log posterior probability of the truth, inside the training data and outside them."""

    promised: float  # as the inner folds of the training data found it, in nats
    kept: float  # as the outer folds found it, on perturbations that nothing had seen, in nats
    error: float  # dyadic standard error of ``kept - promised``, in nats
    n: int  # number of held-out perturbations

    @property
    def difference(self) -> float:
        """``kept - promised`` in standard errors: negative if more was promised than kept.

        Zero if they are equal, ``nan`` without a standard error.
        """
        gap = self.kept - self.promised
        if self.error > 0:
            return gap / self.error
        return 0.0 if gap == 0 else gap * torch.inf

    @property
    def line(self) -> str:
        """Both numbers in one sentence."""
        return (
            f"mean log P(truth): promised by inner folds {self.promised:.3f}, kept in outer folds {self.kept:.3f},"
            f" difference {self.kept - self.promised:+.3f} = {self.difference:+.1f} dyadic standard errors (n ="
            f" {self.n})"
        )


def promised(promises: Sequence[Promise], parts: Int[Tensor, "n 2"]) -> Float[Tensor, "n"]:
    """Average what fits to outer folds promised of doubles that they had in their training data."""
    asked = torch.cat([parts.new_empty(0, 2), *(promise.parts for promise in promises)])
    found = torch.cat([torch.empty(0).double(), *(promise.log_probability for promise in promises)])
    means = [found[(asked == pair).all(1)].mean() for pair in parts]
    return torch.stack(means) if means else found[:0]


def compare(promise: Float[Tensor, "n"], kept: Float[Tensor, "n"], nodes: Int[Tensor, "n k"]) -> Kept:
    """Set promises against what became of them, in pairs."""
    both = ~(promise.isnan() | kept.isnan())
    promise, kept = promise[both], kept[both]
    error = dyadic_standard_error(kept - promise, nodes[both])
    return Kept(float(promise.mean()), float(kept.mean()), error, int(both.sum()))


BINS = 10


@dataclass(frozen=True)
class Bin:
    """Predictions of similar probability."""

    low: float  # lower edge
    high: float  # upper edge
    stated: float  # mean stated probability
    found: float  # share that came true
    n: int  # number of predictions


def reliability(probability: Float[Tensor, "n"], hit: Bool[Tensor, "n"]) -> tuple[Bin, ...]:
    """Bin predictions by their probability, ten bins of equal width; empty ones are left out."""
    numbers = (probability * BINS).long().clamp(max=BINS - 1)
    return tuple(
        Bin(
            low=each / BINS,
            high=(each + 1) / BINS,
            stated=float(probability[numbers == each].mean()),
            found=float(hit[numbers == each].double().mean()),
            n=int((numbers == each).sum()),
        )
        for each in numbers.unique().tolist()
    )


def calibration_errors(probability: Float[Tensor, "m n"], hit: Bool[Tensor, "m n"]) -> Float[Tensor, "m"]:
    """Average the gap between stated and found over the bins, weighted by their size (Naeini et al. 2015).

    The error is never zero by chance: see :func:`calibration_noise`.
    """
    numbers = (probability * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(len(probability), BINS, dtype=probability.dtype)
    return gaps.scatter_add(1, numbers, probability - hit.to(probability.dtype)).abs().sum(1) / hit.shape[1]


def calibration_noise(probability: Float[Tensor, "n"], *, seed: int, draws: int = 1000) -> float:
    """Find the expected calibration error that perfectly calibrated probabilities would show by chance."""
    generator = torch.Generator().manual_seed(seed)
    stated = probability.expand(draws, -1)
    came_true = torch.rand(stated.shape, generator=generator, dtype=torch.float64) < stated
    return float(calibration_errors(stated, came_true).mean())


def variants_of(screen: Screen) -> dict[str, Screen]:
    """Look at a screen with the readouts that are targets themselves removed, and with all readouts.

    Activation raises its own gene: to find that again is a look-up, so that the honest variant comes first.
    """
    own = set(screen.vocabulary.targets)
    kept = [column for column, readout in enumerate(screen.readouts) if readout not in own]
    if kept and len(kept) < len(screen.readouts):
        return {"targets_removed": screen.with_readouts(kept), "all_readouts": screen}
    return {"all_readouts": screen}
