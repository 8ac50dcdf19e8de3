"""What was stated of each experiment before it was done, beside what was measured."""

import pandas as pd

from inverse_design.acquisition.utility import measured_utility
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.planner import PERTURBATION
from inverse_design.campaign.results import ROUND
from inverse_design.valuation import Aim

STATED = ("predicted", "lower", "upper", "chosen")
MEASURED = "measured"
OUTCOME_COLUMNS = (ROUND, PERTURBATION, *STATED, MEASURED)


def outcomes(campaign: Campaign) -> pd.DataFrame:
    """Set what the planner stated beside what was measured.

    Bounds are on the outcome that an experiment shows, a distance or a projection. So is what counts as measured,
    the outcome of the mean over all wells of the perturbation.
    """
    screen = campaign.screen()
    aim = Aim.at(campaign.target, screen)
    utility = measured_utility(campaign.target, screen).tolist()
    outcome = {label: aim.outcome(each) for label, each in zip(screen.labels, utility, strict=True)}
    rounds = [pd.DataFrame(columns=list(OUTCOME_COLUMNS))]
    for number in range(1, campaign.status().rounds + 1):
        batch = campaign.batch(number)
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
