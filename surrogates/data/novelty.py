"""Novelty classes, how far a perturbation is from what was measured, and splits that hold them out.

Beside them, which readouts are targets of a perturbation itself (activation raises its own gene), and targets that
a screen has not measured, as entries of its vocabulary.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from surrogates.data.perturbation import Intervention, Mode
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.summary import summary

SEEN_SINGLE = 16 * 1 + 1
SEEN_DOUBLE = 16 * 2 + 2
UNSEEN_SINGLE = 16 * 1 + 0
HALF_SEEN_DOUBLE = 16 * 2 + 1
UNSEEN_DOUBLE = 16 * 2 + 0

# By the word that chooses them: the order, and how many parts were seen.
CLASSES: Mapping[str, int] = {
    "double-2": SEEN_DOUBLE,
    "double-1": HALF_SEEN_DOUBLE,
    "double-0": UNSEEN_DOUBLE,
    "single-0": UNSEEN_SINGLE,
}
FEWEST_HELD_OUT = 2


def seen_code(order: int) -> int:
    """Number the class of perturbations of which every part was measured alone."""
    return 16 * order + order


def novelty_code(batch: PerturbationBatch, measured_alone: Bool[Tensor, "v"]) -> Int[Tensor, "b"]:
    """Number the novelty class of each perturbation by its order and by how many parts were seen alone."""
    seen = measured_alone[batch.genes.clamp(min=0)] & batch.present
    return 16 * batch.order + seen.sum(dim=1)


def novelty_name(code: int) -> str:
    """Name a novelty class."""
    order, seen = divmod(code, 16)
    if order == 0:
        return "control"
    if order == 1:
        return "single, seen" if seen else "single, unseen"
    kind = {2: "double", 3: "triple"}.get(order, f"order {order}")
    return f"{kind}, {seen} of {order} seen"


def class_distance(code: int, other: int) -> tuple[int, int, int]:
    """Tell how far two novelty classes are apart: from which to borrow where a class has nothing of its own."""
    (order, seen), (other_order, other_seen) = divmod(code, 16), divmod(other, 16)
    orders = abs(order - other_order)
    return orders + abs((order - seen) - (other_order - other_seen)), orders, code


NO_READOUT = -1


def own_columns(vocabulary: Vocabulary, readouts: Sequence[str]) -> Int[Tensor, "v"]:
    """Find the readout that bears the name of each entry's target."""
    columns = {name: column for column, name in enumerate(readouts)}
    return torch.tensor([columns.get(target, NO_READOUT) for target in vocabulary.targets], dtype=torch.int64)


def own_marks(batch: PerturbationBatch, columns: Int[Tensor, "v"], count: int) -> Bool[Tensor, "b g"]:
    """Mark the readouts that are targets of each perturbation itself."""
    known = columns if len(columns) else columns.new_full((1,), NO_READOUT)
    own = torch.where(batch.present, known[batch.genes.clamp(min=0)], NO_READOUT)
    marks = torch.zeros(len(batch), count + 1, dtype=torch.bool)
    return marks.scatter_(1, torch.where(own >= 0, own, count), value=True)[:, :count]


def with_targets(screen: Screen, targets: Iterable[str], *, mode: Mode, dose: float = 1.0) -> Screen:
    """Make targets known to a screen, so that models fitted to it predict them too.

    Args:
        screen: Any screen.
        targets: Names, those that the screen knows already included or not.
        mode: How they would be acted upon.
        dose: At which dose.

    Returns:
        The same measurements, with a larger vocabulary.

    Raises:
        DataError: If a target is known in another mode at the same dose.
    """
    known = screen.vocabulary
    more = {Intervention(target, mode, dose) for target in targets}
    vocabulary = Vocabulary(tuple({*known.entries, *more}))
    # Entries are sorted, so new ones shift the numbers of the known. An empty slot, -1, takes the last number.
    numbers = torch.tensor([*(vocabulary.ids[entry.label] for entry in known.entries), EMPTY])
    return replace(screen, vocabulary=vocabulary, batch=replace(screen.batch, genes=numbers[screen.batch.genes]))


def fold_numbers(places: Int[Tensor, "n"], *, folds: int, seed: int) -> Int[Tensor, "n"]:
    """Deal distinct places, such as those of rows in canonical order, to folds of nearly equal size."""
    dealt = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed)) % folds
    return dealt[places.argsort().argsort()]


NOT_HELD_OUT = -1


def folds_of_doubles(screen: Screen, *, seed: int) -> Int[Tensor, "n"]:
    """Number the fold in which each double is held out."""
    doubles = screen.batch.order == 2
    if "double_fold" not in screen.annotations:
        names = [label if held else None for label, held in zip(screen.labels, doubles.tolist(), strict=True)]
        ranked = screen.places.argsort()
        return _deal([names[row] for row in ranked.tolist()], folds=5, seed=seed)[screen.places]
    given = screen.annotations["double_fold"]
    if not pd.api.types.is_integer_dtype(given):
        raise DataError(f"annotation 'double_fold' holds {given.dtype}; make it whole numbers, -1 for no fold")
    return torch.where(doubles, torch.tensor(given.to_numpy(dtype="int64")), NOT_HELD_OUT)


def folds_of_singles(screen: Screen, *, folds: int = 5, seed: int) -> Int[Tensor, "n"]:
    """Number the fold in which each single perturbation is held out."""
    targets = screen.vocabulary.targets
    rows = zip(screen.batch.genes[:, 0].tolist(), (screen.batch.order == 1).tolist(), strict=True)
    # By name: all that a target does is held out with it, and has no say in how.
    names = [targets[gene] if single else None for gene, single in rows]
    ranked = sorted(range(len(names)), key=lambda row: names[row] or "")
    return _deal([names[row] for row in ranked], folds=folds, seed=seed)[torch.tensor(ranked).argsort()]


def _deal(names: Sequence[str | None], *, folds: int, seed: int) -> Int[Tensor, "n"]:
    """Deal distinct names, in the order in which they come, to folds; ``None`` stays out."""
    distinct = list(dict.fromkeys(name for name in names if name is not None))
    numbers = fold_numbers(torch.arange(len(distinct)), folds=folds, seed=seed).tolist()
    fold = dict(zip(distinct, numbers, strict=True))
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
    parts, rows = min(folds, len(rows)), rows[screen.places[rows].argsort()]
    numbers = fold_numbers(screen.places[rows], folds=parts, seed=seed)
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


@dataclass(frozen=True)
class ForwardProtocol:
    """Folds, and the novelty classes that are judged on them."""

    splits: tuple[Split, ...]  # their held-out rows are of the classes, and each is one row or more
    codes: tuple[Int[Tensor, "_"], ...]  # the class of each held-out row, split by split
    classes: tuple[int, ...]  # codes of :func:`surrogates.data.novelty.novelty_code`

    @property
    def novelty(self) -> str:
        """The names of the classes."""
        return "; ".join(map(novelty_name, self.classes))


def forward_protocols(screen: Screen, classes: Collection[int], *, seed: int) -> list[ForwardProtocol]:
    """Hold out what a screen has of some novelty classes: doubles of seen parts by double, the rest by target."""
    found = []
    for own, make in (
        ([code for code in classes if code == SEEN_DOUBLE], double_splits),
        ([code for code in classes if code != SEEN_DOUBLE], target_splits),
    ):
        splits = [(split, held_out_classes(screen, split)) for split in make(screen, seed=seed)] if own else []
        held = {
            code: {row for split, codes in splits for row in split.test[codes == code].tolist()} for code in own
        }
        large = tuple(code for code in own if len(held[code]) >= FEWEST_HELD_OUT)
        kept = [
            (Split(split.train, split.test[chosen]), codes[chosen])
            for split, codes in splits
            if (chosen := torch.isin(codes, torch.tensor(large))).any()
        ]
        if kept:
            found.append(
                ForwardProtocol(tuple(split for split, _ in kept), tuple(codes for _, codes in kept), large)
            )
    return found


def held_out_classes(screen: Screen, split: Split) -> Int[Tensor, "b"]:
    """Number the novelty class of each held-out row, given what the training rows have measured alone."""
    return novelty_code(screen.batch.rows(split.test), screen.rows(split.train).single_rows >= 0)


def double_splits(screen: Screen, *, seed: int) -> Iterator[Split]:
    """Hold doubles out, fold by fold; all singles and the other folds' doubles are for training."""
    order, folds = screen.batch.order, folds_of_doubles(screen, seed=seed)
    predictable = novelty_code(screen.batch, screen.single_rows >= 0) == SEEN_DOUBLE
    for fold in torch.unique(folds[folds >= 0]):
        test = (folds == fold) & predictable
        if test.any():
            yield Split(_numbers((order == 1) | ((order == 2) & (folds != fold))), _numbers(test))


def target_splits(screen: Screen, *, seed: int) -> Iterator[Split]:
    """Hold targets out in five folds; whatever contains none of them is for training."""
    batch = screen.batch
    for split in splits_over_targets(screen, folds=5, seed=seed):
        held = torch.zeros(len(screen.vocabulary), dtype=torch.bool)
        held[batch.genes[split.test[batch.order[split.test] == 1], 0]] = True
        known = held | (screen.rows(split.train).single_rows >= 0)
        predictable = (_of_slots(known, batch.genes, batch.present) | ~batch.present).all(1) & (batch.order <= 2)
        yield Split(split.train, split.test[predictable[split.test]])


def single_splits(screen: Screen, *, seed: int) -> Iterator[Split]:
    """Hold singles out in five folds; whatever contains none of their targets is for training."""
    for split in target_splits(screen, seed=seed):
        yield Split(split.train, split.test[screen.batch.order[split.test] == 1])


def _of_slots(
    chosen: Bool[Tensor, "v"], genes: Int[Tensor, "b k"], present: Bool[Tensor, "b k"]
) -> Bool[Tensor, "b k"]:
    return chosen[genes.clamp(min=0)] & present


def _numbers(chosen: Bool[Tensor, "n"]) -> Int[Tensor, "m"]:
    return torch.nonzero(chosen).flatten()
