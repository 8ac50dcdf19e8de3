"""A batch of experiments: chosen one by one by the rules of the bench, or the best that a budget can pay."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import Acquisition
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError

_AT_ONCE = 32  # candidates whose gain is computed anew together
_ROUNDING = 1e-9  # of the budget: prices such as 0.1 have no exact sum
_HALF = 0.5


@dataclass(frozen=True)
class BatchRules:
    """What a batch may be."""

    most_per_gene: int | None = None  # most experiments that share a gene or compound; no limit by default
    # Part of the batch that is drawn at random with logged probabilities, rounded up: bounds are recalibrated on
    # these.
    random_share: float = 0.0

    def __post_init__(self) -> None:
        """Refuse rules that no batch can keep."""
        if self.most_per_gene is not None and self.most_per_gene < 1:
            raise DataError(f"most_per_gene = {self.most_per_gene}: give at least 1")
        if not 0 <= self.random_share <= 1:
            raise DataError(f"random_share = {self.random_share}: give a part of the batch, from 0 to 1")

    def drawn(self, count: int) -> int:
        """Say how many experiments of a batch are drawn at random."""
        return math.ceil(self.random_share * count - 1e-9)


@dataclass(frozen=True)
class ChosenBatch:
    """A batch, in the order in which it was chosen."""

    numbers: Int[Tensor, "q"]  # of the candidates
    drawn: Bool[Tensor, "q"]  # which were drawn at random
    log_probability: Float[Tensor, "q"]  # of each random pick when it was drawn; NaN for the others


def choose_batch(
    acquisition: Acquisition,
    genes: Int[Tensor, "b k"],
    rules: BatchRules,
    count: int,
    *,
    generator: torch.Generator,
    pending: Bool[Tensor, "b"] | None = None,
) -> ChosenBatch:
    """Choose a batch greedily; every pick is the best of those that keep the rules given the picks before it.

    Random picks come first, each as likely as any other that may be taken then, so that their probabilities are
    known; the designed ones are chosen knowing them, and what is pending.
    """
    if count < 1:
        raise DataError(f"a batch of {count} experiments; ask for at least 1")
    pending = torch.zeros(len(genes), dtype=torch.bool) if pending is None else pending
    if bool(pending.all()):
        raise NothingToProposeError(f"none of {len(genes)} candidates is left: all are pending, or there are none")
    for number in torch.nonzero(pending).flatten().tolist():
        acquisition = acquisition.adding(number)
    taken: list[int] = []
    logs: list[float] = []
    while len(taken) < count:
        allowed = allowed_next(genes, rules, taken) & ~pending
        numbers = torch.nonzero(allowed).flatten()
        if not len(numbers):
            break
        if len(taken) < rules.drawn(count):
            taken.append(int(torch.multinomial(allowed.double(), 1, generator=generator)))
            logs.append(-math.log(len(numbers)))
        else:
            taken.append(int(numbers[acquisition.gains()[numbers].argmax()]))
        acquisition = acquisition.adding(taken[-1])
    unknown = [math.nan] * (len(taken) - len(logs))
    return ChosenBatch(
        torch.tensor(taken),
        torch.arange(len(taken)) < len(logs),
        torch.tensor([*logs, *unknown], dtype=torch.float64),
    )


def allowed_next(genes: Int[Tensor, "b k"], rules: BatchRules, taken: list[int]) -> Bool[Tensor, "b"]:
    """Tell which candidates may be added to a batch."""
    allowed = torch.ones(len(genes), dtype=torch.bool)
    allowed[taken] = False
    if rules.most_per_gene is not None and len(taken):
        held = genes[taken]
        names, counts = held[held >= 0].unique(return_counts=True)
        full = names[counts >= rules.most_per_gene]
        allowed &= ~torch.isin(genes, full).any(1)
    return allowed


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
