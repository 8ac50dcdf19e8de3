"""Fold numbers for names: independent of the order in which the names come."""

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor


def fold_numbers(names: Sequence[str], *, folds: int, seed: int) -> Int[Tensor, "n"]:
    """Deal distinct names to folds of nearly equal size.

    Args:
        names: Unique names, for example the labels of perturbations.
        folds: How many folds.
        seed: Fixes the deal; the order of the names does not matter.

    Returns:
        The fold of each name, from 0 to ``folds - 1``.
    """
    dealt = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)) % folds
    by_name = torch.tensor(sorted(range(len(names)), key=names.__getitem__), dtype=torch.int64)
    numbers = torch.empty(len(names), dtype=torch.int64)
    numbers[by_name] = dealt
    return numbers
