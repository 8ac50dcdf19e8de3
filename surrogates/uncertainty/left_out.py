"""Sums over all held-out perturbations but one: so that what judges a perturbation does not know its error."""

from jaxtyping import Float, Int
from torch import Tensor


def sums_over_others(values: Float[Tensor, "n g"], same: Int[Tensor, "n"]) -> Float[Tensor, "n g"]:
    """Sum columns over the rows of all other perturbations.

    Args:
        values: Not negative, one row for each prediction.
        same: Number of the perturbation of each row, from zero: one that was held out twice has two rows.

    Returns:
        For each row the sums without those of its perturbation, not negative.
    """
    own = values.new_zeros(int(same.max()) + 1, values.shape[1]).index_add(0, same, values)
    return (values.sum(0) - own[same]).clamp(min=0)
