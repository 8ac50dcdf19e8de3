"""Protocol ``forward``: held-out effects predicted by the default model, beside every baseline."""

from surrogates.data.screen import Screen
from surrogates.evaluation.rows import Row
from surrogates.evaluation.scorecard import score_forward
from surrogates.models.interaction import Interaction

MODEL = "interaction"


def forward_rows(screen: Screen, *, seed: int) -> list[Row]:
    """Score the interaction model and the baselines on held-out doubles and on unseen singles.

    Args:
        screen: Measured effects in one context; ``provenance["dataset"]`` names it in the rows.
        seed: Fixes folds, fits and bootstrap.

    Returns:
        Two rows per task and model.

    Raises:
        DataError: If the screen has several contexts.
    """
    return score_forward(screen, {MODEL: Interaction()}, seed=seed)
