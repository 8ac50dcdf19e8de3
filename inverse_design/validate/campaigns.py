"""How often the bounds held that a campaign stated before each round."""

import torch

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.results import ROUND
from inverse_design.campaign.rounds import MEASURED
from inverse_design.validate.judged import Rounds, rounds_rows, uncovered
from surrogates.evaluation.intervals import Row


def coverage_of(campaign: Campaign) -> tuple[list[Row], list[str]]:
    """Count how often the bounds held that were stated before each round, and say where they did too seldom."""
    known = campaign.outcomes().dropna(subset=["lower", "upper", MEASURED])
    if known.empty:
        return [], []
    chosen = known["chosen"]
    rounds = Rounds(
        number=torch.tensor(known[ROUND].to_numpy(int)),
        lower=torch.tensor(known["lower"].to_numpy(float)),
        upper=torch.tensor(known["upper"].to_numpy(float)),
        measured=torch.tensor(known[MEASURED].to_numpy(float)),
        random=None if chosen.isna().any() else torch.tensor((chosen == "random").to_numpy(bool)),
    )
    rows = rounds_rows(rounds, dataset="campaign", seed=0)
    return rows, uncovered(rows, campaign.settings.level)
