"""A batch of experiments: chosen one by one, with the rules of the bench kept at every step."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.preference import Preference
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError
from surrogates.uncertainty.random_share import DrawLaw, MixedBatch, Softmax


@dataclass(frozen=True)
class BatchRules:
    """What a batch may be.

    Attributes:
        size: Most experiments.
        most_per_gene: Most experiments that share a gene or compound; no limit by default.
        budget: Largest sum of costs; no limit by default.
        random_share: Part of the batch that is drawn at random with logged probabilities, rounded up: bounds are
            recalibrated on these.
        plate_size: Wells of a plate; with it, the batch has to fit on ``plates``.
        plates: How many.
        controls: Control wells of each plate.
        replicates: Wells of each experiment.
    """

    size: int
    most_per_gene: int | None = None
    budget: float | None = None
    random_share: float = 0.0
    plate_size: int | None = None
    plates: int = 1
    controls: int = 0
    replicates: int = 1

    def __post_init__(self) -> None:
        """Refuse rules that no batch can keep."""
        for what, number, least in (
            ("size", self.size, 1),
            ("most_per_gene", self.most_per_gene, 1),
            ("plates", self.plates, 1),
            ("controls", self.controls, 0),
            ("replicates", self.replicates, 1),
        ):
            if number is not None and number < least:
                raise DataError(f"{what} = {number}: give at least {least}")
        if not 0 <= self.random_share <= 1:
            raise DataError(f"random_share = {self.random_share}: give a part of the batch, from 0 to 1")
        if self.budget is not None and not (math.isfinite(self.budget) and self.budget >= 0):
            raise DataError(f"budget = {self.budget}: give a finite number that is not negative")
        if self.room < 1:
            raise DataError(
                f"{self.controls} controls and {self.replicates} replicates leave no room for an experiment on"
                f" {self.plates} plate(s) of {self.plate_size} wells"
            )

    @property
    def room(self) -> int:
        """How many experiments fit: the size of the batch, or fewer where the plates end."""
        if self.plate_size is None:
            return self.size
        return min(self.size, self.plates * (self.plate_size - self.controls) // self.replicates)


@dataclass(frozen=True)
class Pool:
    """What a batch is chosen from.

    Attributes:
        genes: Vocabulary ids of each candidate, ``-1`` for none.
        cost: Of each experiment, not negative.
        pending: Candidates that are on their way already: they count as chosen, and are not chosen again.
    """

    genes: Int[Tensor, "b k"]
    cost: Float[Tensor, "b"]
    pending: Bool[Tensor, "b"]

    def __post_init__(self) -> None:
        """Refuse costs that are negative or not finite."""
        if not bool(((self.cost >= 0) & self.cost.isfinite()).all()):
            bad = self.cost[~((self.cost >= 0) & self.cost.isfinite())]
            raise DataError(f"cost {float(bad[0]):g} is negative or not finite; give what the experiment costs")

    @classmethod
    def free(cls, genes: Int[Tensor, "b k"]) -> "Pool":
        """Make a pool of candidates that cost nothing, none of them pending.

        Args:
            genes: Vocabulary ids of each.

        Returns:
            The pool.
        """
        b = len(genes)
        return cls(genes, torch.zeros(b, dtype=torch.float64), torch.zeros(b, dtype=torch.bool))


def choose_batch(
    preference: Preference,
    pool: Pool,
    rules: BatchRules,
    *,
    generator: torch.Generator,
    law: DrawLaw | None = None,
    utility: Float[Tensor, "b"] | None = None,
) -> MixedBatch:
    """Choose a batch greedily; every pick is the best of those that keep the rules given the picks before it.

    Random picks come first, each among all that may be taken then, so that their probabilities are known; the
    designed ones are chosen knowing them. With a budget, designed picks go by gain per cost.

    Args:
        preference: What each candidate adds.
        pool: The candidates.
        rules: What the batch may be.
        generator: Source of randomness.
        law: How likely candidates are to be drawn at random; by default all alike.
        utility: What the law reads; zeros by default.

    Returns:
        Numbers of the candidates, and for random ones the log probability of each given the picks before it;
        fewer than wanted where the rules allow no more.

    Raises:
        NothingToProposeError: If no candidate keeps the rules.
    """
    for number in torch.nonzero(pool.pending).flatten().tolist():
        preference = preference.adding(number)
    taken: list[int] = []
    logs: list[float] = []
    weights = (law or Softmax(math.inf)).log_weights(torch.zeros_like(pool.cost) if utility is None else utility)
    for _ in range(math.ceil(rules.random_share * rules.room - 1e-9)):
        allowed = torch.where(allowed_next(pool, rules, taken), weights, -torch.inf)
        if bool((allowed == -torch.inf).all()):
            break
        taken.append(int(torch.multinomial(allowed.softmax(0), 1, generator=generator)))
        logs.append(float(allowed[taken[-1]] - allowed.logsumexp(0)))
        preference = preference.adding(taken[-1])
    while len(taken) < rules.room and bool((allowed_now := allowed_next(pool, rules, taken)).any()):
        taken.append(_best(preference.gains(), pool, rules, allowed_now))
        preference = preference.adding(taken[-1])
    if not taken:
        raise NothingToProposeError(_why_none(pool, rules))
    unknown = [math.nan] * (len(taken) - len(logs))
    return MixedBatch(
        torch.tensor(taken),
        torch.arange(len(taken)) < len(logs),
        torch.tensor([*logs, *unknown], dtype=torch.float64),
    )


def allowed_next(pool: Pool, rules: BatchRules, taken: list[int]) -> Bool[Tensor, "b"]:
    """Tell which candidates may be added to a batch.

    Args:
        pool: The candidates.
        rules: What the batch may be.
        taken: The picks so far.

    Returns:
        Which of them keep the rules.
    """
    allowed = ~pool.pending
    allowed[taken] = False
    if rules.budget is not None:
        # Sums of prices such as 0.1 miss the budget by their rounding, which is no reason.
        left = rules.budget - float(pool.cost[taken].sum())
        allowed &= pool.cost <= left + 1e-9 * rules.budget
    if rules.most_per_gene is not None and len(taken):
        held = pool.genes[taken]
        names, counts = held[held >= 0].unique(return_counts=True)
        full = names[counts >= rules.most_per_gene]
        allowed &= ~torch.isin(pool.genes, full).any(1)
    return allowed


def _best(gains: Float[Tensor, "b"], pool: Pool, rules: BatchRules, allowed: Bool[Tensor, "b"]) -> int:
    """The first of the best; by gain per cost under a budget, where what costs nothing comes first."""
    if rules.budget is not None and bool((gains >= 0).all()):
        free = (pool.cost == 0) & (gains > 0)
        gains = torch.where(free, torch.inf, gains / pool.cost.clamp(min=torch.finfo(torch.float64).tiny))
    numbers = torch.nonzero(allowed).flatten()
    return int(numbers[gains[numbers].argmax()])


def _why_none(pool: Pool, rules: BatchRules) -> str:
    free = ~pool.pending
    if bool(free.any()) and rules.budget is not None and float(pool.cost[free].min()) > rules.budget:
        return (
            f"the budget of {rules.budget:g} is below the cheapest experiment, which costs"
            f" {float(pool.cost[free].min()):g}"
        )
    return f"none of {len(pool.cost)} candidates is left: all are pending, or there are none"
