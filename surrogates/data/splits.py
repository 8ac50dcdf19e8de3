"""Which conditions are held out together: splits are by perturbation, never by cell.

Folds are numbered by the names of the perturbations, whatever the order in which they come.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.summary import summary


def fold_numbers(names: Sequence[str], *, folds: int, seed: int) -> Int[Tensor, "n"]:
    """Deal distinct names to folds of nearly equal size."""
    dealt = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)) % folds
    by_name = torch.tensor(sorted(range(len(names)), key=names.__getitem__), dtype=torch.int64)
    numbers = torch.empty(len(names), dtype=torch.int64)
    numbers[by_name] = dealt
    return numbers


NOT_HELD_OUT = -1


def folds_of_doubles(screen: Screen, *, seed: int) -> Int[Tensor, "n"]:
    """Number the fold in which each double is held out.

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
    """Number the fold in which each single perturbation is held out."""
    targets = screen.vocabulary.targets
    rows = zip(screen.batch.genes[:, 0].tolist(), (screen.batch.order == 1).tolist(), strict=True)
    return _deal([targets[gene] if single else None for gene, single in rows], folds=folds, seed=seed)


def _deal(names: Sequence[str | None], *, folds: int, seed: int) -> Int[Tensor, "n"]:
    """Deal distinct names to folds; ``None`` stays out."""
    distinct = sorted({name for name in names if name is not None})
    fold = dict(zip(distinct, fold_numbers(distinct, folds=folds, seed=seed).tolist(), strict=True))
    return torch.tensor([NOT_HELD_OUT if name is None else fold[name] for name in names], dtype=torch.int64)


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to predict.

    Attributes:
        train: Rows of the training conditions.
        test: Rows of the held-out conditions.
    """

    train: Int[Tensor, "n"]
    test: Int[Tensor, "b"]
    __repr__ = summary


def splits_over_doubles(screen: Screen, *, folds: int, seed: int) -> list[Split]:
    """Hold doubles of two entries measured alone out; everything else is for training."""
    rows = torch.nonzero(novelty_code(screen.batch, screen.single_rows >= 0) == SEEN_DOUBLE).flatten()
    if len(rows) < 2:
        return []
    parts = min(folds, len(rows))
    numbers = fold_numbers([screen.labels[row] for row in rows.tolist()], folds=parts, seed=seed)
    return [_without(screen, rows[numbers == part]) for part in range(parts)]


def splits_over_targets(screen: Screen, *, folds: int, seed: int) -> list[Split]:
    """Hold targets out, with every condition that contains one of them, at any dose."""
    numbers = folds_of_singles(screen, folds=folds, seed=seed)
    targets = screen.vocabulary.targets
    splits = []
    for part in torch.unique(numbers[numbers != NOT_HELD_OUT]):
        held = {targets[gene] for gene in screen.batch.genes[numbers == part, 0].tolist()}
        hidden = torch.tensor([target in held for target in targets])
        touched = (hidden[screen.batch.genes.clamp(min=0)] & screen.batch.present).any(1)
        if not bool(touched.all()):
            splits.append(_without(screen, torch.nonzero(touched).flatten()))
    return splits


def _without(screen: Screen, rows: Int[Tensor, "b"]) -> Split:
    kept = torch.ones(len(screen), dtype=torch.bool)
    kept[rows] = False
    return Split(torch.nonzero(kept).flatten(), rows)
