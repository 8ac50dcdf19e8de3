"""How like predicted effects are to measured ones, as others measure it: PerturBench, and Mejia et al. 2025."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def cosine_rows(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Take the cosine of each predicted and measured effect.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.

    Returns:
        One cosine per row; ``nan`` for a prediction of no change.
    """
    return (prediction * truth).sum(1) / (prediction.norm(dim=1) * truth.norm(dim=1))


def rank_rows(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Count for each measured effect the predictions that are more like it than its own, by cosine.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.

    Returns:
        Shares of all predictions, 0 is best; equal ones count half, and no change is like nothing.
    """
    norms = prediction.norm(dim=1)[:, None] * truth.norm(dim=1)
    alike = torch.where(norms > 0, prediction @ truth.T / norms, 0.0)
    own = alike.diagonal()
    ties = (alike == own).sum(0).double() - 1
    return ((alike > own).sum(0) + ties / 2) / len(truth)


def difference_weights(effects: Float[Tensor, "n g"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b g"]:
    """Weigh readouts by how much a perturbation differs in them from the mean of all others.

    Args:
        effects: Measured effects of all perturbations.
        rows: Those that are weighed.

    Returns:
        Absolute differences, brought to 0 to 1 in each row, squared, and divided by their sum.
    """
    n = len(effects)
    others = (effects.sum(0) - effects[rows]) / (n - 1)
    apart = (effects[rows] - others).abs()
    low, high = apart.amin(1, keepdim=True), apart.amax(1, keepdim=True)
    weights = ((apart - low) / (high - low)).square()
    return weights / weights.sum(1, keepdim=True)


def weighted_r_squared_rows(
    prediction: Float[Tensor, "b g"],
    truth: Float[Tensor, "b g"],
    weights: Float[Tensor, "b g"],
    reference: Float[Tensor, "g"],
) -> Float[Tensor, "b"]:
    """Say which share of the weighted variance of each row's difference to a reference is predicted.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.
        weights: Of the readouts, with sum one in each row.
        reference: The mean perturbation.

    Returns:
        Weighted R², at most one; below zero for a row predicted as the reference.
    """
    apart = truth - reference
    middle = (weights * apart).sum(1, keepdim=True)
    unexplained = (weights * (prediction - truth).square()).sum(1)
    return 1 - unexplained / (weights * (apart - middle).square()).sum(1)
