"""Greedy batches: experiments chosen one by one by what each adds, within the rules of the bench."""

import math
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError
from surrogates.uncertainty.conformal.adaptive import DrawLaw, MixedBatch, Softmax

_NONE = 1e-10  # of a candidate's own variance: less is nothing new


@runtime_checkable
class BatchAcquisition(Protocol):
    """A value that knows what is chosen; adding a candidate gives another value."""

    def gains(self) -> Float[Tensor, "b"]:
        """What each candidate would add."""
        ...

    def adding(self, number: int) -> "BatchAcquisition":
        """Choose a candidate."""
        ...


@dataclass(frozen=True)
class Fixed:
    """Scores that do not depend on what is chosen, such as those of a :class:`~.gain.Gain`."""

    score: Float[Tensor, "b"]  # of each candidate

    def gains(self) -> Float[Tensor, "b"]:
        """The scores."""
        return self.score

    def adding(self, number: int) -> "Fixed":  # noqa: ARG002 - of the protocol
        """Choose a candidate."""
        return self


@dataclass(frozen=True)
class Fallback:
    """A preference, and another one for the time when it has nothing more to gain."""

    first: BatchAcquisition  # what counts as long as a candidate adds anything; its gains are not negative
    then: BatchAcquisition  # orders those that add nothing

    def gains(self) -> Float[Tensor, "b"]:
        """The gains of the first where there are any; below zero, in the order of the second, elsewhere."""
        gains, rest = self.first.gains(), self.then.gains()
        return torch.where(gains > 0, gains, rest - rest.amax() - 1)

    def adding(self, number: int) -> "Fallback":
        """Choose a candidate."""
        return Fallback(self.first.adding(number), self.then.adding(number))


@dataclass(frozen=True)
class Thompson:
    """Thompson sampling: each pick is the best candidate in a draw of its own [Thompson 1933].

    Picks are as varied as the belief is unsure. Candidates that are chosen already cannot be taken again, so that
    the picks are distinct; with fewer draws than picks the draws are used in turn.
    """

    draws: Float[Tensor, "s b"]  # joint draws of utilities
    turn: int = 0  # how many picks were made

    def gains(self) -> Float[Tensor, "b"]:
        """The utilities in the draw whose turn it is."""
        return self.draws[self.turn % len(self.draws)]

    def adding(self, number: int) -> "Thompson":  # noqa: ARG002 - of the protocol: the pool is masked by the chooser
        """Choose a candidate."""
        return replace(self, turn=self.turn + 1)


@dataclass(frozen=True)
class Determinantal:
    """Greedy mode of a determinantal point process: good candidates whose predicted effects differ.

    The kernel is ``L_ij = q_i q_j <x_i, x_j>``; a step adds the logarithm of the squared length of ``q_i x_i``
    beyond the span of the chosen ones, kept by one row of a Cholesky factor per pick [Chen 2018].
    """

    features: Float[Tensor, "b d"]  # rows ``q_i x_i``
    residual: Float[Tensor, "b"]  # squared length of each beyond the chosen ones
    rows: Float[Tensor, "q b"]  # the rows of the Cholesky factor so far

    @classmethod
    def of(cls, quality: Float[Tensor, "b"], effects: Float[Tensor, "b m"], *, weight: float) -> "Determinantal":
        """Weigh quality against diversity.

        Raises:
            DataError: If the weight is negative.
        """
        if not weight >= 0:
            raise DataError(f"weight {weight} of the quality is negative: it would prefer what is worst")
        spread = quality.std(correction=0).clamp(min=torch.finfo(quality.dtype).tiny)
        grade = ((quality - quality.mean()) / spread * weight).exp()
        lengths = effects.norm(dim=1, keepdim=True).clamp(min=torch.finfo(effects.dtype).tiny)
        # With the constant coordinate the kernel is (1 + cosine) / 2: opposite effects are not alike.
        unit = torch.cat([effects / lengths, torch.ones_like(lengths)], dim=1) / 2**0.5
        features = grade[:, None] * unit
        return cls(features, features.square().sum(1), features.new_zeros(0, len(features)))

    def gains(self) -> Float[Tensor, "b"]:
        """Log squared length of each candidate beyond the chosen ones; minus infinity where nothing is left."""
        whole = self.features.square().sum(1)
        return torch.where(self.residual > _NONE * whole, self.residual, 0.0).log()

    def adding(self, number: int) -> "Determinantal":
        """Choose a candidate."""
        length = self.residual[number].clamp(min=torch.finfo(self.residual.dtype).tiny).sqrt()
        inner = self.features @ self.features[number] - self.rows.T @ self.rows[:, number]
        row = inner / length
        return replace(
            self, residual=(self.residual - row.square()).clamp(min=0), rows=torch.cat([self.rows, row[None]])
        )


@dataclass(frozen=True)
class FacilityLocation:
    """Every good candidate should have something like it in the batch: ``sum_i w_i max_j k_ij``.

    Monotone and submodular; for batches larger than the rank of the effects, where nothing new is left.
    """

    likeness: Float[Tensor, "b b"]  # of candidates, between 0 and 1
    weight: Float[Tensor, "b"]  # how much each wants to be represented
    covered: Float[Tensor, "b"]  # likeness of each to what is most like it among the chosen

    @classmethod
    def of(cls, weight: Float[Tensor, "b"], effects: Float[Tensor, "b m"]) -> "FacilityLocation":
        """Compare candidates by the cosine of their predicted effects; opposite ones are not alike.

        Raises:
            DataError: If a weight is negative.
        """
        if bool((weight < 0).any()):
            raise DataError(f"weight {float(weight.min()):g} of a candidate is negative; take gains")
        unit = torch.nn.functional.normalize(effects, dim=1)
        return cls((unit @ unit.T).clamp(min=0), weight, torch.zeros_like(weight))

    def gains(self) -> Float[Tensor, "b"]:
        """What each candidate adds to the weighted coverage."""
        return (self.likeness - self.covered[:, None]).clamp(min=0).T @ self.weight

    def adding(self, number: int) -> "FacilityLocation":
        """Choose a candidate."""
        return replace(self, covered=torch.maximum(self.covered, self.likeness[:, number]))


@dataclass(frozen=True)
class BatchRules:
    """What a batch may be.

    Attributes:
        random_share: Part of the batch that is drawn at random with logged probabilities, rounded up: bounds are
            recalibrated on these.
    """

    size: int  # most experiments
    most_per_gene: int | None = None  # most experiments that share a gene or compound; no limit by default
    budget: float | None = None  # largest sum of costs; no limit by default
    random_share: float = 0.0
    plate_size: int | None = None  # wells of a plate; with it, the batch has to fit on ``plates``
    plates: int = 1  # how many
    controls: int = 0  # control wells of each plate
    replicates: int = 1  # wells of each experiment

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
        pending: Candidates that are on their way already: they count as chosen, and are not chosen again.
    """

    genes: Int[Tensor, "b k"]  # vocabulary ids of each candidate, ``-1`` for none
    cost: Float[Tensor, "b"]  # of each experiment, not negative
    pending: Bool[Tensor, "b"]

    def __post_init__(self) -> None:
        """Refuse costs that are negative or not finite."""
        if not bool(((self.cost >= 0) & self.cost.isfinite()).all()):
            bad = self.cost[~((self.cost >= 0) & self.cost.isfinite())]
            raise DataError(f"cost {float(bad[0]):g} is negative or not finite; give what the experiment costs")

    @classmethod
    def free(cls, genes: Int[Tensor, "b k"]) -> "Pool":
        """Make a pool of candidates that cost nothing, none of them pending."""
        b = len(genes)
        return cls(genes, torch.zeros(b, dtype=torch.float64), torch.zeros(b, dtype=torch.bool))


def choose_batch(
    preference: BatchAcquisition,
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
    """Tell which candidates may be added to a batch."""
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
