"""What was stated of each experiment before it was done, beside what was measured."""

import pandas as pd
import torch

from inverse_design.acquisition.utility import measured_utility, utility_of
from inverse_design.campaign.results import ROUND
from inverse_design.campaign.rounds import batch_of
from inverse_design.campaign.store.events import Asked
from inverse_design.campaign.store.protocol import Log
from inverse_design.campaign.wells import Known
from inverse_design.problem.target import Target, is_state
from inverse_design.recommend.protocol import PERTURBATION

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
