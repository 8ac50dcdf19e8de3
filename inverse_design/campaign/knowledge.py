"""What a campaign knows: the starting screen and all told values, averaged over replicates."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from inverse_design.campaign.block import Block
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY


def known_screen(start: Screen, blocks: Iterable[Block]) -> Screen:
    """Average what was told, array by array.

    All wells of a perturbation count the same, whatever the round; its row in the starting screen counts like one
    well. With replicates, the noise ``s_g`` of one well is pooled over all perturbations, since the spread of two
    or three wells says little: the standard error of a mean of ``r`` wells is ``s_g / r^(1/2)``. Without, told
    rows get the median standard error of the starting screen, if it has any.

    Args:
        start: The starting screen.
        blocks: Told values, in order.

    Returns:
        One row per perturbation: those of the starting screen in their order, then the new ones, sorted by ids.
    """
    told = [block for block in blocks if not block.failed.all()]
    if not told:
        return start
    width = max(start.batch.genes.shape[1], *(block.genes.shape[1] for block in told))
    genes = np.concatenate([_widened(block.genes[~block.failed], width) for block in told])
    values = np.concatenate([block.values[~block.failed] for block in told])
    known = _widened(start.batch.genes.numpy(), width)
    rows, place = _placed(known, genes)
    count = np.bincount(place, minlength=len(rows))
    mean = _sums(values, place, len(rows)) / np.maximum(count, 1)[:, None]
    effects = mean.copy()
    first, weight = start.effects.numpy(), count[: len(known), None]
    effects[: len(known)] = (first + weight * mean[: len(known)]) / (1 + weight)
    errors = _standard_errors(start, values - mean[place], count)
    batch = start.vocabulary.dosed(torch.from_numpy(rows))
    return replace(
        start,
        effects=torch.from_numpy(effects),
        batch=batch,
        contexts=(start.contexts[0],) * len(rows),
        standard_errors=None if errors is None else torch.from_numpy(errors),
        annotations=type(start.annotations)(index=range(len(rows))),
    )


def _widened(genes: Int[np.ndarray, "m k"], width: int) -> Int[np.ndarray, "m w"]:
    empty = ((0, 0), (0, width - genes.shape[1]))
    return np.pad(genes.astype(np.int64), empty, constant_values=EMPTY)


def _placed(
    known: Int[np.ndarray, "n w"], told: Int[np.ndarray, "m w"]
) -> tuple[Int[np.ndarray, "u w"], Int[np.ndarray, "m"]]:
    """Number the distinct perturbations, those that are known first, and say which each well is."""
    every, inverse = np.unique(np.concatenate([known, told]), axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    order = np.full(len(every), -1)
    order[inverse[: len(known)]] = np.arange(len(known))
    fresh = np.flatnonzero(order < 0)
    order[fresh] = len(known) + np.arange(len(fresh))
    return np.concatenate([known, every[fresh]]), order[inverse[len(known) :]]


def _sums(values: Float[np.ndarray, "m g"], place: Int[np.ndarray, "m"], size: int) -> Float[np.ndarray, "u g"]:
    sums = np.zeros((size, values.shape[1]))
    np.add.at(sums, place, values)
    return sums


def _standard_errors(
    start: Screen, gaps: Float[np.ndarray, "m g"], count: Int[np.ndarray, "u"]
) -> Float[np.ndarray, "u g"] | None:
    stated = None if start.standard_errors is None else start.standard_errors.numpy()
    freedom = int(count.sum() - np.count_nonzero(count))
    if freedom > 0:
        well = np.sqrt(np.square(gaps).sum(0) / freedom)
    elif stated is not None:
        well = np.median(stated, axis=0)
    else:
        return None
    first = np.broadcast_to(well, start.effects.shape) if stated is None else stated
    n, again = len(first), count[: len(first), None]
    errors = np.empty((len(count), gaps.shape[1]))
    errors[n:] = well / np.sqrt(count[n:, None])
    # the mean of the starting value, with its own error, and of `again` wells
    errors[:n] = np.sqrt(np.square(first) + again * np.square(well)) / (1 + again)
    return errors
