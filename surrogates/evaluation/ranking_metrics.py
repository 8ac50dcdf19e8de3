"""Do the readouts that a model ranks first change most, or at all?"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.errors import DataError


def top_overlap_rows(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], *, k: int
) -> Float[Tensor, "b"]:
    """Say which fraction of the ``k`` readouts that change most are among the ``k`` predicted to change most.

    Change is the absolute effect. Readouts tied at the k-th place share it: the result is what breaking ties at
    random gives on average, so that no change scores what chance does. This is cell-eval's ``overlap_at_k`` of
    effects, and its ``overlap_at_N`` with ``k`` the number of readouts that truly change.

    Args:
        prediction: Predicted effects.
        truth: Measured effects.
        k: How many readouts.

    Returns:
        Fractions from 0 to 1, ``k / g`` by chance.

    Raises:
        DataError: If there are no ``k`` readouts, or none are asked for.
    """
    if not 1 <= k <= truth.shape[1]:
        raise DataError(f"the top {k} of {truth.shape[1]} readouts do not exist; ask for 1 to {truth.shape[1]}")
    return (_membership(prediction.abs(), k) * _membership(truth.abs(), k)).sum(1) / k


def average_precision_rows(score: Float[Tensor, "b g"], truth: Bool[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Sum up precision over the steps of recall, as readouts are called changed from the highest score down.

    The area under the precision-recall curve without interpolation, ``sum_k (recall_k - recall_k-1) precision_k``
    over the distinct scores, so that tied readouts are called together. To compare rows, set it against
    :func:`prevalence_rows`, which is what a constant score gets.

    Args:
        score: How surely each readout is said to change, for example the absolute predicted effect.
        truth: Whether it does.

    Returns:
        Average precision from 0 to 1; ``nan`` where no readout changes.

    Raises:
        DataError: If a score is not a number.
    """
    precision, _, changed = _curve(score, truth)
    return (precision * changed).sum(1) / changed.sum(1)


def prevalence_rows(truth: Bool[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Say which fraction of the readouts change: the average precision of a score that tells nothing.

    Args:
        truth: Whether each readout changes.

    Returns:
        Fractions from 0 to 1.
    """
    return truth.double().mean(1)


def precision_at_recall(
    score: Float[Tensor, "b g"], truth: Bool[Tensor, "b g"], *, recall: float
) -> Float[Tensor, "b"]:
    """Find the best precision of each row among the score thresholds that recall enough.

    Args:
        score: How surely each readout is said to change.
        truth: Whether it does.
        recall: The fraction of changing readouts to be called, above 0 and up to 1. The precision is the largest
            over all thresholds that call at least so many, not the one where recall first gets there.

    Returns:
        Precision from 0 to 1, at least the prevalence; ``nan`` where no readout changes.

    Raises:
        DataError: If the recall is out of range or a score is not a number.
    """
    if not 0 < recall <= 1:
        raise DataError(f"recall is {recall}; it must be above 0 and at most 1")
    precision, recalled, changed = _curve(score, truth)
    best = torch.where(recalled >= recall, precision, 0).amax(1)
    return torch.where(changed.any(1), best, torch.nan)


def _curve(
    score: Float[Tensor, "b g"], truth: Bool[Tensor, "b g"]
) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b g"], Bool[Tensor, "b g"]]:
    """Call all readouts of at least each one's score: precision, recall, and whether that one changes."""
    if bool(score.isnan().any()):
        raise DataError("a score is nan; give readouts that were not scored the lowest score")
    ascending, order = score.sort(dim=1)
    changed = truth.gather(1, order)
    first = torch.searchsorted(ascending, ascending)  # of the readouts tied with each
    hits = changed.flip(1).cumsum(1).flip(1).gather(1, first).double()
    return hits / (score.shape[1] - first), hits / changed.sum(1, keepdim=True), changed


def _membership(size: Float[Tensor, "b g"], k: int) -> Float[Tensor, "b g"]:
    """Give the chance of each readout to be among the ``k`` largest when ties are broken at random."""
    least = size.topk(k, dim=1).values[:, -1:]
    inside, tied = size > least, size == least
    shared = (k - inside.sum(1, keepdim=True)).double() / tied.sum(1, keepdim=True)
    return (inside + tied * shared).to(size.dtype)
