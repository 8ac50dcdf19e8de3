"""Novelty classes: how far a perturbation is from what was measured.

Beside them, which readouts are targets of a perturbation itself (activation raises its own gene), and targets that
a screen has not measured, as entries of its vocabulary.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from surrogates.data.perturbation import Intervention, Mode
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary

SEEN_SINGLE = 16 * 1 + 1
SEEN_DOUBLE = 16 * 2 + 2


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
