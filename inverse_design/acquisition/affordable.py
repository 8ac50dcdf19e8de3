"""The best set of experiments that a budget can pay."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import Acquisition
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError

_AT_ONCE = 32  # candidates whose gain is computed anew together
_ROUNDING = 1e-9  # of the budget: prices such as 0.1 have no exact sum
_HALF = 0.5


@runtime_checkable
class SetGain(Acquisition, Protocol):
    """The gain of a set, monotone and submodular: what a candidate adds only shrinks as others are chosen."""

    @property
    def total(self) -> float:
        """Gain of what is chosen."""
        ...

    def gains_of(self, numbers: Int[Tensor, "c"]) -> Float[Tensor, "c"]:
        """What some candidates add."""
        ...

    def adding(self, number: int) -> "SetGain":
        """Choose a candidate."""
        ...


@dataclass(frozen=True)
class Affordable:
    """A set of experiments within a budget."""

    numbers: Int[Tensor, "q"]  # of the candidates, in the order in which they were chosen
    expected: float  # joint expected improvement of them all
    cost: float  # what they cost
    share: float  # part of the gain of the best affordable set that it is sure to have


@dataclass
class _Purchase:
    """A set that grows; ``bound`` holds what each candidate adds, or added to a smaller set."""

    gain: SetGain
    cost: Float[Tensor, "b"]
    left: float
    bound: Float[Tensor, "b"]
    picks: list[int]

    def payable(self) -> Float[Tensor, "b"]:
        """What each candidate may add at most; zero for what cannot be paid any more."""
        return torch.where(self.cost <= self.left, self.bound, 0.0)

    def take(self, number: int) -> None:
        self.picks.append(number)
        self.gain, self.left = self.gain.adding(number), self.left - float(self.cost[number])
        self.bound[number] = 0.0

    def copy(self) -> "_Purchase":
        return _Purchase(self.gain, self.cost, self.left, self.bound.clone(), [*self.picks])

    def best(self, unit: Float[Tensor, "b"]) -> int | None:
        """The first of those that add most per unit; bounds are computed anew from the top until none can win."""
        rate = self.payable() / unit
        order = rate.argsort(descending=True, stable=True)
        best, reached = None, 0.0
        for numbers in order.split(_AT_ONCE):
            if float(rate[numbers[0]]) <= reached:
                break
            some = numbers[rate[numbers] > 0]
            self.bound[some] = self.gain.gains_of(some)
            found = self.bound[some] / unit[some]
            if float(found.max()) > reached:
                best, reached = int(some[found.argmax()]), float(found.max())
        return best

    def fill(self, price: Float[Tensor, "b"]) -> None:
        """Add what is best per price as long as anything that can be paid adds anything."""
        while (number := self.best(price)) is not None:
            self.take(number)

    def limit(self, price: Float[Tensor, "b"], budget: float) -> float:
        """No affordable set gains more: the chosen, and the best of the rest as if parts of it could be bought."""
        order = (self.bound / price).argsort(descending=True)
        spent = self.cost[order].cumsum(0)
        part = ((budget - spent + self.cost[order]) / price[order]).clamp(0.0, 1.0)
        return self.gain.total + float((self.bound[order] * part).sum())


def best_affordable(gain: SetGain, cost: Float[Tensor, "b"], budget: float) -> Affordable:
    """Choose experiments whose joint gain is largest within a budget.

    Experiments are added by gain per cost. At each step the set so far and the one experiment that adds most to it
    stand for election, whatever that costs, and the better set is filled up: it has at least half of what the best
    set has [Yaroslavtsev 2020]. How much it has at least is also computed: a submodular gain of any set is at most
    that of the chosen ones and what each of the others adds to them, for the chosen ones of every step.

    Raises:
        NothingToProposeError: If the budget is below the cheapest candidate.
        DataError: If a cost or the budget is negative or not finite.
    """
    if not bool(((cost >= 0) & cost.isfinite()).all()):
        bad = float(cost[~((cost >= 0) & cost.isfinite())][0])
        raise DataError(f"cost {bad:g} is negative or not finite; give what the experiment costs")
    if not 0 <= budget < float("inf"):
        raise DataError(f"budget {budget:g} is negative or not finite; give what may be spent")
    allowed = budget * (1 + _ROUNDING)
    if not len(cost) or float(cost.min()) > allowed:
        cheapest = f"the cheapest experiment, which costs {float(cost.min()):,.6g}" if len(cost) else "anything"
        raise NothingToProposeError(f"the budget of {budget:,.6g} is below {cheapest}")
    price, one = cost.clamp(min=torch.finfo(cost.dtype).tiny ** 0.5), torch.ones_like(cost)
    alone = torch.where(cost <= allowed, gain.gains(), 0.0)
    growing = _Purchase(gain, cost, allowed, alone, [])
    best, limit = growing, growing.limit(price, allowed)
    while (most := growing.best(one)) is not None:
        other = growing.copy()
        other.take(most)
        best = other if other.gain.total > best.gain.total else best
        number = growing.best(price)
        growing.take(most if number is None else number)
        limit = min(limit, growing.limit(price, allowed))
    best.fill(price)
    best.bound = torch.where(best.bound > 0, best.gain.gains(), 0.0)
    limit = min(limit, best.limit(price, allowed))
    numbers, total = torch.tensor(best.picks, dtype=torch.int64), best.gain.total
    share = min(1.0, max(total / limit, _HALF)) if limit > 0 else 1.0
    return Affordable(numbers, total, float(cost[numbers].sum()), share)
