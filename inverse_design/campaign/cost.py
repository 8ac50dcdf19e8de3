"""What experiments cost: reagents, wells, and a fee for each round."""

import math
from collections.abc import Sequence

from inverse_design.campaign.settings import CampaignSettings
from surrogates.data.perturbation import Perturbation


def experiment_cost(settings: CampaignSettings, label: str) -> float:
    """Add up what one experiment costs beside its round.

    Args:
        settings: Of the campaign.
        label: Of the perturbation.

    Returns:
        Its wells and its reagents; a cost may be stated for a target or for one of its doses.
    """
    costs, parts = settings.costs, Perturbation.parse(label).interventions
    reagents = sum(costs.get(part.label, costs.get(part.target, 0.0)) for part in parts)
    return settings.replicates * settings.cost_per_well + reagents


def round_cost(settings: CampaignSettings, labels: Sequence[str]) -> float:
    """Add up what a round costs.

    Args:
        settings: Of the campaign.
        labels: Of its perturbations.

    Returns:
        Its fee, its experiments, and the controls of as many plates as it fills; zero if it is empty.
    """
    if not labels:
        return 0.0
    wells = len(labels) * settings.replicates
    plates = math.ceil(wells / (settings.plate_size - settings.controls))
    fixed = settings.cost_per_round + settings.cost_per_well * plates * settings.controls
    return fixed + sum(experiment_cost(settings, label) for label in labels)


def affordable(settings: CampaignSettings, labels: Sequence[str], *, left: float) -> list[int]:
    """Take experiments in their order as long as the round can be paid; one that is too dear is passed over.

    Args:
        settings: Of the campaign.
        labels: Of the perturbations, best first.
        left: What may be spent.

    Returns:
        Which can be done together.
    """
    taken: list[int] = []
    for place, label in enumerate(labels):
        if round_cost(settings, [*(labels[one] for one in taken), label]) <= left:
            taken.append(place)
    return taken
