"""The effects of interventions given alone, and sums of them: what additive models are made of."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.context import require_one_context


def single_effects(screen: Screen) -> tuple[Float[Tensor, "v g"], Bool[Tensor, "v"]]:
    """Look up the effect of each vocabulary entry given alone.

    The same target at two doses is two entries, each with its own effect.

    Args:
        screen: Measured effects in one context.

    Returns:
        The effect of each entry, in the unit of the screen, and whether it was measured alone; an entry that
        was not gets the mean of all single effects.

    Raises:
        DataError: If the screen has several contexts, or nothing in it was measured alone.
    """
    require_one_context(screen)
    rows = screen.single_rows
    measured_alone = rows >= 0
    if not bool(measured_alone.any()):
        raise DataError(
            f"none of the {len(rows)} interventions was measured alone; add single perturbations, or take a"
            " model that needs none, such as matching_mean"
        )
    mean = screen.effects[rows[measured_alone]].mean(0)
    return torch.where(measured_alone[:, None], screen.effects[rows], mean), measured_alone


def sum_over_interventions(rows: Float[Tensor, "v g"], batch: PerturbationBatch) -> Float[Tensor, "b g"]:
    """Add up the rows of the interventions of each perturbation.

    Args:
        rows: One row per vocabulary entry.
        batch: The perturbations.

    Returns:
        One sum per perturbation; zeros for the control.
    """
    return (rows[batch.genes.clamp(min=0)] * batch.present[:, :, None]).sum(1)
