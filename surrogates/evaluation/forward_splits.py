"""Which perturbations a forward model is judged on, and what it may learn from before."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.splits import Split, folds_of_doubles, splits_over_targets

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
