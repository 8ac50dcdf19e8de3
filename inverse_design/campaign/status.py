"""Where a campaign stands, what happened in it, and whether another round is worth its cost."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from inverse_design.acquisition.utility import measured_utility, utility_error
from inverse_design.campaign.ask import Basis, spent_on
from inverse_design.campaign.rounds import utilities
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.store.chain import Head
from inverse_design.campaign.store.events import OPEN_STATES, State
from inverse_design.campaign.store.protocol import Log
from inverse_design.campaign.wells import partial_words, taken_back
from inverse_design.problem.target import Target, is_state
from surrogates.data.screen import Screen
from surrogates.errors import amount, some_of


@dataclass(frozen=True)
class Prospect:
    """What is known when another round is considered."""

    expected_gain: float | None  # of the round, in units of the utility; ``None`` if that is unknown
    gain: float  # by how much the best utility has risen since the campaign began
    noise: float | None  # standard error of a measured utility, ``None`` if there are no replicates
    cost: float  # of the round
    spent: float  # on all rounds so far
    measured: int  # how many asked experiments have been measured


@dataclass(frozen=True)
class Advice:
    """Whether another round is worth it."""

    stop: bool  # whether to stop
    reason: str  # in words, with the numbers
    expected_gain: float | None  # of the round, in units of the utility
    cost: float  # of the round


def advise(prospect: Prospect, settings: CampaignSettings) -> Advice:
    """Weigh a round.

    With a ``value_per_gain`` the round must be worth its cost. Without one, its expected gain must be at least the
    replicate noise, below which a gain would not be seen, and ``least_gain`` of what was gained so far. The budget
    stops everything.
    """
    stop, reason = _weighed(prospect, settings)
    return Advice(stop, reason, prospect.expected_gain, prospect.cost)


def _weighed(prospect: Prospect, settings: CampaignSettings) -> tuple[bool, str]:
    budget, cost, gain = settings.budget, prospect.cost, prospect.expected_gain
    if budget is not None and prospect.spent + cost > budget:
        return (
            True,
            f"the round costs {cost:,.6g}, and {max(0.0, budget - prospect.spent):,.6g} of the budget are left",
        )
    if gain is None:
        return False, "the recommender cannot say what the round would gain"
    if settings.value_per_gain is not None:
        return _against_cost(gain, gain * settings.value_per_gain, cost)
    if prospect.noise is not None and gain < prospect.noise:
        return (
            True,
            f"the expected gain {in_figures(gain)} is smaller than the replicate noise {prospect.noise:.3g}",
        )
    return _against_past(prospect, gain, settings.least_gain)


def _against_cost(gain: float, worth: float, cost: float) -> tuple[bool, str]:
    words = f"the expected gain {in_figures(gain)} is worth {worth:,.6g}, and the round costs {cost:,.6g}"
    return worth < cost, words


def _against_past(prospect: Prospect, gain: float, least: float) -> tuple[bool, str]:
    if not prospect.measured:
        return False, f"the expected gain is {in_figures(gain)}, and nothing has been measured yet"
    if prospect.gain <= 0:
        return False, f"the expected gain is {in_figures(gain)}, and no round has gained anything yet"
    share = f"{gain / prospect.gain:.0%} of the gain so far, {prospect.gain:.3g}"
    words = f"the expected gain {in_figures(gain)} is {share}"
    return gain < least * prospect.gain, f"{words} (the least that is worth a round is {least:.0%})"


def in_figures(gain: float) -> str:
    """Write an expected gain; of one that no assay could show, the digits say nothing."""
    return f"{gain:.3g}" if gain >= _LEAST or gain <= 0 else f"below {_LEAST:g}"


_LEAST = 1e-9  # of an expected gain whose digits are shown


@dataclass(frozen=True)
class Status:
    """Where a campaign stands."""

    key: str  # identity of the campaign
    rounds: int  # how many were proposed
    counts: Mapping[State, int]  # how many experiments are in each state; extra ones count, too
    extras: int  # how many of them nobody had asked for
    wells: int  # how many wells gave values
    open: tuple[str, ...]  # perturbations whose results are still to come
    best: str  # the best perturbation that is known
    utility: float  # its utility: minus a distance, or a projection
    nearness: bool  # whether it is minus a distance
    gain: float  # by how much that is more than the best of the starting screen
    noise: float | None  # standard error of a measured utility, ``None`` if there are no replicates
    spent: float  # what all rounds cost
    flagged: tuple[str, ...]  # values that are out of scale, in words
    left_out: tuple[str, ...]  # wells that nothing can be computed with, in words, with the remedy
    partial: tuple[str, ...]  # conditions that lack readouts, and which
    taken_back: int  # how many wells were retracted, or replaced by others

    @property
    def verdict(self) -> str:
        """Where the campaign stands, in plain words: its best, what that is worth, and how much was done."""
        measured = amount(self.counts.get("measured", 0), "experiment")
        done = f"{amount(self.rounds, 'round')}, {measured} measured, {len(self.open)} to come"
        return f"Best so far: {self.best_in_words}. {done}."

    @property
    def oddities(self) -> tuple[str, ...]:
        """What is left out of averages, or out of scale, in words."""
        return (
            *(f"left out: {each}" for each in self.left_out),
            *(f"out of scale: {each}" for each in self.flagged),
        )

    @property
    def incomplete(self) -> str:
        """Which conditions lack readouts, and how they enter."""
        return f"{some_of(self.partial)}; averages have them, fits take complete conditions only"

    @property
    def best_in_words(self) -> str:
        """The best perturbation, and what it is worth."""
        what, value = ("distance", -self.utility) if self.nearness else ("utility", self.utility)
        known = "" if self.noise is None else f"; a measured {what} is known to {self.noise:.3g}"
        better = f"{self.gain:.3g} {'nearer' if self.nearness else 'more'} than the best of the starting screen"
        so_far = better if self.gain > 0 else "the best of the starting screen"
        return f"{self.best}, {what} {value:.3g}, {so_far}{known}"


def status_of(log: Log, basis: Basis, *, start: Screen, target: Target, settings: CampaignSettings) -> Status:
    """Say where a campaign stands."""
    utility, before = utilities(basis.known, target), measured_utility(target, start)
    best = max(utility, key=utility.__getitem__)
    extras = [one for one in log.experiments(round_number=0) if one.state in {"measured", "failed"}]
    return Status(
        key=log.key,
        rounds=basis.round - 1,
        counts=log.counts(),
        extras=len(extras),
        wells=basis.wells.values,
        open=tuple(one.perturbation for one in log.experiments(states=OPEN_STATES)),
        best=best,
        utility=utility[best],
        nearness=is_state(target),
        gain=float(utility[best] - before.max()),
        noise=utility_error(target, basis.screen),
        spent=spent_on(log, settings),
        flagged=basis.wells.flagged,
        left_out=basis.wells.left_out,
        partial=partial_words(basis.known.partial, start.readouts),
        taken_back=len(taken_back(log)),
    )


def facts_of(status: Status, settings: CampaignSettings, target: Target, head: Head) -> dict[str, str]:
    """Say where a campaign stands, name by name."""
    budget = "no budget is set" if settings.budget is None else f"{settings.budget:,.6g} is the budget"
    counts = ", ".join(f"{count:,} {state}" for state, count in status.counts.items() if count)
    return {
        "campaign": f"{settings.name}, key {status.key}",
        "target": target.name,
        "rounds": f"{status.rounds}: {counts or 'no experiment yet'}",
        "extra": f"{status.extras} experiments told that nobody asked for" if status.extras else "none",
        "wells": f"{status.wells:,} gave values"
        + (f"; {status.taken_back:,} retracted" * bool(status.taken_back)),
        **({"incomplete": status.incomplete} if status.partial else {}),
        "to come": some_of(status.open) or "nothing",
        "best": status.best_in_words,
        "spent": f"{status.spent:,.6g}; {budget}",
        "log": f"event {head.sequence}, hash {head.hash}",
    }


def prospect_of(status: Status, *, expected_gain: float | None, cost: float, recorded: bool) -> Prospect:
    """Collect what the stop rule weighs."""
    return Prospect(
        expected_gain=expected_gain,
        gain=status.gain,
        noise=status.noise,
        cost=cost,
        spent=status.spent - (cost if recorded else 0.0),
        measured=status.counts["measured"],
    )


def history_of(log: Log) -> pd.DataFrame:
    """List every event."""
    rows = [(one.sequence, one.time, one.actor, one.event.kind, one.event.words) for one in log.events()]
    return pd.DataFrame(rows, columns=["sequence", "time", "actor", "kind", "what"])
