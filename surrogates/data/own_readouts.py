"""Which readouts are targets of a perturbation itself: activation raises its own gene."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch, Vocabulary

NO_READOUT = -1


def own_columns(vocabulary: Vocabulary, readouts: Sequence[str]) -> Int[Tensor, "v"]:
    """Find the readout that bears the name of each entry's target.

    Args:
        vocabulary: The entries.
        readouts: Names of the readouts.

    Returns:
        Its number, ``-1`` where there is none.
    """
    columns = {name: column for column, name in enumerate(readouts)}
    return torch.tensor([columns.get(target, NO_READOUT) for target in vocabulary.targets], dtype=torch.int64)


def own_marks(batch: PerturbationBatch, columns: Int[Tensor, "v"], count: int) -> Bool[Tensor, "b g"]:
    """Mark the readouts that are targets of each perturbation itself.

    Args:
        batch: The perturbations.
        columns: Of :func:`own_columns`.
        count: Number of readouts ``g``.

    Returns:
        True where a readout bears the name of one of the row's targets.
    """
    known = columns if len(columns) else columns.new_full((1,), NO_READOUT)
    own = torch.where(batch.present, known[batch.genes.clamp(min=0)], NO_READOUT)
    marks = torch.zeros(len(batch), count + 1, dtype=torch.bool)
    return marks.scatter_(1, torch.where(own >= 0, own, count), value=True)[:, :count]
