"""The maximum mean discrepancy of groups and of sets of rows [Gretton 2012], with several Gaussian kernels."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

WIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the kernels, relative to what is stated as their unit


def mean_discrepancy(rows: Float[Tensor, "b h"], groups: Int[Tensor, "b"]) -> Float[Tensor, ""]:
    """Average over pairs of groups ``mean k(x, x') + mean k(y, y') - 2 mean k(x, y)``; zero for one group.

    The kernel is the mean of ``exp(-|x - x'|^2 / (w d))`` over some widths ``w``, with ``d`` the mean squared
    distance of all rows, through which no gradient flows. Means are over all pairs, a row with itself among them.
    """
    names, place, sizes = groups.unique(return_inverse=True, return_counts=True)
    if len(names) < 2:
        return rows.sum() * 0.0
    squares = rows.square().sum(1)
    distance = (squares[:, None] + squares - 2 * rows @ rows.T).clamp_min(0)
    unit = distance.detach().mean().clamp_min(torch.finfo(rows.dtype).tiny)
    kernel = torch.stack([(-distance / (width * unit)).exp() for width in WIDTHS]).mean(0)
    share = torch.nn.functional.one_hot(place, len(names)).to(rows) / sizes
    between = share.T @ kernel @ share
    count = len(names)
    # The sum over pairs i < j of B_ii + B_jj - 2 B_ij.
    total: Tensor = (count * between.trace() - between.sum()) / (count * (count - 1) / 2)
    return total


def discrepancy(one: Float[Tensor, "b n r"], other: Float[Tensor, "b m r"], length: float) -> Float[Tensor, "b"]:
    """Compare sets by their squared maximum mean discrepancy, under a mean of Gaussian kernels [Gretton 2012]."""

    def likeness(x: Float[Tensor, "b _ r"], y: Float[Tensor, "b _ r"]) -> Float[Tensor, "b"]:
        apart = (x[:, :, None] - y[:, None]).square().sum(3) / (2 * length**2)
        return torch.stack([(-apart / each**2).exp() for each in WIDTHS]).mean((0, 2, 3))

    return likeness(one, one) + likeness(other, other) - 2 * likeness(one, other)
