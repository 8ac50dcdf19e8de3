"""Conformal quantiles and intervals: the rank statistics behind every calibrated statement of this project.

Scores say how far held-out perturbations were from what was predicted of them. If the next perturbation is
exchangeable with them, its score is at most the ``k``-th smallest of ``n``, ``k = ceil((n + 1) level)``, with a
probability between ``level`` and ``level + 1 / (n + 1)`` [Vovk 2005; Lei 2018, theorem 2.2]. That is an average
over calibration sets: the coverage of one set is a draw from ``Beta(k, n + 1 - k)`` [Vovk 2012].

With scores ``R_i``, ``k(i)`` the fit that has not seen ``i``, and predictions ``m_k(x)`` with spreads ``s_k(x)``,
the interval of a new perturbation ``x`` reaches

    from the floor((1 - level)(n + 1))-th smallest of  m_k(i)(x) - R_i s_k(i)(x)
    to   the  ceil(     level  (n + 1))-th smallest of  m_k(i)(x) + R_i s_k(i)(x)

[Barber 2021, sections 2 and 3]. One fit is split conformal prediction, several are CV+, one per perturbation is
jackknife+. The coverage is at least ``level`` with one fit, and at least ``2 level - 1`` (in practice ``level``)
with several. If ``R_i`` is the largest score over readouts, the box holds them all at once.

Scores are taken within novelty classes [Mondrian conformal prediction, Vovk 2003]. A class with too few borrows
from the next coarser one of the same order: errors of single effects do not say how large those of combinations
are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.novelty import novelty_name
from surrogates.errors import CalibrationError

# (n + 1) * level is meant exactly: 0.9 of 10 is 9, whatever the floating-point product says.
_ROUNDING = 1e-9


def require_level(level: float) -> None:
    """Refuse a level that is no probability."""
    if not 0 < level < 1:
        raise CalibrationError(f"level {level} is not between 0 and 1; 0.9 asks for 90 %")


def least_count(level: float) -> int:
    """Count the calibration perturbations that a level needs."""
    require_level(level)
    return max(1, math.ceil(level / (1 - level) - _ROUNDING))


def attainable_level(count: int) -> float:
    """Find the highest level that some calibration perturbations support."""
    return count / (count + 1)


def require_count(count: int, level: float, what: str = "held-out perturbations") -> None:
    """Refuse a level that needs more calibration perturbations than there are."""
    if count < least_count(level):
        attainable = f"support levels up to {attainable_level(count):.3g}" if count else "support no level"
        raise CalibrationError(
            f"{count} {what} {attainable}; level {level:g} needs {least_count(level)}: hold out more, or lower the"
            " level"
        )


def quantile_rank(count: int, level: float) -> int:
    """Find which of the ascending scores bounds the next one."""
    require_level(level)
    return max(1, math.ceil((count + 1) * level - _ROUNDING))


def conformal_quantile(scores: Float[Tensor, "n *g"], level: float) -> Float[Tensor, "*g"]:
    """Take the ``ceil((n + 1) level)``-th smallest score along the first axis, for each column on its own."""
    refuse_nan(scores)
    rank = quantile_rank(len(scores), level)
    if rank > len(scores):
        return torch.full(scores.shape[1:], torch.inf, dtype=scores.dtype)
    return scores.kthvalue(rank, dim=0).values


def coverage_band(count: int, level: float, *, probability: float = 0.9) -> tuple[float, float]:
    """Say between which bounds the true coverage lies, given how few perturbations calibrated it."""
    require_count(count, level)
    rank = quantile_rank(count, level)
    tail = (1 - probability) / 2
    low, high = (float(scipy.special.betaincinv(rank, count + 1 - rank, each)) for each in (tail, 1 - tail))
    return low, high


def refuse_nan(scores: Float[Tensor, "*n"]) -> None:
    """Refuse scores that are not numbers."""
    bad = torch.nonzero(scores.isnan())
    if len(bad):
        at = ", ".join(str(int(each)) for each in bad[0])
        raise CalibrationError(
            f"{len(bad)} of {scores.numel()} scores are NaN, the first at {at}; a prediction or a measurement is"
            " not a number"
        )


_NUMBERS_AT_ONCE = 2**24


def plus_bounds(
    centres: Sequence[Float[Tensor, "b *g"]],
    spreads: Sequence[Float[Tensor, "b *g"]],
    scores: Sequence[Float[Tensor, "_n *#g"]],
    level: float,
) -> tuple[Float[Tensor, "b *g"], Float[Tensor, "b *g"]]:
    """Bound what new perturbations will do."""
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


@dataclass(frozen=True)
class ClassRows:
    """The held-out perturbations by which one novelty class is calibrated."""

    code: int  # the class, a value of :func:`surrogates.data.novelty.novelty_code`
    rows: Int[Tensor, "n"]  # numbers of the perturbations
    origin: str  # where they are from: the class's own name, or that of the coarser class lent from
    borrowed: bool  # whether the class had too few of its own

    @property
    def line(self) -> str:
        """What stands behind an interval, in words."""
        said = f"{len(self.rows)} held-out perturbations ({self.origin})"
        return f"{novelty_name(self.code)!r} borrows from {said}" if self.borrowed else said


def class_rows(codes: Int[Tensor, "n"], code: int, level: float) -> ClassRows:
    """Choose by which held-out perturbations a class is calibrated.

    The class itself comes first, then all classes of its order.
    """
    order, fewest = code // 16, least_count(level)
    choices = ((novelty_name(code), codes == code), (f"all of order {order}", codes // 16 == order))
    for number, (origin, chosen) in enumerate(choices):
        if int(chosen.sum()) >= fewest:
            return ClassRows(code, torch.nonzero(chosen).flatten(), origin, number > 0)
    own, alike = int((codes == code).sum()), int((codes // 16 == order).sum())
    lower = f", which support levels up to {attainable_level(alike):.3g}" if alike else ""
    raise CalibrationError(
        f"level {level:g} needs {fewest} held-out perturbations; there are {own} of class {novelty_name(code)!r}"
        f" and {alike} of order {order} in all{lower}: measure more perturbations of order {order}, or lower the"
        " level"
    )
