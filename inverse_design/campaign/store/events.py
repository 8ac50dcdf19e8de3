"""What can happen to a campaign, and the states of an experiment between which events move it.

The numbers of a table of results are one safetensors block, never rows of a database: a campaign of many
measurements is read block by block, as arrays.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from pydantic import TypeAdapter
from safetensors.numpy import load, save

from inverse_design.errors import IllegalMoveError, PlanError, ResultsError
from surrogates.errors import amount, some_of

Kind = Literal["created", "asked", "ordered", "told", "withdrawn", "retracted", "corrected", "arranged"]
WITH_VALUES: tuple[Kind, ...] = ("told", "corrected")  # their artefact is a block of wells
State = Literal["proposed", "ordered", "measured", "failed", "withdrawn"]
STATES: tuple[State, ...] = get_args(State)
OPEN_STATES: tuple[State, ...] = ("proposed", "ordered")


@dataclass(frozen=True)
class Created:
    """The campaign began; the artefact of the event is the starting screen."""

    settings: dict[str, Any]  # as JSON, see :mod:`inverse_design.campaign.settings`
    goal: dict[str, Any]  # the target as JSON, see :mod:`inverse_design.campaign.create`
    conditions: int  # rows of the starting screen
    kind: Literal["created"] = "created"

    @property
    def words(self) -> str:
        """What happened."""
        return f"created towards {self.settings['target']!r}, with {self.conditions:,} known conditions"


@dataclass(frozen=True)
class Asked:
    """A round was proposed; the artefact of the event is the fitted model, if there is one."""

    round: int  # its number, from 1
    first: int  # number of its first experiment; the others follow
    perturbations: tuple[str, ...]  # labels, in the order of the table
    columns: list[dict[str, Any]]  # the table as it was given out
    expected_gain: float | None  # of the batch, in units of the utility; ``None`` if that is unknown
    notes: tuple[str, ...]  # of the recommender
    count: int  # how many experiments were wanted
    seed: int  # that the recommender was given
    basis: int  # number of the last event that the recommender knew of
    kind: Literal["asked"] = "asked"

    @property
    def words(self) -> str:
        """What happened."""
        return f"round {self.round}: {amount(len(self.perturbations), 'experiment')} proposed"


@dataclass(frozen=True)
class Ordered:
    """Proposed experiments went to the bench."""

    numbers: tuple[int, ...]  # of the experiments
    kind: Literal["ordered"] = "ordered"

    @property
    def words(self) -> str:
        """What happened."""
        return f"{amount(len(self.numbers), 'experiment')} ordered"


@dataclass(frozen=True)
class Told:
    """Results came in; the artefact of the event is the block of their numbers."""

    measured: int  # how many experiments they measured for the first time
    failed: int  # how many experiments failed
    extra: int  # how many of both had not been asked for
    values: int  # how many wells gave values
    flagged: tuple[str, ...]  # what is out of scale, in words
    rows: tuple[int, ...] = ()  # of the block, that each sentence is about, -1 for none; older logs have no rows
    extreme: bool = False  # whether values that no assay gives were taken as they are
    kind: Literal["told"] = "told"

    @property
    def words(self) -> str:
        """What happened."""
        more = f", {self.extra} not asked for" if self.extra else ""
        odd = f"; out of scale: {'; '.join(self.flagged)}" if self.flagged else ""
        return f"{self.values} wells told: {self.measured} experiments measured, {self.failed} failed{more}{odd}"


@dataclass(frozen=True)
class Withdrawn:
    """Experiments will not be done."""

    numbers: tuple[int, ...]  # of the experiments
    reason: str  # in the user's words
    kind: Literal["withdrawn"] = "withdrawn"

    @property
    def words(self) -> str:
        """What happened."""
        return f"{amount(len(self.numbers), 'experiment')} withdrawn" + (f": {self.reason}" if self.reason else "")


@dataclass(frozen=True, slots=True)
class WellPlace:
    """One recorded well: by name, and where its values are."""

    number: int  # of the experiment
    perturbation: str  # its canonical label
    replicate: str  # name of the replicate
    sequence: int  # number of the event that recorded it
    row: int  # in the block of that event


@dataclass(frozen=True)
class Retracted:
    """Recorded wells do not count any longer; they stay in the log."""

    wells: tuple[WellPlace, ...]
    moved: tuple[tuple[int, State], ...]  # where each of their experiments stands without them
    reason: str  # in the user's words
    kind: Literal["retracted"] = "retracted"

    @property
    def words(self) -> str:
        """What happened."""
        return f"{wells_in_words(self.wells)} retracted: {self.reason}"


@dataclass(frozen=True)
class Corrected:
    """Recorded wells have other values now; the artefact of the event is the block of these."""

    wells: tuple[WellPlace, ...]  # the well that each row of the block replaces
    moved: tuple[tuple[int, State], ...]  # where each of their experiments stands with the new values
    reason: str  # in the user's words
    flagged: tuple[str, ...] = ()  # what is out of scale, in words
    rows: tuple[int, ...] = ()  # of the block, that each sentence is about
    extreme: bool = False  # whether values that no assay gives were taken as they are
    kind: Literal["corrected"] = "corrected"

    @property
    def words(self) -> str:
        """What happened."""
        odd = f"; out of scale: {'; '.join(self.flagged)}" if self.flagged else ""
        return f"{wells_in_words(self.wells)} corrected: {self.reason}{odd}"


@dataclass(frozen=True)
class Arranged:
    """A round was put in order, or on plates, by hand; the newest counts, and no number hangs on it."""

    round: int
    pinned: tuple[str, ...] = ()  # labels of the experiments that come first
    layout: dict[str, Any] | None = None  # of plates that were filled by hand
    wells: list[dict[str, Any]] = field(default_factory=list)  # their table, column by column
    kind: Literal["arranged"] = "arranged"

    @property
    def words(self) -> str:
        """What happened."""
        plates = "" if self.layout is None else f", {len(self.wells[0]['values'])} wells placed by hand"
        return f"round {self.round} arranged: {some_of(self.pinned, _MOST_NAMED) or 'nothing'} pinned{plates}"


_MOST_NAMED = 3


def wells_in_words(wells: Sequence[WellPlace]) -> str:
    """Count some wells, and name the first of them."""
    named = [f"{one.perturbation} replicate {one.replicate} of event {one.sequence}" for one in wells]
    return f"{len(wells)} well{'s' * (len(wells) != 1)} ({some_of(named, _MOST_NAMED)})"


Event: TypeAlias = Created | Asked | Ordered | Told | Withdrawn | Retracted | Corrected | Arranged
_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    each.kind: TypeAdapter(each)
    for each in (Created, Asked, Ordered, Told, Withdrawn, Retracted, Corrected, Arranged)
}


@dataclass(frozen=True)
class Recorded:
    """An event with its place in the log."""

    sequence: int  # its number, from 1, without gaps
    time: str  # when, in UTC, ISO 8601
    actor: str  # who
    event: Event  # what
    artefact: str | None  # content hash of the numbers that belong to it


def to_json(event: Event) -> str:
    """Write an event."""
    return json.dumps(_ADAPTERS[event.kind].dump_python(event, mode="json"), allow_nan=False)


def from_json(kind: str, text: str) -> Event:
    """Read an event."""
    event: Event = _ADAPTERS[kind].validate_json(text)
    return event


def columns_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Write a recommended table column by column, so that it comes back number by number."""
    return [_column(str(name), table[name]) for name in table]


def table_of(columns: list[dict[str, Any]]) -> pd.DataFrame:
    """Read a table."""
    types = {"float": "float64", "int": "int64", "bool": "bool", "text": "object"}
    return pd.DataFrame({each["name"]: pd.Series(each["values"], dtype=types[each["kind"]]) for each in columns})


def _column(name: str, column: pd.Series) -> dict[str, Any]:
    if pd.api.types.is_bool_dtype(column):
        return {"name": name, "kind": "bool", "values": [bool(each) for each in column]}
    if pd.api.types.is_integer_dtype(column):
        return {"name": name, "kind": "int", "values": [int(each) for each in column]}
    if pd.api.types.is_float_dtype(column):
        numbers = [None if math.isnan(each) else float(each) for each in column]
        if any(each is not None and math.isinf(each) for each in numbers):
            raise PlanError(f"column {name!r} of the plan holds an infinite number; give a finite one, or NaN")
        return {"name": name, "kind": "float", "values": numbers}
    return {"name": name, "kind": "text", "values": ["" if pd.isna(each) else str(each) for each in column]}


_BREAK = "\n"  # labels and replicates are printable, so that no line break is in them


@dataclass(frozen=True)
class Block:
    """Wells of one table of results."""

    number: Int[np.ndarray, "m"]  # experiment of each well
    # Whether that experiment was made by this very block, because nobody had asked for it.
    extra: Bool[np.ndarray, "m"]
    failed: Bool[np.ndarray, "m"]  # whether the well gave no values
    genes: Int[np.ndarray, "m k"]  # vocabulary ids of its perturbation, ``-1`` where empty
    values: Float[np.ndarray, "m g"]  # measured effects, NaN where failed or not measured
    labels: str  # its perturbation, one line per well
    replicates: str  # name of the replicate, one line per well

    @property
    def label(self) -> list[str]:
        """The perturbation of each well."""
        return self.labels.split(_BREAK)

    @property
    def replicate(self) -> list[str]:
        """The replicate of each well; numbered where line breaks, which older releases took, hide whose it is."""
        names, wells = self.replicates.split(_BREAK), len(self.number)
        if len(names) == wells:
            return names
        table = content_hash(self.replicates.encode())[:6]
        return [f"well {row} of {table}" for row in range(1, wells + 1)]

    def rows(self, kept: Bool[np.ndarray, "m"]) -> "Block":
        """Take some of the wells."""
        if kept.all():
            return self
        at = np.flatnonzero(kept)
        return Block(
            number=self.number[at],
            extra=self.extra[at],
            failed=self.failed[at],
            genes=self.genes[at],
            values=self.values[at],
            labels=self.lines([self.label[row] for row in at]),
            replicates=self.lines([self.replicate[row] for row in at]),
        )

    @staticmethod
    def lines(texts: list[str]) -> str:
        """Join texts, one for each well; a line break in one of them would shift all behind it."""
        if any(_BREAK in text for text in texts):
            raise ResultsError("a name of a well holds a line break; remove it")
        return _BREAK.join(texts)

    def to_bytes(self) -> bytes:
        """Write the block."""
        arrays = {
            "number": self.number.astype(np.int64),
            "extra": self.extra.astype(np.uint8),
            "failed": self.failed.astype(np.uint8),
            "genes": self.genes.astype(np.int32),
            "values": self.values.astype(np.float64),
            "labels": np.frombuffer(self.labels.encode(), dtype=np.uint8),
            "replicates": np.frombuffer(self.replicates.encode(), dtype=np.uint8),
        }
        content: bytes = save({name: np.ascontiguousarray(each) for name, each in arrays.items()})
        return content

    @classmethod
    def from_bytes(cls, content: bytes) -> "Block":
        """Read a block."""
        read = load(content)
        return cls(
            number=read["number"],
            extra=read["extra"].astype(bool),
            failed=read["failed"].astype(bool),
            genes=read["genes"].astype(np.int64),
            values=read["values"],
            labels=read["labels"].tobytes().decode(),
            replicates=read["replicates"].tobytes().decode(),
        )


def content_hash(content: bytes) -> str:
    """Name an artefact."""
    return hashlib.sha256(content).hexdigest()


MOVES: Mapping[State, tuple[State, ...]] = {
    "proposed": ("ordered", "withdrawn"),
    "ordered": ("measured", "failed", "withdrawn"),
    "measured": (),
    "failed": (),
    "withdrawn": (),
}
_WHY_FINAL: Mapping[State, str] = {
    "measured": "it has a result; `campaign retract` takes results back, and keeps them in the history",
    "failed": "a repetition is another experiment: ask for it again, or tell its result as an extra; if it did not"
    " fail, retract that (`campaign retract`)",
    "withdrawn": "it may be proposed again; a result that came all the same is told as an extra",
}


def require_move(name: str, start: State, end: State) -> None:
    """Refuse a move that the life of an experiment does not have."""
    allowed = MOVES[start]
    if end in allowed:
        return
    reason = f"; {_WHY_FINAL[start]}" if start in _WHY_FINAL else ""
    if start == "proposed":
        reason = "; order it first"
    raise IllegalMoveError(
        f"{name!r} cannot go from {start} to {end}: from {start} it can go to {' or '.join(allowed) or 'nothing'}"
        f"{reason}"
    )


@dataclass(frozen=True, slots=True)
class Experiment:
    """A perturbation that was proposed in a round, or recorded without having been asked for."""

    number: int  # in its campaign, from 1
    perturbation: str  # canonical label
    round: int  # in which it was proposed; 0 if it never was
    state: State  # where it stands


@dataclass(frozen=True, slots=True)
class Measurement:
    """Where the values of one well are."""

    number: int  # of the experiment
    replicate: str  # name of the replicate
    sequence: int  # number of the event that recorded it
    row: int  # in the block of that event
