"""Where a campaign stands."""

from collections.abc import Mapping
from dataclasses import dataclass

from inverse_design.acquisition.worth import measured_utility, utility_error
from inverse_design.campaign.asking import Basis, spent_on
from inverse_design.campaign.events import Told
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.state import OPEN_STATES, State
from inverse_design.campaign.stop import Prospect
from inverse_design.campaign.store import Log
from inverse_design.problem.target import Target
from surrogates.data.screen import Screen


@dataclass(frozen=True)
class Status:
    """Where a campaign stands.

    Attributes:
        key: Identity of the campaign.
        rounds: How many were proposed.
        counts: How many experiments are in each state; extra ones count, too.
        extras: How many of them nobody had asked for.
        wells: How many wells gave values.
        open: Perturbations whose results are still to come.
        best: The best perturbation that is known.
        utility: Its utility: minus a distance, or a projection.
        gain: By how much that is more than the best of the starting screen.
        noise: Standard error of a measured utility, ``None`` if there are no replicates.
        spent: What all rounds cost.
        flagged: Values that were out of scale, in words.
    """

    key: str
    rounds: int
    counts: Mapping[State, int]
    extras: int
    wells: int
    open: tuple[str, ...]
    best: str
    utility: float
    gain: float
    noise: float | None
    spent: float
    flagged: tuple[str, ...]


def status_of(log: Log, basis: Basis, *, start: Screen, target: Target, settings: CampaignSettings) -> Status:
    """Say where a campaign stands.

    Args:
        log: Of the campaign.
        basis: What is known now.
        start: The starting screen.
        target: Where the cells should go.
        settings: Of the campaign.

    Returns:
        The status.
    """
    utility, before = measured_utility(target, basis.screen), measured_utility(target, start)
    best = int(utility.argmax())
    told = [one.event for one in log.events("told") if isinstance(one.event, Told)]
    return Status(
        key=log.key,
        rounds=basis.round - 1,
        counts=log.counts(),
        extras=sum(one.extra for one in told),
        wells=sum(one.values for one in told),
        open=tuple(one.perturbation for one in log.experiments(states=OPEN_STATES)),
        best=basis.screen.perturbation(best).label,
        utility=float(utility[best]),
        gain=float(utility[best] - before.max()),
        noise=utility_error(target, basis.screen),
        spent=spent_on(log, settings),
        flagged=tuple(sentence for one in told for sentence in one.flagged),
    )


def prospect_of(status: Status, *, expected_gain: float | None, cost: float, recorded: bool) -> Prospect:
    """Collect what the stop rule weighs.

    Args:
        status: Where the campaign stands.
        expected_gain: Of the round that is considered.
        cost: Of that round.
        recorded: Whether the round has been recorded, so that its cost is among what was spent.

    Returns:
        The prospect.
    """
    return Prospect(
        expected_gain=expected_gain,
        gain=status.gain,
        noise=status.noise,
        cost=cost,
        spent=status.spent - (cost if recorded else 0.0),
        measured=status.counts["measured"],
    )
