"""Intervals from cross-fitted scores, each around the prediction of the fit that made it: split, CV+, jackknife+.

With scores ``R_i`` of held-out perturbations, ``k(i)`` the fit that has not seen ``i``, and predictions ``m_k(x)``
with spreads ``s_k(x)``, the interval of a new perturbation ``x`` reaches

    from the floor((1 - level)(n + 1))-th smallest of  m_k(i)(x) - R_i s_k(i)(x)
    to   the  ceil(     level  (n + 1))-th smallest of  m_k(i)(x) + R_i s_k(i)(x)

[Barber 2021, sections 2 and 3]. One fit is split conformal prediction, one fit per perturbation is jackknife+. For
exchangeable perturbations the coverage is at least ``level`` with one fit, and at least ``2 level - 1`` (and in
practice ``level``) with several. If ``R_i`` is the largest score over readouts, the box holds them all at once: it
contains the set of all effects that cross-conformal prediction would not reject.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.uncertainty.conformal import quantile_rank, refuse_nan

_NUMBERS_AT_ONCE = 2**24


def plus_bounds(
    centres: Sequence[Float[Tensor, "b *g"]],
    spreads: Sequence[Float[Tensor, "b *g"]],
    scores: Sequence[Float[Tensor, "_n *#g"]],
    level: float,
) -> tuple[Float[Tensor, "b *g"], Float[Tensor, "b *g"]]:
    """Bound what new perturbations will do.

    Args:
        centres: Predictions of the new perturbations, by each fit.
        spreads: What the scores of that fit are in units of.
        scores: Scores of the perturbations that each fit has not seen, not negative.
        level: Nominal probability, between 0 and 1.

    Returns:
        Lower and upper bounds, infinite where there are too few scores.

    Raises:
        CalibrationError: If the level is no probability or a score is NaN.
    """
    n = sum(map(len, scores))
    rank = quantile_rank(n, level)
    for each in scores:
        refuse_nan(each)
    lower, upper = torch.full_like(centres[0], -torch.inf), torch.full_like(centres[0], torch.inf)
    if rank > n:
        return lower, upper
    width = max(1, centres[0][0].numel()) if len(lower) else 1
    for rows in torch.arange(len(lower)).split(max(1, _NUMBERS_AT_ONCE // (width * n))):
        middles = [centre[rows, None] for centre in centres]
        reaches = [spread[rows, None] * score for spread, score in zip(spreads, scores, strict=True)]
        low = torch.cat([middle - reach for middle, reach in zip(middles, reaches, strict=True)], dim=1)
        high = torch.cat([middle + reach for middle, reach in zip(middles, reaches, strict=True)], dim=1)
        lower[rows] = low.kthvalue(n + 1 - rank, dim=1).values
        upper[rows] = high.kthvalue(rank, dim=1).values
    return lower, upper
