"""The standard error of a mean over combinations that share genes: ``A+B`` and ``A+C`` are not independent."""

import math
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.canonical import number_rows


def dyadic_standard_error(values: Float[Tensor, "n"], nodes: Int[Tensor, "n k"]) -> float:
    """Find the standard error of a mean over rows that are correlated wherever they share a gene.

    With ``r`` the deviations from the mean and G the number of genes, ``V = sum(r_d r_e) / n² * G / (G - 1)`` over
    all ordered pairs of rows ``d, e`` that share a gene, each row with itself included (Fafchamps and Gubert 2007;
    Aronow, Samii and Assenova 2015). By chance that sum may be smaller than the one for independent rows, even
    negative; the larger of the two is taken, so that sharing genes never makes a mean look surer.

    Example:
        >>> error = dyadic_standard_error(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([[0, 1], [0, 2], [3, 4]]))
    """
    defined = ~values.isnan()
    used = nodes[defined]
    n, genes = len(used), len(used[used >= 0].unique())
    if n < 2 or genes < 2:
        return math.nan
    deviations = values[defined].double()
    deviations = deviations - deviations.mean()
    total = max(_sum_over_sharing(deviations, used), float(deviations.square().sum()))
    return float((total / n**2 * genes / (genes - 1)) ** 0.5)


def _sum_over_sharing(deviations: Float[Tensor, "n"], nodes: Int[Tensor, "n k"]) -> float:
    """Sum products over all pairs of rows that share a gene: inclusion and exclusion over sets of shared genes."""
    total = 0.0
    ordered = nodes.sort(dim=1).values
    for size in range(1, nodes.shape[1] + 1):
        columns = torch.tensor(list(combinations(range(nodes.shape[1]), size)))
        sets = ordered[:, columns]  # (n, number of sets, size)
        held = (sets >= 0).all(2)
        group = number_rows(sets[held])
        each = deviations[:, None].expand(held.shape)[held]
        sums = each.new_zeros(int(group.max()) + 1 if len(group) else 0).index_add(0, group, each)
        total += float(sums.square().sum()) * (1 if size % 2 else -1)
    return total
