"""What may make two pairs alike: terms of a kernel over pairs, each of two matrices over genes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.descriptors import Descriptors
from surrogates.data.vocabulary import Vocabulary

Likeness = Literal["same", "any", "near", "described"]
_DESCRIBED_RANK = 64


@dataclass(frozen=True)
class PairTerm:
    """A kernel over unordered pairs, the symmetric product of two kernels over genes.

    ``k((i, j), (k, l)) = (P_ik Q_jl + P_il Q_jk + P_jk Q_il + P_jl Q_ik) / 2``

    Attributes:
        first: Kernel ``P`` over genes.
        second: Kernel ``Q`` over genes.
    """

    first: Float[Tensor, "v v"]
    second: Float[Tensor, "v v"]

    def between(self, pairs: Int[Tensor, "b 2"], others: Int[Tensor, "m 2"]) -> Float[Tensor, "b m"]:
        """Compare pairs with others.

        Args:
            pairs: Genes of each pair.
            others: Genes of each other pair.

        Returns:
            The kernel.
        """
        i, j = pairs.T
        k, l = others.T  # noqa: E741 - the letters of the equation
        first, second = self.first, self.second
        one = first[i][:, k] * second[j][:, l] + first[i][:, l] * second[j][:, k]
        return (one + first[j][:, k] * second[i][:, l] + first[j][:, l] * second[i][:, k]) / 2

    def alone(self, pairs: Int[Tensor, "b 2"]) -> Float[Tensor, "b"]:
        """Compare each pair with itself.

        Args:
            pairs: Genes of each pair.

        Returns:
            The diagonal of the kernel.
        """
        i, j = pairs.T
        first, second = self.first, self.second
        straight = first[i, i] * second[j, j] + first[j, j] * second[i, i]
        return (straight + 2 * first[i, j] * second[i, j]) / 2

    def spread(self, weights: Float[Tensor, "v v"]) -> Float[Tensor, "v v"]:
        """Sum the kernel over weighted pairs, for all pairs at once: two matrix products.

        Args:
            weights: Of each pair, symmetric.

        Returns:
            ``sum_kl k((i, j), (k, l)) w_kl`` over unordered pairs, for all ``i`` and ``j``.
        """
        product = self.first @ weights @ self.second
        return (product + product.T) / 2


def pair_terms(
    names: Sequence[tuple[Likeness, Likeness]],
    alone: Float[Tensor, "v"],
    *,
    length: float,
    vocabulary: Vocabulary,
    descriptors: Sequence[Descriptors],
) -> tuple[PairTerm, ...]:
    """Make the terms of a kernel.

    Args:
        names: Two likenesses of genes for each term: ``same`` gene, ``any`` gene, ``near`` (alone they do about
            the same), or ``described`` alike.
        alone: What each gene does alone, in standard units.
        length: How far apart genes may be to be near, in those units.
        vocabulary: What the genes are called.
        descriptors: What is known of them; the likeness ``described`` is the mean of their kernels.

    Returns:
        One term for each pair of names.
    """
    wanted = {name for pair in names for name in pair}
    size = len(alone)
    apart = (alone[:, None] - alone) / length
    matrices = {
        "same": torch.eye(size, dtype=torch.float64),
        "any": torch.ones(size, size, dtype=torch.float64),
        "near": (-apart.square() / 2).exp(),
    }
    if "described" in wanted:
        matrices["described"] = _described(vocabulary, descriptors)
    return tuple(PairTerm(matrices[one], matrices[other]) for one, other in names)


def _described(vocabulary: Vocabulary, descriptors: Sequence[Descriptors]) -> Float[Tensor, "v v"]:
    likeness = torch.zeros(len(vocabulary), len(vocabulary), dtype=torch.float64)
    for each in descriptors:
        coordinates, _ = each.coordinates(vocabulary, rank=_DESCRIBED_RANK)
        likeness += coordinates @ coordinates.T / len(descriptors)
    return likeness + torch.diag(1 - likeness.diagonal())  # a gene is like itself, described or not
