"""Is a prediction nearer to what its own perturbation did than to what the others did?"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def centroid_accuracy(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Say which fraction of the other perturbations lie farther from each prediction than its own.

    The distance is Euclidean, and equal distances count half (Systema, Viñas Torné et al. 2025).

    Args:
        prediction: Predicted effects.
        truth: Measured effects of the same perturbations, which are each other's rivals.

    Returns:
        Fractions from 0 to 1, 0.5 by chance; ``nan`` for a perturbation without rivals.
    """
    distances = torch.cdist(
        prediction, truth, compute_mode="donot_use_mm_for_euclid_dist"
    )  # so that ties are exact
    b = len(truth)
    return 1 - _nearer_rivals(distances, torch.arange(b)) / (b - 1)


def discrimination_rows(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], excluded: Bool[Tensor, "b g"]
) -> Float[Tensor, "b"]:
    """Rank the perturbation that each prediction is for among all, by the sum of absolute differences.

    This is the perturbation discrimination score of the Virtual Cell Challenge as cell-eval computes it
    (``discrimination_score_l1``): ``1 - rank / b``, where the rank counts from 0 the perturbations whose measured
    effects are nearer to the prediction. Its best value is 1 and its worst ``1 / b``. The older definition,
    ``1 - 2 rank / b``, is twice this score minus one. Equal distances count half, where cell-eval lets its sorting
    decide.

    Args:
        prediction: Predicted effects.
        truth: Measured effects of the same perturbations, which are each other's rivals.
        excluded: Readouts that the search for that row's perturbation leaves out: those of its own targets, whose
            change gives the perturbation away.

    Returns:
        Scores, pure numbers; about 0.5 by chance.
    """
    ranks = prediction.new_empty(len(prediction))
    for row, keep in enumerate(~excluded):
        distances = torch.cdist(prediction[row, keep][None], truth[:, keep], p=1)
        ranks[row] = _nearer_rivals(distances, torch.tensor([row]))
    return 1 - ranks / len(truth)


def _nearer_rivals(distances: Float[Tensor, "m b"], own: Int[Tensor, "m"]) -> Float[Tensor, "m"]:
    """Count the columns that are nearer than each row's own one, equally near ones half."""
    mine = distances.gather(1, own[:, None])
    ties = (distances == mine).sum(1) - 1
    return (distances < mine).sum(1) + ties.to(distances.dtype) / 2
