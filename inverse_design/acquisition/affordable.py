"""The best set of experiments that a budget can pay."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.preference import ExpectedMaximum
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError

_AT_ONCE = 32  # candidates whose gain is computed anew together
_ROUNDING = 1e-9  # of the budget: prices such as 0.1 have no exact sum


@dataclass(frozen=True)
class Affordable:
    """A set of experiments within a budget.

    Attributes:
        numbers: Of the candidates, in the order in which they were chosen.
        expected: Joint expected improvement of them all.
        cost: What they cost.
    """

    numbers: Int[Tensor, "q"]
    expected: float
    cost: float


def best_affordable(preference: ExpectedMaximum, cost: Float[Tensor, "b"], budget: float) -> Affordable:
    """Choose experiments whose joint expected improvement is largest within a budget.

    Two greedy sets, by gain per cost and by gain, each adding what is best of what can still be paid; the better
    of the two has at least ``(1 - 1/e) / 2`` of what the best set has [Leskovec 2007, theorem 3]. Gains only
    shrink as the set grows, so that those of the step before are bounds, and few have to be computed anew.

    Args:
        preference: Nothing chosen yet.
        cost: Of each candidate, not negative.
        budget: To be spent at most.

    Returns:
        The better set; candidates that add nothing are left out.

    Raises:
        NothingToProposeError: If the budget is below the cheapest candidate.
        DataError: If a cost or the budget is negative or not finite.
    """
    if not bool(((cost >= 0) & cost.isfinite()).all()):
        bad = float(cost[~((cost >= 0) & cost.isfinite())][0])
        raise DataError(f"cost {bad:g} is negative or not finite; give what the experiment costs")
    if not 0 <= budget < float("inf"):
        raise DataError(f"budget {budget:g} is negative or not finite; give what may be spent")
    if not len(cost) or float(cost.min()) > budget * (1 + _ROUNDING):
        cheapest = f"the cheapest experiment, which costs {float(cost.min()):,.6g}" if len(cost) else "anything"
        raise NothingToProposeError(f"the budget of {budget:,.6g} is below {cheapest}")
    price = cost.clamp(min=torch.finfo(cost.dtype).tiny ** 0.5)
    sets = [_greedy(preference, cost, budget, unit) for unit in (price, torch.ones_like(price))]
    return max(sets, key=lambda each: each.expected)


def _greedy(
    preference: ExpectedMaximum, cost: Float[Tensor, "b"], budget: float, unit: Float[Tensor, "b"]
) -> Affordable:
    """Add the candidate of the largest gain per unit as long as one adds anything and can be paid."""
    bound, left, start = preference.gains() / unit, budget * (1 + _ROUNDING), preference.best.mean()
    picks: list[int] = []
    while True:
        bound = torch.where(cost <= left, bound, 0.0)
        best = _lazily_best(preference, bound, unit)
        if float(bound[best]) <= 0:
            break
        picks.append(best)
        preference, left = preference.adding(best), left - float(cost[best])
        bound[best] = 0.0
    numbers = torch.tensor(picks, dtype=torch.int64)
    return Affordable(numbers, float(preference.best.mean() - start), float(cost[numbers].sum()))


def _lazily_best(preference: ExpectedMaximum, bound: Float[Tensor, "b"], unit: Float[Tensor, "b"]) -> int:
    """The first of the best; bounds are replaced by true gains from the top until none below can win."""
    order = bound.argsort(descending=True, stable=True)
    best, reached = int(order[0]), -torch.inf
    for numbers in order.split(_AT_ONCE):
        if float(bound[numbers[0]]) < reached:
            break
        payable = bound[numbers] > 0
        bound[numbers] = torch.where(payable, preference.gains_of(numbers) / unit[numbers], 0.0)
        top = numbers[bound[numbers].argmax()]
        if float(bound[top]) > reached:
            best, reached = int(top), float(bound[top])
    return best
