"""A batch of experiments: chosen one by one, with the rules of the bench kept at every step."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import Acquisition
from inverse_design.errors import NothingToProposeError
from surrogates.errors import DataError


@dataclass(frozen=True)
class BatchRules:
    """What a batch may be.

    Attributes:
        random_share: Part of the batch that is drawn at random with logged probabilities, rounded up: bounds are
            recalibrated on these.
    """

    most_per_gene: int | None = None  # most experiments that share a gene or compound; no limit by default
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

    Raises:
        NothingToProposeError: If no candidate is left.
        DataError: If no experiment is asked for.
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
