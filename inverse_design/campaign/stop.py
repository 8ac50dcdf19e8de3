"""The stop rule: what another round is expected to gain, against what it costs."""

from dataclasses import dataclass

from inverse_design.campaign.settings import CampaignSettings


@dataclass(frozen=True)
class Prospect:
    """What is known when another round is considered.

    Attributes:
        expected_gain: Of the round, in units of the utility; ``None`` if the planner could not say.
        gain: By how much the best utility has risen since the campaign began.
        noise: Standard error of a measured utility, ``None`` if there are no replicates.
        cost: Of the round.
        spent: On all rounds so far.
        measured: How many asked experiments have been measured.
    """

    expected_gain: float | None
    gain: float
    noise: float | None
    cost: float
    spent: float
    measured: int


@dataclass(frozen=True)
class Advice:
    """Whether another round is worth it.

    Attributes:
        stop: Whether to stop.
        reason: In words, with the numbers.
        expected_gain: Of the round, in units of the utility.
        cost: Of the round.
    """

    stop: bool
    reason: str
    expected_gain: float | None
    cost: float


def advise(prospect: Prospect, settings: CampaignSettings) -> Advice:
    """Weigh a round.

    With a ``value_per_gain`` the round must be worth its cost. Without one, its expected gain must be at least the
    replicate noise, below which a gain would not be seen, and ``least_gain`` of what was gained so far. The budget
    stops everything.

    Args:
        prospect: What is known.
        settings: Of the campaign.

    Returns:
        Whether to stop, and why.
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
        return False, "the planner cannot say what the round would gain"
    if settings.value_per_gain is not None:
        return _against_cost(gain, gain * settings.value_per_gain, cost)
    if prospect.noise is not None and gain < prospect.noise:
        return True, f"the expected gain {gain:.3g} is smaller than the replicate noise {prospect.noise:.3g}"
    return _against_past(prospect, gain, settings.least_gain)


def _against_cost(gain: float, worth: float, cost: float) -> tuple[bool, str]:
    words = f"the expected gain {gain:.3g} is worth {worth:,.6g}, and the round costs {cost:,.6g}"
    return worth < cost, words


def _against_past(prospect: Prospect, gain: float, least: float) -> tuple[bool, str]:
    if not prospect.measured:
        return False, f"the expected gain is {gain:.3g}, and nothing has been measured yet"
    if prospect.gain <= 0:
        return False, f"the expected gain is {gain:.3g}, and no round has gained anything yet"
    words = f"the expected gain {gain:.3g} is {gain / prospect.gain:.0%} of the gain so far, {prospect.gain:.3g}"
    return gain < least * prospect.gain, f"{words} (the least that is worth a round is {least:.0%})"
