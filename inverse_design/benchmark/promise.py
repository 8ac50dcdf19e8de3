"""What a model promised of perturbations that it was to identify, beside what it kept.

A fit promises by the perturbations that it holds out inside its training data; what it keeps is seen on those that
were held out of them. Each perturbation stands in the training data of all outer folds but one, so that the same
ones are compared with themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.selection import Promise

AGREE = 2.5  # standard errors between promise and performance that chance is taken to explain


@dataclass(frozen=True)
class Kept:
    """Mean log posterior probability of the truth, inside the training data and outside them.

    Attributes:
        promised: As the inner folds of the training data found it, in nats.
        kept: As the outer folds found it, on perturbations that nothing had seen, in nats.
        error: Dyadic standard error of ``kept - promised``, in nats.
        n: Number of held-out perturbations.
    """

    promised: float
    kept: float
    error: float
    n: int

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
    """Average what fits to outer folds promised of doubles that they had in their training data.

    Args:
        promises: Of the fits.
        parts: Vocabulary ids of the doubles.

    Returns:
        Log probability of each as a truth, in nats; ``nan`` for what no fit had been asked.
    """
    asked = torch.cat([parts.new_empty(0, 2), *(promise.parts for promise in promises)])
    found = torch.cat([torch.empty(0).double(), *(promise.log_probability for promise in promises)])
    means = [found[(asked == pair).all(1)].mean() for pair in parts]
    return torch.stack(means) if means else found[:0]


def compare(promise: Float[Tensor, "n"], kept: Float[Tensor, "n"], nodes: Int[Tensor, "n k"]) -> Kept:
    """Set promises against what became of them, in pairs.

    Args:
        promise: Log probability of each truth as :func:`promised`; ``nan`` where nothing was.
        kept: Log probability of the same truth under a fit that had not seen it.
        nodes: Genes of each perturbation; see
            :func:`surrogates.evaluation.node_intervals.target_nodes`.

    Returns:
        Means over the perturbations that have both numbers, ``nan`` if none has.
    """
    both = ~(promise.isnan() | kept.isnan())
    promise, kept = promise[both], kept[both]
    error = dyadic_standard_error(kept - promise, nodes[both])
    return Kept(float(promise.mean()), float(kept.mean()), error, int(both.sum()))
