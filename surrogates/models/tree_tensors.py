"""Sums of regression trees as tensors: what scikit-learn has grown, without scikit-learn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from torch import Tensor

LEAF = -1


@dataclass(frozen=True)
class Trees:
    """A sum of binary regression trees, each padded to the size of the largest.

    Attributes:
        feature: Which input each node asks for, ``-1`` at a leaf.
        threshold: Inputs not above it go left.
        left: Number of the node to the left.
        right: Number of the node to the right.
        value: What each leaf adds to the outputs.
        offset: What the outputs start from.
    """

    feature: Int[Tensor, "t n"]
    threshold: Float[Tensor, "t n"]
    left: Int[Tensor, "t n"]
    right: Int[Tensor, "t n"]
    value: Float[Tensor, "t n c"]
    offset: Float[Tensor, "c"]

    def predict(self, inputs: Float[Tensor, "b f"]) -> Float[Tensor, "b c"]:
        """Walk every row down every tree, and add the leaves up.

        Args:
            inputs: One row per prediction; rounded to single precision, in which the trees were grown.

        Returns:
            The outputs.
        """
        rounded = inputs.to(torch.float32).to(torch.float64)
        trees = torch.arange(len(self.feature))
        node = torch.zeros(len(inputs), len(trees), dtype=torch.int64)
        while bool(((asked := self.feature[trees, node]) != LEAF).any()):
            below = rounded.gather(1, asked.clamp(min=0)) <= self.threshold[trees, node]
            onward = torch.where(below, self.left[trees, node], self.right[trees, node])
            node = torch.where(asked == LEAF, node, onward)
        return self.offset + self.value[trees, node].sum(1)


def export_forest(forest: RandomForestRegressor) -> Trees:
    """Take a fitted random forest as tensors.

    Args:
        forest: A forest of one or more outputs.

    Returns:
        Its trees, each with its share of the mean.
    """
    grown = [each.tree_ for each in forest.estimators_]
    values = [tree.value[:, :, 0] / len(grown) for tree in grown]
    return _padded(grown, values, offset=np.zeros(values[0].shape[1]))


def export_boosting(boosted: Sequence[GradientBoostingRegressor]) -> Trees:
    """Take fitted boosted trees as tensors.

    Args:
        boosted: One fitted sequence per output.

    Returns:
        All trees, each scaled by the learning rate and adding to its own output.
    """
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
