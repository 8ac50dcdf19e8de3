"""Regression trees on descriptors: random forest and gradient boosting.

scikit-learn grows the trees; what is kept are tensors, see :mod:`surrogates.models.tree_tensors`. The inputs are
the leading coordinates of each descriptor's kernel, the outputs the scores of departures from the prior on effect
components.

Sums of regression trees as tensors: what scikit-learn has grown, without scikit-learn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from torch import Tensor

from surrogates.data.descriptors import Descriptors, known_to_any
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import PairFactors, PairScale
from surrogates.models.entries import FittedDescribed, Learnt, MeasuredEntries
from surrogates.models.features import effect_components
from surrogates.models.kernel import chosen_descriptors
from surrogates.uncertainty.posterior import GaussianPosterior

LEAF = -1


@dataclass(frozen=True)
class Trees:
    """A sum of binary regression trees, each padded to the size of the largest."""

    feature: Int[Tensor, "t n"]  # which input each node asks for, ``-1`` at a leaf
    threshold: Float[Tensor, "t n"]  # inputs not above it go left
    left: Int[Tensor, "t n"]  # number of the node to the left
    right: Int[Tensor, "t n"]  # number of the node to the right
    value: Float[Tensor, "t n c"]  # what each leaf adds to the outputs
    offset: Float[Tensor, "c"]  # what the outputs start from

    def predict(self, inputs: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """Walk every row down every tree, and add the leaves up."""
        rounded = inputs.to(torch.float32).to(torch.float64)
        trees = torch.arange(len(self.feature))
        node = torch.zeros(len(inputs), len(trees), dtype=torch.int64)
        while bool(((asked := self.feature[trees, node]) != LEAF).any()):
            below = rounded.gather(1, asked.clamp(min=0)) <= self.threshold[trees, node]
            onward = torch.where(below, self.left[trees, node], self.right[trees, node])
            node = torch.where(asked == LEAF, node, onward)
        return self.offset + self.value[trees, node].sum(1)


def export_forest(forest: RandomForestRegressor) -> Trees:
    """Take a fitted random forest as tensors."""
    grown = [each.tree_ for each in forest.estimators_]
    values = [tree.value[:, :, 0] / len(grown) for tree in grown]
    return _padded(grown, values, offset=np.zeros(values[0].shape[1]))


def export_boosting(boosted: Sequence[GradientBoostingRegressor]) -> Trees:
    """Take fitted boosted trees as tensors."""
    grown, values = [], []
    for output, sequence in enumerate(boosted):
        for (each,) in sequence.estimators_:
            value = np.zeros((each.tree_.node_count, len(boosted)))
            value[:, output] = sequence.learning_rate * each.tree_.value[:, 0, 0]
            grown.append(each.tree_)
            values.append(value)
    offset = np.array([float(np.ravel(sequence.init_.constant_)[0]) for sequence in boosted])
    return _padded(grown, values, offset=offset)


# The trees of scikit-learn have no types.
def _padded(grown: Sequence[Any], values: Sequence[np.ndarray], *, offset: np.ndarray) -> Trees:
    size = max(tree.node_count for tree in grown)

    def stacked(arrays: Sequence[np.ndarray]) -> Tensor:
        return torch.stack([
            torch.tensor(np.pad(array, [(0, size - len(array))] + [(0, 0)] * (array.ndim - 1)))
            for array in arrays
        ])  # fmt: skip

    leaf = [tree.children_left == LEAF for tree in grown]
    return Trees(
        feature=stacked([np.where(at, LEAF, tree.feature) for at, tree in zip(leaf, grown, strict=True)]),
        threshold=stacked([tree.threshold for tree in grown]),
        left=stacked([tree.children_left for tree in grown]),
        right=stacked([tree.children_right for tree in grown]),
        value=stacked([np.where(at[:, None], value, 0.0) for at, value in zip(leaf, values, strict=True)]),
        offset=torch.tensor(offset),
    )


def no_trees() -> Trees:
    """Sum nothing, for inputs and outputs of any kind that are none."""
    number, value = torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, 1, dtype=torch.float64)
    return Trees(number, value, number, number, value[:, :, None][:, :, :0], torch.zeros(0, dtype=torch.float64))


@dataclass(frozen=True)
class FittedTrees:
    """Trees on the descriptors of entries, on top of the prior."""

    prior: FittedDescribed  # the model without departures: measured effects, and the prior elsewhere
    trees: Trees  # from inputs to scores
    inputs: Float[Tensor, "v f"]  # of each entry
    basis: Float[Tensor, "c g"]  # effect of each score

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.prior.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.prior.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.prior.measured_alone

    @property
    def trust(self) -> float:
        """Factor on the departures of unmeasured entries from the prior."""
        return self.prior.trust

    @cached_property
    def described(self) -> FittedDescribed:
        """The model with the departures of unmeasured, described entries, scaled by the trust in them."""
        departures = self.trees.predict(self.inputs) @ self.basis
        chosen = (self.prior.described & ~self.prior.measured)[:, None]
        rows = self.prior.additive.singles + self.prior.trust * departures * chosen
        return replace(self.prior, additive=replace(self.prior.additive, singles=rows))

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        return self.described.predict(batch)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs, without interactions."""
        return self.described.pair_factors()

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        return self.described.pair_scale()


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

    def fit(self, screen: Screen, *, seed: int) -> FittedTrees:
        """Learn from the measured entries of a screen.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the trees, and the folds in which the trust in them is learned.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has several contexts.
        """

        def grow(inputs: np.ndarray, scores: np.ndarray) -> Trees:
            forest = RandomForestRegressor(
                n_estimators=self.trees, min_samples_leaf=self.leaf, max_features=self.share, random_state=seed
            )
            # One output must come as a vector.
            return export_forest(forest.fit(inputs, scores if scores.shape[1] > 1 else scores[:, 0]))

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

    def fit(self, screen: Screen, *, seed: int) -> FittedTrees:
        """Learn from the measured entries of a screen.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the trees, and the folds in which the trust in them is learned.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has several contexts.
        """

        def grow(inputs: np.ndarray, scores: np.ndarray) -> Trees:
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
            return export_boosting(boosted)

        return _fit(self, screen, grow, seed=seed)


@dataclass(frozen=True)
class _Ensemble:
    """Grows trees for the entries of a vocabulary."""

    inputs: Float[Tensor, "v f"]  # of each entry
    described: Bool[Tensor, "v"]  # whether it has any
    components: int  # effect components that are predicted
    grow: Callable[[np.ndarray, np.ndarray], Trees]  # from inputs and scores to trees

    def __call__(self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]) -> Learnt:
        trees, basis = self.grown(train, departures)
        predicted = trees.predict(self.inputs) @ basis * self.described[:, None]
        return Learnt(predicted, departures.new_ones(len(predicted)))

    def grown(
        self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]
    ) -> tuple[Trees, Float[Tensor, "c g"]]:
        told = self.described[train]
        # Two entries at least: of one alone there is nothing to split, and none is left outside a subsample.
        enough = int(told.sum()) > 1
        basis = effect_components(departures[told], self.components) if enough else departures[:0]
        if not len(basis):
            return no_trees(), basis
        return self.grow(self.inputs[train[told]].numpy(), (departures[told] @ basis.T).numpy()), basis


def _fit(
    configuration: RandomForest | GradientBoosting,
    screen: Screen,
    grow: Callable[[np.ndarray, np.ndarray], Trees],
    *,
    seed: int,
) -> FittedTrees:
    chosen = chosen_descriptors(configuration.descriptors, screen.vocabulary)
    blocks = [each.coordinates(screen.vocabulary, rank=configuration.rank)[0] for each in chosen]
    inputs = torch.cat([screen.effects.new_zeros(len(screen.vocabulary), 0), *blocks], dim=1)
    described = known_to_any(chosen, screen.vocabulary)
    entries = MeasuredEntries.of(screen)
    ensemble = _Ensemble(inputs, described, configuration.components, grow)
    trial = entries.trial(ensemble, described, seed=seed)
    _, departures = entries.departures(entries.train)
    prior = entries.complete(Learnt.nothing(len(inputs), departures), trial, described)
    trees, basis = ensemble.grown(entries.train, departures)
    return FittedTrees(prior, trees, inputs, basis)
