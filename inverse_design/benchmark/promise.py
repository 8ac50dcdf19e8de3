"""What a model promised of perturbations that it was to identify, beside what it kept."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.evaluation.node_intervals import dyadic_standard_error

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


def compare(promised: Float[Tensor, "n"], kept: Float[Tensor, "n"], nodes: Int[Tensor, "n k"]) -> Kept:
    """Set promises against what became of them, in pairs.

    Args:
        promised: Log probability of each truth as promised: the mean over the fits that held it out inside their
            training data, or what the fit that judged it promised on average; ``nan`` where nothing was promised.
        kept: Log probability of the same truth under a fit that had not seen it.
        nodes: Genes of each perturbation; see
            :func:`surrogates.evaluation.node_intervals.target_nodes`.

    Returns:
        Means over the perturbations that have both numbers, ``nan`` if none has.
    """
    both = ~(promised.isnan() | kept.isnan())
    promised, kept = promised[both], kept[both]
    error = dyadic_standard_error(kept - promised, nodes[both])
    return Kept(float(promised.mean()), float(kept.mean()), error, int(both.sum()))
