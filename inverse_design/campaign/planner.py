"""What a planner is given and what it answers, and the experiments of a round with where each of them stands."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd

from inverse_design.campaign.results import CAMPAIGN, ROUND
from inverse_design.campaign.store.events import OPEN_STATES, Asked, State, table_of
from inverse_design.campaign.store.protocol import Log
from inverse_design.errors import PlanError
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.summary import as_html, counted, lines_of

PERTURBATION = "perturbation"
PLAN_COLUMNS = (
    PERTURBATION, "predicted", "lower", "upper", "expected_gain", "probability", "chosen", "log_probability",
    "novelty", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The experiments of one round, as a planner proposes them.

    Attributes:
        table: One row per experiment, best first, with the columns ``perturbation`` (label), ``predicted``,
            ``lower``, ``upper``, ``expected_gain``, ``probability``, ``chosen`` (``"designed"`` or
            ``"random"``), ``log_probability`` (of a random pick, else NaN), ``novelty`` and ``reason``. Only
            ``perturbation`` is required; further columns are kept.
        model: The fitted model behind the plan as the content of a safetensors file, or ``None``.
    """

    table: pd.DataFrame
    expected_gain: float  # of the whole batch, in units of the utility: what the stop rule reads
    notes: tuple[str, ...] = ()  # remarks for the user, such as what could not be modelled
    model: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse a table that names no experiments, or one of them twice."""
        if PERTURBATION not in self.table:
            raise PlanError(f"the plan has no column {PERTURBATION!r}, only {', '.join(map(str, self.table))}")
        labels = self.table[PERTURBATION]
        if labels.duplicated().any():
            raise PlanError(
                f"the plan proposes {labels[labels.duplicated()].iloc[0]!r} twice; one row per experiment"
            )


@runtime_checkable
class Planner(Protocol):
    """Chooses experiments. The same arguments must give the same plan: a replay of the log relies on it."""

    def plan(self, screen: Screen, count: int, *, pending: tuple[Perturbation, ...], seed: int) -> Plan:
        """Choose the experiments of a round.

        Args:
            screen: Everything that is known: the starting screen and the told results, averaged over replicates.
            count: How many experiments are wanted; fewer may be proposed.
            pending: Experiments that were proposed or ordered and whose results are not known yet.
            seed: Fixes everything that is random.

        Returns:
            The plan.

        Raises:
            NothingToProposeError: If no candidate is left.
        """
        ...


@dataclass(frozen=True)
class Batch:
    """The experiments of one round.

    Attributes:
        table: One row per experiment as it was proposed, with the columns ``campaign`` and ``round`` before those
            of the planner; the same whenever it is asked for.
        expected_gain: Of the whole batch, in units of the utility; ``None`` if the planner could not say.
    """

    round: int  # its number, from 1
    table: pd.DataFrame
    states: tuple[State, ...]  # where each experiment stands now
    expected_gain: float | None
    notes: tuple[str, ...]  # of the planner
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
        pairs = zip(self.table[PERTURBATION], self.states, strict=True)
        return tuple(str(name) for name, state in pairs if state in OPEN_STATES)


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
