"""The experiments of a round as they are given out, with where each of them stands."""

from dataclasses import dataclass

import pandas as pd

from inverse_design.campaign.results import CAMPAIGN, ROUND
from inverse_design.campaign.store.events import OPEN_STATES, Asked, State, table_of
from inverse_design.campaign.store.protocol import Log
from inverse_design.recommend.protocol import PERTURBATION
from surrogates.errors import DataError
from surrogates.summary import as_html, counted, lines_of


@dataclass(frozen=True)
class Batch:
    """The experiments of one round.

    Attributes:
        table: One row per experiment as it was proposed, with the columns ``campaign`` and ``round`` before those
            of the recommendation; the same whenever it is asked for.
        expected_gain: Of the whole batch, in units of the utility; ``None`` if that is unknown.
    """

    round: int  # its number, from 1
    table: pd.DataFrame
    states: tuple[State, ...]  # where each experiment stands now
    expected_gain: float | None
    notes: tuple[str, ...]  # of the recommender
    fresh: bool = False  # whether it was proposed just now

    @property
    def labels(self) -> list[str]:
        """The perturbations of the round, as they were proposed."""
        return [str(each) for each in self.table[PERTURBATION]]

    def __repr__(self) -> str:
        gain = "" if self.expected_gain is None else f", expected gain {self.expected_gain:.3g}"
        return lines_of(
            f"Batch: round {self.round} of {len(self.table)} experiments, {len(self.open)} open{gain}",
            f"labels: {counted(self.labels)}",
            *[note for note in self.notes if note.startswith("warning")][:1],
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self).splitlines(), self.table, rows=len(self.table))

    @property
    def open(self) -> tuple[str, ...]:
        """The perturbations whose results are still to come."""
        pairs = zip(self.labels, self.states, strict=True)
        return tuple(name for name, state in pairs if state in OPEN_STATES)


def batch_of(log: Log, asked: Asked, *, fresh: bool = False) -> Batch:
    """Give a round out."""
    table = table_of(asked.columns)
    table.insert(0, CAMPAIGN, log.key)
    table.insert(1, ROUND, asked.round)
    states = tuple(one.state for one in log.experiments(round_number=asked.round))
    return Batch(asked.round, table, states, asked.expected_gain, asked.notes, fresh)


def open_round(log: Log) -> Asked | None:
    """Find the newest round that has results to come."""
    rounds = [one.round for one in log.experiments(states=OPEN_STATES)]
    return stated_round(log, max(rounds)) if rounds else None


def stated_round(log: Log, number: int | None) -> Asked:
    """Find a round that a user names.

    Raises:
        DataError: If there is no such round.
    """
    newest = log.newest("asked")
    if newest is None or not isinstance(newest.event, Asked):
        raise DataError(f"campaign {log.key!r} has no round yet; ask for one first")
    asked = newest.event if number in {None, newest.event.round} else _round(log, number)
    if asked is None:
        raise DataError(f"there is no round {number}; the newest is {newest.event.round}")
    return asked


def _round(log: Log, number: int | None) -> Asked | None:
    every = (one.event for one in log.events("asked"))
    return next((one for one in every if isinstance(one, Asked) and one.round == number), None)
