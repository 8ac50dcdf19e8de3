"""The experiments of a round: as they are given out, and what was stated of them beside what was measured."""

from dataclasses import dataclass

import pandas as pd
import torch

from inverse_design.acquisition.utility import measured_utility, utility_of
from inverse_design.campaign.results import CAMPAIGN, ROUND
from inverse_design.campaign.store.events import OPEN_STATES, Arranged, Asked, State, table_of
from inverse_design.campaign.store.protocol import Log
from inverse_design.campaign.wells import Known
from inverse_design.problem.target import Target, is_state
from inverse_design.recommend.protocol import PERTURBATION
from surrogates.errors import DataError, amount
from surrogates.summary import as_html, counted, lines_of


@dataclass(frozen=True)
class Batch:
    """The experiments of one round."""

    round: int  # its number, from 1
    # One row per experiment as it was proposed, with the columns ``campaign`` and ``round`` before those of the
    # recommendation; the same whenever it is asked for.
    table: pd.DataFrame
    states: tuple[State, ...]  # where each experiment stands now
    expected_gain: float | None  # of the whole batch, in units of the utility; ``None`` if that is unknown
    notes: tuple[str, ...]  # of the recommender
    fresh: bool = False  # whether it was proposed just now
    pinned: tuple[str, ...] = ()  # the perturbations that somebody put first

    @property
    def labels(self) -> list[str]:
        """The perturbations of the round, as they were proposed."""
        return [str(each) for each in self.table[PERTURBATION]]

    def __repr__(self) -> str:
        gain = "" if self.expected_gain is None else f", expected gain {self.expected_gain:.3g}"
        return lines_of(
            f"Batch: round {self.round} of {amount(len(self.table), 'experiment')}, {len(self.open)} open{gain}",
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
    pinned = arrangement_of(log, asked.round).pinned
    return Batch(asked.round, table, states, asked.expected_gain, asked.notes, fresh, pinned)


def arrangement_of(log: Log, round_number: int) -> Arranged:
    """Find how a round was arranged last."""
    every = [one.event for one in log.events("arranged") if isinstance(one.event, Arranged)]
    return next((each for each in reversed(every) if each.round == round_number), Arranged(round_number))


def open_round(log: Log) -> Asked | None:
    """Find the newest round that has results to come."""
    rounds = [one.round for one in log.experiments(states=OPEN_STATES)]
    return stated_round(log, max(rounds)) if rounds else None


def stated_round(log: Log, number: int | None) -> Asked:
    """Find a round that a user names."""
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


STATED = ("predicted", "lower", "upper", "chosen")
MEASURED = "measured"
OUTCOME_COLUMNS = (ROUND, PERTURBATION, *STATED, MEASURED)


def partial_utilities(known: Known, target: Target) -> dict[str, float]:
    """Value the conditions that lack readouts, but none of the target's."""
    aligned = target.on(known.screen.readouts)
    values = {label: torch.from_numpy(each)[aligned.columns] for label, each in known.partial.items()}
    utility = utility_of(target, aligned)
    return {
        label: float(utility.utility(each[None])) for label, each in values.items() if bool(each.isfinite().all())
    }


def utilities(known: Known, target: Target) -> dict[str, float]:
    """Value everything that was measured."""
    whole = measured_utility(target, known.screen).tolist()
    return {**dict(zip(known.screen.labels, whole, strict=True)), **partial_utilities(known, target)}


def outcomes_of(log: Log, known: Known, target: Target) -> pd.DataFrame:
    """Set what was stated beside what was measured.

    Bounds are on the outcome that an experiment shows, a distance or a projection. So is what counts as measured,
    the outcome of the mean over all wells of the perturbation.
    """
    sign = -1.0 if is_state(target) else 1.0
    outcome = {label: sign * utility for label, utility in utilities(known, target).items()}
    rounds = [pd.DataFrame(columns=list(OUTCOME_COLUMNS))]
    for one in log.events("asked"):
        if isinstance(one.event, Asked):
            batch = batch_of(log, one.event)
            done = batch.table[[state == "measured" for state in batch.states]]
            found = done[PERTURBATION].map(outcome)
            rounds.append(done.assign(**{MEASURED: found}).reindex(columns=list(OUTCOME_COLUMNS)))
    filled = [each for each in rounds if len(each)]
    return pd.concat(filled, ignore_index=True) if filled else rounds[0]


def missed_shares(found: pd.DataFrame) -> tuple[float, ...]:
    """Say how often the bounds of designed picks failed."""
    known = found[found["chosen"] == "designed"].dropna(subset=["lower", "upper", MEASURED])
    inside = known[MEASURED].between(known["lower"], known["upper"])
    return tuple((~inside).groupby(known[ROUND]).mean().tolist())
