"""Targets that a screen has not measured, as entries of its vocabulary."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from surrogates.data.perturbation import Intervention, Mode
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, Vocabulary


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
