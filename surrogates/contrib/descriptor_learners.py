"""Learners on descriptors: random forest and gradient boosting, grown by scikit-learn, and the bilinear model.

Of trees, the inputs are the leading coordinates of each descriptor's kernel, the outputs the scores of departures
from the prior on effect components. What they predict for each entry of the vocabulary is kept, and not the trees.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from torch import Tensor

from surrogates.data.descriptors import Descriptors, known_to_any
from surrogates.data.novelty import own_columns
from surrogates.data.screen import Screen
from surrogates.models.directions import effect_components
from surrogates.models.entries import FittedDescribed, Learnt, fit_described, own_readout_scores
from surrogates.models.kernel import chosen_descriptors

# From the inputs of some entries, and scores with one column each, to the scores of all entries.
_Grow = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class RandomForest:
    """Predicts unmeasured targets by a random forest on their descriptors [Breiman 2001; Csendes 2025].

    Measured entries, combinations and entries without a descriptor are as in
    :class:`surrogates.models.kernel.KernelRidge`.

    Attributes:
        descriptors: What is known of the targets; by default what the shipped tables say of genes.
        rank: Coordinates of each descriptor that are inputs.
        components: Effect components that are predicted.
        trees: Their number.
        leaf: Fewest entries in a leaf.
        share: Share of the inputs that a split may choose from.
    """

    descriptors: tuple[Descriptors, ...] | None = None
    rank: int = 16
    components: int = 20
    trees: int = 100
    leaf: int = 2
    share: float = 0.3

    def fit(self, screen: Screen, *, seed: int) -> FittedDescribed:
        """Learn from the measured entries of a screen."""

        def grow(inputs: np.ndarray, scores: np.ndarray, every: np.ndarray) -> np.ndarray:
            forest = RandomForestRegressor(
                n_estimators=self.trees, min_samples_leaf=self.leaf, max_features=self.share, random_state=seed
            )
            # One output must come as a vector.
            forest.fit(inputs, scores if scores.shape[1] > 1 else scores[:, 0])
            return np.reshape(forest.predict(every), (len(every), scores.shape[1]))

        return _fit(self, screen, grow, seed=seed)


@dataclass(frozen=True)
class GradientBoosting:
    """Predicts unmeasured targets by boosted trees on their descriptors, one sequence per effect component.

    Measured entries, combinations and entries without a descriptor are as in
    :class:`surrogates.models.kernel.KernelRidge`; the method is that of Friedman (2001), with squared loss.

    Attributes:
        descriptors: What is known of the targets; by default what the shipped tables say of genes.
        rank: Coordinates of each descriptor that are inputs.
        components: Effect components that are predicted.
        trees: Their number for each component.
        depth: Most questions between root and leaf.
        rate: Factor on each tree.
        share: Share of the inputs that a split may choose from, and of the entries that a tree sees.
    """

    descriptors: tuple[Descriptors, ...] | None = None
    rank: int = 16
    components: int = 10
    trees: int = 60
    depth: int = 2
    rate: float = 0.05
    share: float = 0.5

    def fit(self, screen: Screen, *, seed: int) -> FittedDescribed:
        """Learn from the measured entries of a screen."""

        def grow(inputs: np.ndarray, scores: np.ndarray, every: np.ndarray) -> np.ndarray:
            boosted = [
                GradientBoostingRegressor(
                    n_estimators=self.trees,
                    max_depth=self.depth,
                    learning_rate=self.rate,
                    subsample=self.share,
                    max_features=self.share,
                    random_state=seed,
                ).fit(inputs, column)
                for column in scores.T
            ]
            return np.stack([each.predict(every) for each in boosted], axis=1)

        return _fit(self, screen, grow, seed=seed)


@dataclass(frozen=True)
class _Ensemble:
    """Grows trees for the entries of a vocabulary."""

    inputs: Float[Tensor, "v f"]  # of each entry
    described: Bool[Tensor, "v"]  # whether it has any
    components: int  # effect components that are predicted
    grow: _Grow

    def __call__(self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]) -> Learnt:
        known = self.described[train]
        # Two entries at least: of one alone there is nothing to split, and none is left outside a subsample.
        enough = int(known.sum()) > 1
        basis = effect_components(departures[known], self.components) if enough else departures[:0]
        if not len(basis):
            return Learnt.nothing(len(self.inputs), departures)
        inputs, scores = self.inputs[train[known]].numpy(), (departures[known] @ basis.T).numpy()
        predicted = torch.from_numpy(self.grow(inputs, scores, self.inputs.numpy())) @ basis
        return Learnt(predicted * self.described[:, None], departures.new_ones(len(predicted)))


def _fit(
    configuration: RandomForest | GradientBoosting, screen: Screen, grow: _Grow, *, seed: int
) -> FittedDescribed:
    chosen = chosen_descriptors(configuration.descriptors, screen.vocabulary)
    blocks = [each.coordinates(screen.vocabulary, rank=configuration.rank)[0] for each in chosen]
    inputs = torch.cat([screen.effects.new_zeros(len(screen.vocabulary), 0), *blocks], dim=1)
    described = known_to_any(chosen, screen.vocabulary)
    ensemble = _Ensemble(inputs, described, configuration.components, grow)
    return fit_described(screen, ensemble, described, seed=seed)


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
        """Learn from the measured entries of a screen."""
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
