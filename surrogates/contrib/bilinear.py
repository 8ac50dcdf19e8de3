"""The bilinear model: effects are products of embeddings of readouts and of targets [Ahlmann-Eltze 2025]."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.descriptors import Descriptors, known_to_any
from surrogates.data.novelty import own_columns
from surrogates.data.screen import Screen
from surrogates.models.entries import FittedDescribed, Learnt, fit_described, own_readout_scores


@dataclass(frozen=True)
class Bilinear:
    """Predicts ``Y = G W P^T + prior``, with ``W = (G^T G + l I)^-1 G^T Y P (P^T P + l I)^-1``.

    ``Y`` are the departures of training effects from the prior (readouts by targets), ``G`` the scores of the
    readouts on their leading principal components. ``P`` holds for each target the row of ``G`` of the readout of
    its own name, or, with descriptors, the target's kernel coordinates. Measured entries, combinations, and
    entries without an embedding are as in :class:`surrogates.models.kernel.KernelRidge`.

    Attributes:
        descriptors: What is known of the targets; none for the published form.
        rank: Number of principal components, and of coordinates of each descriptor.
        penalty: The ridge penalty ``l``.
    """

    descriptors: tuple[Descriptors, ...] = ()
    rank: int = 10
    penalty: float = 0.1

    def fit(self, screen: Screen, *, seed: int) -> FittedDescribed:
        """Learn from the measured entries of a screen.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the folds in which the trust in departures is learned.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has several contexts.
        """
        own = own_columns(screen.vocabulary, screen.readouts)
        given = [each.coordinates(screen.vocabulary, rank=self.rank)[0] for each in self.descriptors]
        described = known_to_any(self.descriptors, screen.vocabulary) if given else own >= 0
        embedding = torch.cat(given, dim=1) if given else None
        return fit_described(screen, _Product(own, embedding, self.rank, self.penalty), described, seed=seed)


@dataclass(frozen=True)
class _Product:
    """The product for the entries of a vocabulary."""

    own: Int[Tensor, "v"]  # number of the readout of each entry's own name, ``-1`` if there is none
    embedding: Float[Tensor, "v f"] | None  # of each entry; ``None`` for the row of its own readout
    rank: int  # number of principal components
    penalty: float  # the ridge penalty

    def __call__(self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]) -> Learnt:
        readouts, targets = own_readout_scores(departures, self.own, rank=self.rank)
        if self.embedding is not None:
            targets = self.embedding
        left = _ridge_inverse(readouts, self.penalty) @ (readouts.T @ departures.T)
        weights = left @ targets[train] @ _ridge_inverse(targets[train], self.penalty)
        return Learnt(targets @ weights.T @ readouts.T, departures.new_ones(len(self.own)))


def _ridge_inverse(rows: Float[Tensor, "m r"], penalty: float) -> Float[Tensor, "r r"]:
    eye = torch.eye(rows.shape[1], dtype=rows.dtype)
    inverse: Tensor = torch.linalg.inv(rows.T @ rows + penalty * eye)
    return inverse
