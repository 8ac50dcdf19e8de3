"""The wells that a log holds, which of them count, and what these say together.

A well counts unless it was retracted or corrected. A well whose values no assay gives, which a log of an older
release may hold, is left out of all averages, by name.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int

from inverse_design.campaign.scale import AssayRange
from inverse_design.campaign.store.events import WITH_VALUES, Block, Corrected, Recorded, Retracted, Told
from inverse_design.campaign.store.protocol import Log
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY
from surrogates.errors import some_of

WELL_COLUMNS = ("event", "row", "experiment", "round", "perturbation", "replicate", "failed", "state")
COUNTS = "counts"
_SHOWN = 3


def taken_back(log: Log, *, until: int | None = None) -> Mapping[tuple[int, int], str]:
    """Say which wells do not count any longer, by event and row, and which event took them back last."""
    found: dict[tuple[int, int], str] = {}
    for one in log.events("retracted", "corrected"):
        if isinstance(one.event, Retracted | Corrected) and (until is None or one.sequence <= until):
            found.update({(well.sequence, well.row): one.event.kind for well in one.event.wells})
    return found


def recorded_blocks(log: Log, *, until: int | None = None) -> Iterator[tuple[Recorded, Block]]:
    """Read every table of results with its event, whether its wells still count or not."""
    events = [one for one in log.events(*WITH_VALUES) if until is None or one.sequence <= until]
    for event, content in zip(events, log.blocks(until=until), strict=True):
        yield event, Block.from_bytes(content)


def well_table(log: Log) -> pd.DataFrame:
    """List all wells, also those that do not count any longer, with the columns ``WELL_COLUMNS``."""
    void, experiments = taken_back(log), {one.number: one for one in log.experiments()}
    tables = [pd.DataFrame(columns=list(WELL_COLUMNS))]
    for recorded, block in recorded_blocks(log):
        size, sequence = len(block.number), recorded.sequence
        known = [experiments.get(number) for number in block.number.tolist()]
        columns = {
            "event": sequence,
            "row": np.arange(size),
            "experiment": block.number,
            "round": [0 if one is None else one.round for one in known],
            "perturbation": ["" if one is None else one.perturbation for one in known],
            "replicate": block.replicate,
            "failed": block.failed,
            "state": [void.get((sequence, row), COUNTS) for row in range(size)],
        }
        tables.append(pd.DataFrame(columns))
    filled = [each for each in tables if len(each)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0]


@dataclass(frozen=True)
class Wells:
    """What counts of the results of a campaign."""

    blocks: tuple[Block, ...] = ()
    # Wells that nothing can be computed with, in words; they are not among the blocks.
    left_out: tuple[str, ...] = ()
    flagged: tuple[str, ...] = ()  # values out of scale, in words, of wells that count
    values: int = 0  # how many wells gave values


def counting_wells(
    log: Log, start: Screen, *, until: int | None = None, without: Collection[tuple[int, int]] = ()
) -> Wells:
    """Collect the wells that count, as known after an event, without some (by event and row)."""
    void, assay = defaultdict(set), AssayRange.of(start)
    for sequence, row in (*taken_back(log, until=until), *without):
        void[sequence].add(row)
    blocks, left_out, flagged, values = [], list[str](), list[str](), 0
    for recorded, block in recorded_blocks(log, until=until):
        counts = np.ones(len(block.number), dtype=bool)
        counts[sorted(void[recorded.sequence])] = False
        flagged += _flagged(recorded, block, counts)
        values += int((counts & ~block.failed).sum())
        usable, said = _usable(recorded, block, start, assay)
        left_out += [words for row, words in said if counts[row]]
        blocks.append(block.rows(counts & usable))
    return Wells(tuple(blocks), tuple(left_out), tuple(flagged), values)


def _flagged(recorded: Recorded, block: Block, counts: Bool[np.ndarray, "m"]) -> list[str]:
    """Take the remarks of an event that are not about wells which were taken back."""
    event = recorded.event
    if not isinstance(event, Told | Corrected) or not (event.flagged and counts.any()):
        return []
    if event.rows:
        pairs = zip(event.flagged, event.rows, strict=True)
        return [words for words, row in pairs if row < 0 or counts[row]]
    labels = np.array(block.label[: len(counts)], dtype=object)
    gone = {f"{label!r}, " for label in set(labels[~counts]) - set(labels[counts])}
    return [words for words in event.flagged if not words.startswith(tuple(gone))]


def _usable(
    recorded: Recorded, block: Block, start: Screen, assay: AssayRange
) -> tuple[Bool[np.ndarray, "m"], list[tuple[int, str]]]:
    """Find the wells that can be computed with, and say what is wrong with the others."""
    size, width = len(block.number), len(start.readouts)
    if block.values.shape != (size, width):
        what = f"event {recorded.sequence} holds values of another shape than {size} wells by {width} readouts"
        return np.zeros(size, dtype=bool), [(row, _remedy(what, recorded)) for row in range(size)]
    taken = isinstance(recorded.event, Told | Corrected) and recorded.event.extreme
    odd = assay.too_large(block.values) if taken else assay.beyond(block.values)
    empty = np.isnan(block.values).all(1)
    unknown = (block.genes >= len(start.vocabulary)).any(1)
    bad = (odd.any(1) | empty | unknown) & ~block.failed
    said = []
    for row in np.flatnonzero(bad).tolist():
        column = int(odd[row].argmax())
        value = f"{start.readouts[column]!r} is {block.values[row, column]:.6g}" if odd[row].any() else "no value"
        what = f"{block.label[row]!r}, replicate {block.replicate[row]!r} of event {recorded.sequence}: {value}"
        said.append((row, _remedy(what, recorded)))
    usable: np.ndarray = ~bad
    return usable, said


def _remedy(what: str, recorded: Recorded) -> str:
    return f"{what}, which no assay gives; take it back with `campaign retract --event {recorded.sequence}`"


def left_out_remarks(wells: Wells) -> tuple[str, ...]:
    """Warn of wells that are left out."""
    more = len(wells.left_out) - _SHOWN
    said = [f"warning: left out: {words}" for words in wells.left_out[:_SHOWN]]
    return (*said, *([f"warning: and {more} more wells are left out"] if more > 0 else []))


@dataclass(frozen=True)
class Known:
    """All that was measured, averaged."""

    screen: Screen  # the conditions of which every readout is known
    # From the label of each other condition to its values, NaN for the readouts that nobody measured. No number
    # stands in for these: such a condition is part of no fit.
    partial: Mapping[str, Float[np.ndarray, "g"]]


def known_from(start: Screen, blocks: Iterable[Block]) -> Known:
    """Average what was recorded, array by array and readout by readout.

    All wells of a perturbation count the same, whatever the round; its row in the starting screen counts like one
    well. A well counts for the readouts that it has. With replicates, the noise ``s_g`` of one well is pooled over
    all perturbations, since the spread of two or three wells says little: the standard error of a mean of ``r``
    wells is ``s_g / r^(1/2)``. Without, told rows get the median standard error of the starting screen, if it has
    any.
    """
    told = [block for block in blocks if not block.failed.all()]
    if not told:
        return Known(start, {})
    width = max(start.batch.genes.shape[1], *(block.genes.shape[1] for block in told))
    genes = np.concatenate([_widened(block.genes[~block.failed], width) for block in told])
    values = np.concatenate([block.values[~block.failed] for block in told])
    has = np.isfinite(values)
    rows, place = _placed(_widened(start.batch.genes.numpy(), width), genes)
    count = _sums(has if not has.all() else has[:, :1], place, len(rows))
    mean = _sums(np.where(has, values, 0.0), place, len(rows)) / np.maximum(count, 1)
    gaps = np.where(has, values - mean[place], 0.0)
    errors = _standard_errors(start, gaps, count)
    first, again = start.effects.numpy(), count[: len(start)]
    effects = mean.copy()
    effects[: len(start)] = (first + again * mean[: len(start)]) / (1 + again)
    lacking = np.broadcast_to(count == 0, effects.shape).copy()
    lacking[: len(start)] = False
    whole = np.flatnonzero(~lacking.any(1))
    vocabulary = start.vocabulary
    screen = replace(
        start,
        effects=torch.from_numpy(effects[whole]),
        batch=vocabulary.dosed(torch.from_numpy(rows[whole])),
        contexts=(start.contexts[0],) * len(whole),
        standard_errors=None if errors is None else torch.from_numpy(errors[whole]),
        annotations=type(start.annotations)(index=range(len(whole))),
    )
    partial = {
        vocabulary.perturbation(torch.from_numpy(rows[row])).label: np.where(lacking[row], np.nan, effects[row])
        for row in np.flatnonzero(lacking.any(1))
    }
    return Known(screen, partial)


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


def _sums(values: np.ndarray, place: Int[np.ndarray, "m"], size: int) -> Float[np.ndarray, "u g"]:
    sums = np.zeros((size, values.shape[1]))
    np.add.at(sums, place, values)
    return sums


def _standard_errors(
    start: Screen, gaps: Float[np.ndarray, "m g"], count: Float[np.ndarray, "u c"]
) -> Float[np.ndarray, "u g"] | None:
    """Error of each mean; ``count`` has one column if all wells have all readouts, else one for each."""
    stated = None if start.standard_errors is None else start.standard_errors.numpy()
    freedom = np.maximum(count - 1, 0).sum(0)
    pooled = np.sqrt(np.square(gaps).sum(0) / np.maximum(freedom, 1))
    if (freedom > 0).all():
        well = pooled
    elif stated is not None:
        well = np.where(freedom > 0, pooled, np.median(stated, axis=0))
    else:
        return None
    first = np.broadcast_to(well, start.effects.shape) if stated is None else stated
    n, again = len(first), count[: len(first)]
    errors = np.empty((len(count), gaps.shape[1]))
    errors[n:] = well / np.sqrt(np.maximum(count[n:], 1))
    # the mean of the starting value, with its own error, and of `again` wells
    errors[:n] = np.sqrt(np.square(first) + again * np.square(well)) / (1 + again)
    return errors


def partial_words(partial: Mapping[str, Float[np.ndarray, "g"]], readouts: Sequence[str]) -> tuple[str, ...]:
    """Say which conditions lack which readouts."""
    said = []
    for label, values in partial.items():
        lacking = [readouts[column] for column in np.flatnonzero(np.isnan(values)).tolist()]
        said.append(f"{label} lacks {some_of(lacking, _SHOWN)}")
    return tuple(said)
