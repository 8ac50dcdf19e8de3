"""Batches of rows: who is compared with whose controls, and which conditions cannot be told from their batch."""

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int

from surrogates.data.io.annotated import LEFT_OUT
from surrogates.errors import some_of

_OF_BATCHES = re.compile(
    r".*(batch|donor|plate|replicate|lane|gem|library|sample|patient|pool|run|experiment|rep).*", re.IGNORECASE
)
_SURELY = re.compile("batch|donor|plate|lane|gem_?group", re.IGNORECASE)
_MOST_BATCHES = 1000  # a column with more names the rows
_SHOWN = 3
CONFOUNDED = "confounded with"  # begins the note of conditions that cannot be told from their batch


@dataclass(frozen=True)
class Batches:
    """Strata of rows: those of one batch and one context, whose controls they are compared with."""

    column: str  # its name in the table
    names: tuple[str, ...]  # the batch of each stratum
    contexts: tuple[str, ...]  # the context of each stratum
    of_row: Int[np.ndarray, "rows"]  # number of the stratum of each row, ``-1`` where the row is not read

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Assigned:
    """The condition of each row, as far as batches are concerned."""

    codes: Int[np.ndarray, "rows"]  # number of the condition of each row, ``-1`` where the row is not read
    labels: tuple[str, ...]  # label of each condition, empty for a control
    contexts: tuple[str, ...]  # its context

    @property
    def kept(self) -> Bool[np.ndarray, "rows"]:
        """Whether a row is read."""
        kept: np.ndarray = self.codes != LEFT_OUT
        return kept

    @property
    def controls(self) -> Bool[np.ndarray, "rows"]:
        """Whether a row is read and a control."""
        found: np.ndarray = self.kept & np.array([*(not label for label in self.labels), False])[self.codes]
        return found


def names_batches(column: str) -> bool:
    """Tell whether a column names batches, by a word in its name."""
    return _OF_BATCHES.fullmatch(column) is not None


def surely_batches(column: str) -> bool:
    """Tell whether a column names batches, and not replicates."""
    return _SURELY.search(column) is not None


def batches_of(column: Sequence[str], name: str, assigned: Assigned) -> Batches:
    """Number the strata of batch and context."""
    where = [assigned.contexts[code] if code != LEFT_OUT else "" for code in assigned.codes]
    keys = pd.MultiIndex.from_arrays([np.asarray(where, dtype=object), np.asarray(column, dtype=object)])
    numbers, distinct = pd.factorize(keys)
    return Batches(
        column=name,
        names=tuple(str(batch) for _, batch in distinct),
        contexts=tuple(str(context) for context, _ in distinct),
        of_row=np.where(assigned.kept, numbers, LEFT_OUT),
    )


def without_controls(batches: Batches, assigned: Assigned) -> Bool[np.ndarray, "rows"]:
    """Find the rows that are read, but whose batch has no controls to compare them with."""
    count = np.bincount(batches.of_row[assigned.controls], minlength=len(batches))
    bare: np.ndarray = assigned.kept & np.append(count == 0, False)[batches.of_row]
    return bare


def notes_on_batches(
    table: pd.DataFrame, assigned: Assigned, *, used: Collection[str], stated: str | None
) -> Iterator[str]:
    """Name the conditions of which a batch effect cannot be told, for each column that looks like batches."""
    if not assigned.controls.any() or not any(assigned.labels):
        return
    for name in map(str, table.columns):
        if name == stated or (name not in used and names_batches(name)):
            yield from _confounded(table[name], name, assigned, stated=name == stated)


def _confounded(column: pd.Series, name: str, assigned: Assigned, *, stated: bool) -> Iterator[str]:
    numbers, distinct = pd.factorize(column)
    kept = assigned.kept & (numbers >= 0)
    if not 1 < len(np.unique(numbers[kept])) <= min(_MOST_BATCHES, kept.sum() / 2):
        return
    of_condition: dict[int, set[int]] = {}
    conditions_in: dict[int, set[int]] = {}
    for code, batch in np.unique(np.stack([assigned.codes[kept], numbers[kept]]), axis=1).T.tolist():
        of_condition.setdefault(code, set()).add(batch)
        conditions_in.setdefault(batch, set()).add(code)
    if max(map(len, conditions_in.values())) == 1 and not surely_batches(name):
        return  # it numbers the samples, of which each is of one condition
    of_control = {
        assigned.contexts[code]: batches for code, batches in of_condition.items() if not assigned.labels[code]
    }
    apart, alone = [], []
    for code, batches in of_condition.items():
        beside = of_control.get(assigned.contexts[code], set())
        said = f"{assigned.labels[code]} ({', '.join(str(distinct[each]) for each in sorted(batches)[:_SHOWN])})"
        if beside and not beside & batches:
            apart.append(said)
        elif assigned.labels[code] and len(batches) == 1 < len(beside):
            alone.append(said)
    if apart:
        yield (
            f"{CONFOUNDED} {name!r}: {_shown(apart)} in batches without controls, so that effects cannot be"
            " told from what differs between batches; measure controls there, or"
            + (" remove them" if stated else f" leave them out with --batch-col {name} (batch_col=)")
        )
    if alone and not stated:
        yield (
            f"{_shown(alone)} in one value of {name!r} alone, and controls in several: what differs between these"
            f" is in the effects; --batch-col {name} (batch_col=) compares each row with the controls of its batch"
        )


def _shown(names: Sequence[str]) -> str:
    return some_of(names, _SHOWN)
