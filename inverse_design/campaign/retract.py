"""Taking results back, and replacing them: the log keeps both the old values and the new ones."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from inverse_design.campaign.record_results import refuse_extreme, same_values
from inverse_design.campaign.results import Results
from inverse_design.campaign.scale import AssayRange, Scale
from inverse_design.campaign.store.events import (
    OPEN_STATES,
    Block,
    Corrected,
    Experiment,
    Retracted,
    State,
    WellPlace,
    wells_in_words,
)
from inverse_design.campaign.store.protocol import Log, WritableLog
from inverse_design.campaign.wells import COUNTS, counting_wells, known_from, recorded_blocks, well_table
from inverse_design.errors import ResultsError
from surrogates.data.names import name_of
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

LONGEST_REASON = 1000


@dataclass(frozen=True)
class Retraction:
    """What became of wells that were to be taken back."""

    wells: tuple[WellPlace, ...] = ()  # those that count no longer
    waiting: tuple[str, ...] = ()  # perturbations whose results are to come again
    already: int = 0  # how many of the wells had been taken back before
    sequence: int | None = None  # number of the event, ``None`` if there was nothing to do

    @property
    def words(self) -> str:
        """What became of them, in one sentence."""
        before = f"{self.already} wells had been taken back before" if self.already else ""
        if self.sequence is None:
            return f"{before}, nothing has changed"
        return ", ".join(filter(None, [f"{wells_in_words(self.wells)} retracted", before]))


@dataclass(frozen=True)
class Correction:
    """What became of corrected values."""

    wells: tuple[WellPlace, ...] = ()  # the wells whose values were replaced
    already: int = 0  # how many wells have these values already
    flagged: tuple[str, ...] = ()  # new values that are out of scale, in words
    sequence: int | None = None  # number of the event, ``None`` if there was nothing to do

    @property
    def words(self) -> str:
        """What became of them, in one sentence."""
        same = f"{self.already} wells have these values already" if self.already else ""
        if self.sequence is None:
            return f"{same or 'no well is named'}, nothing has changed"
        return ", ".join(filter(None, [f"{wells_in_words(self.wells)} corrected", same]))


def reason_of(text: str) -> str:
    """Take a reason for the history, on one line."""
    return name_of(" ".join(text.split()), "reason", longest=LONGEST_REASON)


def select_wells(
    table: pd.DataFrame,
    *,
    labels: Sequence[str] | None = None,
    round_number: int | None = None,
    replicate: str | None = None,
    event: int | None = None,
) -> pd.DataFrame:
    """Take the wells that fulfil all that is stated."""
    for what, column, wanted in (
        ("measured perturbation", "perturbation", labels),
        ("round with results", "round", None if round_number is None else [round_number]),
        ("replicate", "replicate", None if replicate is None else [replicate]),
        ("event with results", "event", None if event is None else [event]),
    ):
        if wanted is None:
            continue
        known = set(table[column])
        if missing := [each for each in wanted if each not in known]:
            raise UnknownNameError.from_known(what, str(missing[0]), map(str, known))
        table = table[table[column].isin(wanted)]
    return table


def wells_of_results(log: Log, table: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Take the wells that a table of results holds, with the values that it holds."""
    rows: dict[tuple[str, str], list[int]] = {}
    for row, name in enumerate(zip(results.labels, results.replicates, strict=True)):
        rows.setdefault(name, []).append(row)
    names = zip(table["perturbation"].tolist(), table["replicate"].tolist(), strict=True)
    near = table[np.array([name in rows for name in names], dtype=bool)]
    blocks = {one.sequence: block for one, block in recorded_blocks(log) if one.sequence in set(near["event"])}
    kept = []
    for well in near.to_dict("records"):
        told = blocks[well["event"]].values[well["row"]]
        offered = rows[well["perturbation"], well["replicate"]]
        offered = [row for row in offered if results.rounds[row] in {None, well["round"]}]
        kept.append(any(same_values(told, results.values[row]) for row in offered))
    return near[np.array(kept, dtype=bool)]


def retract(log: WritableLog, chosen: pd.DataFrame, *, reason: str, actor: str) -> Retraction:
    """Take wells back; those that were taken back before stay so."""
    reason, table = reason_of(reason), well_table(log)
    known = {place: at for at, place in enumerate(_places(table))}
    if strange := next((each for each in _places(chosen) if each not in known), None):
        raise DataError(f"row {strange[1]} of event {strange[0]} is no recorded well; list them with wells()")
    wanted = table.iloc[sorted({known[each] for each in _places(chosen)})]
    counting = wanted[wanted["state"] == COUNTS]
    already = len(wanted) - len(counting)
    if counting.empty:
        return Retraction(already=already)
    left = table.drop(index=counting.index)
    moved = _moves(log, left[left["state"] == COUNTS], set(counting["experiment"].tolist()))
    wells = tuple(_well(row) for row in counting.to_dict("records"))
    sequence = log.append(Retracted(wells, moved, reason), actor=actor)
    open_again = {number for number, state in moved if state in OPEN_STATES}
    waiting = dict.fromkeys(well.perturbation for well in wells if well.number in open_again)
    return Retraction(wells, tuple(waiting), already, sequence)


def correct(
    log: WritableLog, results: Results, *, start: Screen, reason: str, accept_extreme: bool, actor: str
) -> Correction:
    """Replace the values of recorded wells, also of such as were taken back.

    What is out of scale is judged beside everything that is known without the values that are replaced.
    """
    reason, table = reason_of(reason), well_table(log)
    blocks = {one.sequence: block for one, block in recorded_blocks(log)}
    by_name: dict[tuple[str, str], list[Mapping[Any, Any]]] = {}
    for well in table.to_dict("records"):
        by_name.setdefault((well["perturbation"], well["replicate"]), []).append(well)
    rows, places, already = [], list[WellPlace](), 0
    for row, name in enumerate(zip(results.labels, results.replicates, strict=True)):
        stated = results.rounds[row]
        found = [well for well in by_name.get(name, []) if stated in {None, well["round"]}]
        if not found:
            raise ResultsError(
                f"line {results.lines[row]}: {name[0]!r}, replicate {name[1]!r} was never recorded, so that"
                " there is nothing to correct; tell it (campaign tell)"
            )
        newest = max(found, key=lambda well: (well["state"] == COUNTS, well["event"]))
        place = _well(newest)
        told = blocks[place.sequence].values[place.row]
        if newest["state"] == COUNTS and same_values(told, results.values[row]):
            already += 1
        else:
            rows.append(row)
            places.append(place)
    if not rows:
        return Correction(already=already)
    block = _block(results, rows, places)
    extreme = refuse_extreme(results, rows, AssayRange.of(start), accepted=accept_extreme)
    replaced = {(each.sequence, each.row) for each in places}
    others = counting_wells(log, start, without=replaced)
    scale = Scale.of(known_from(start, others.blocks).screen)
    remarks = scale.odd(block.values, block.failed, block.label)
    kept = table[(table["state"] == COUNTS) & np.array([each not in replaced for each in _places(table)])]
    fresh = pd.DataFrame({"experiment": block.number, "failed": block.failed})
    moved = _moves(log, pd.concat([kept, fresh]), set(block.number.tolist()))
    event = Corrected(
        tuple(places),
        moved,
        reason,
        flagged=tuple(each.words for each in remarks),
        rows=tuple(each.row for each in remarks),
        extreme=extreme,
    )
    sequence = log.append(event, actor=actor, artefact=block.to_bytes())
    return Correction(tuple(places), already, event.flagged, sequence)


def _block(results: Results, rows: list[int], places: Sequence[WellPlace]) -> Block:
    return Block(
        number=np.array([each.number for each in places], dtype=np.int64),
        extra=np.zeros(len(rows), dtype=bool),
        failed=results.failed[rows],
        genes=results.genes[rows],
        values=results.values[rows],
        labels=Block.lines([results.labels[row] for row in rows]),
        replicates=Block.lines([results.replicates[row] for row in rows]),
    )


def _places(table: pd.DataFrame) -> Iterable[tuple[int, int]]:
    return zip(table["event"].tolist(), table["row"].tolist(), strict=True)


def _well(row: Mapping[Any, Any]) -> WellPlace:
    """Name a row of the table of wells."""
    number, label, replicate = row["experiment"], row["perturbation"], row["replicate"]
    return WellPlace(int(number), str(label), str(replicate), int(row["event"]), int(row["row"]))


def _moves(log: Log, counting: pd.DataFrame, numbers: set[int]) -> tuple[tuple[int, State], ...]:
    """Say where experiments stand when only these wells count.

    Without a well an experiment waits for its result again, unless nobody had asked for it, or another experiment
    of the same perturbation is open or measured: then it is withdrawn.
    """
    failed: dict[int, bool] = {}
    for number, bad in zip(counting["experiment"].tolist(), counting["failed"].tolist(), strict=True):
        failed[number] = failed.get(number, True) and bool(bad)
    every = log.experiments()
    standing: dict[str, set[int]] = {}
    for one in every:
        if one.number not in numbers and one.state in {*OPEN_STATES, "measured"}:
            standing.setdefault(one.perturbation, set()).add(one.number)
    mine = sorted((one for one in every if one.number in numbers), key=lambda one: one.number, reverse=True)
    moves = []
    for one in mine:
        state = _state_of(one, failed, other=bool(standing.get(one.perturbation)))
        if state in {*OPEN_STATES, "measured"}:
            standing.setdefault(one.perturbation, set()).add(one.number)
        if state != one.state:
            moves.append((one.number, state))
    return tuple(sorted(moves))


def _state_of(one: Experiment, failed: Mapping[int, bool], *, other: bool) -> State:
    if one.number in failed:
        return "failed" if failed[one.number] else "measured"
    return "ordered" if one.round and not other else "withdrawn"
