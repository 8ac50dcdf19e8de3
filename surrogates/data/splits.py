"""Which conditions are held out together: splits are by perturbation, never by cell."""

from collections.abc import Sequence

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from surrogates.data.folds import fold_numbers
from surrogates.data.screen import Screen
from surrogates.errors import DataError

NOT_HELD_OUT = -1


def folds_of_doubles(screen: Screen, *, seed: int) -> Int[Tensor, "n"]:
    """Number the fold in which each double is held out.

    Args:
        screen: Any screen; an annotation ``double_fold`` of whole numbers is taken as it is.
        seed: Fixes the five folds that are dealt otherwise; the order of the rows does not matter.

    Returns:
        The fold of each row, ``-1`` for whatever is not a double (or never held out by the annotation). A double
        measured in several contexts is in one fold.

    Raises:
        DataError: If ``double_fold`` does not hold whole numbers.
    """
    doubles = screen.batch.order == 2
    if "double_fold" not in screen.annotations:
        names = [label if held else None for label, held in zip(screen.labels, doubles.tolist(), strict=True)]
        return _deal(names, folds=5, seed=seed)
    given = screen.annotations["double_fold"]
    if not pd.api.types.is_integer_dtype(given):
        raise DataError(f"annotation 'double_fold' holds {given.dtype}; make it whole numbers, -1 for no fold")
    return torch.where(doubles, torch.tensor(given.to_numpy(dtype="int64")), NOT_HELD_OUT)


def folds_of_singles(screen: Screen, *, folds: int = 5, seed: int) -> Int[Tensor, "n"]:
    """Number the fold in which each single perturbation is held out.

    Args:
        screen: Any screen.
        folds: How many folds.
        seed: Fixes the deal; the order of the rows does not matter.

    Returns:
        The fold of each row, ``-1`` for whatever is not a single. All doses of a target, in all contexts, are in
        one fold: another dose would give the held-out one away.
    """
    targets = screen.vocabulary.targets
    rows = zip(screen.batch.genes[:, 0].tolist(), (screen.batch.order == 1).tolist(), strict=True)
    return _deal([targets[gene] if single else None for gene, single in rows], folds=folds, seed=seed)


def _deal(names: Sequence[str | None], *, folds: int, seed: int) -> Int[Tensor, "n"]:
    """Deal distinct names to folds; ``None`` stays out."""
    distinct = sorted({name for name in names if name is not None})
    fold = dict(zip(distinct, fold_numbers(distinct, folds=folds, seed=seed).tolist(), strict=True))
    return torch.tensor([NOT_HELD_OUT if name is None else fold[name] for name in names], dtype=torch.int64)
