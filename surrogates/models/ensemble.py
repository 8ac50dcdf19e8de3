"""Many fits of one surrogate to parts of the data: what they agree on, and how far they disagree."""

import math
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import Fitted, PairFactored, PairFactors, PairScale, Surrogate, pair_factored
from surrogates.models.context import require_one_context
from surrogates.uncertainty.mixture import Mixture

Resampling = Literal["combinations", "perturbations", "none"]


@dataclass(frozen=True)
class FittedEnsemble:
    """Fits of one surrogate, each as likely as any other to be right.

    Attributes:
        members: The fits; all have the same vocabulary and readouts.
        measured_alone: Whether each entry's single effect was in the training data of the ensemble.
    """

    members: tuple[Fitted, ...]
    measured_alone: Bool[Tensor, "v"]

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.members[0].vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.members[0].readouts

    def predict(self, batch: PerturbationBatch) -> Mixture:
        """Predict the effects of some perturbations with every member.

        Args:
            batch: Ids of the vocabulary.

        Returns:
            The mixture of the members' posteriors.
        """
        return Mixture(tuple(member.predict(batch) for member in self.members))

    @property
    def factorises(self) -> bool:
        """Whether all members factorise, over pairs of the same entries measured alone."""
        return all(
            pair_factored(each) is not None and torch.equal(each.measured_alone, self.measured_alone)
            for each in self.members
        )

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs: the interactions of all members side by side."""
        each = [member.pair_factors() for member in self._factored()]
        return PairFactors(
            main=_mean(factors.main for factors in each),
            scores=torch.cat([factors.scores for factors in each], dim=1),
            basis=torch.cat([factors.basis for factors in each]) / len(each),
        )

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs: the mean of the members' scales."""
        each = [member.pair_scale() for member in self._factored()]
        return PairScale(
            side=_mean(scale.side for scale in each),
            left=torch.cat([scale.left for scale in each], dim=1) / len(each),
            right=torch.cat([scale.right for scale in each], dim=1),
        )

    def _factored(self) -> list[PairFactored]:
        factored = [each for member in self.members if (each := pair_factored(member)) is not None]
        if len(factored) < len(self.members):
            raise TypeError("a member of the ensemble does not factorise over pairs; stream the ensemble instead")
        return factored


@dataclass(frozen=True)
class Ensemble:
    """Fits a surrogate several times, with other seeds and on other parts of the data, and averages.

    The unit that is resampled is the perturbation, without replacement: a condition drawn twice would stand on
    both sides when a member holds data out inside, to stop its training or to learn its error law. Subsamples of
    half the data vary about as much as bootstrap samples do [Buja and Stuetzle 2006]; larger parts give better
    members that disagree less than they should.

    What is resampled:

    * ``"combinations"``: every member sees all single perturbations, on which most models of combinations stand;
      without combinations members differ by their seeds alone;
    * ``"perturbations"``: singles too, for models that learn from singles; the entries whose single was left out
      are new to that member, so that the ensemble does not factorise over pairs;
    * ``"none"``: members differ by their seeds alone, as for networks [Lakshminarayanan 2017].

    Attributes:
        base: The surrogate.
        members: How many fits.
        resample: What is resampled.
        fraction: How much of it each member sees.
    """

    base: Surrogate
    members: int = 8
    resample: Resampling = "combinations"
    fraction: float = 0.8

    def __post_init__(self) -> None:
        """Refuse an ensemble of nothing, and parts that are none."""
        if self.members < 1:
            raise DataError(f"members is {self.members}; take 1 or more")
        if not 0 < self.fraction <= 1:
            raise DataError(f"fraction is {self.fraction!r}; take more than 0 and at most 1")
        if self.resample not in get_args(Resampling):
            raise DataError(f"resample is {self.resample!r}; take one of {', '.join(get_args(Resampling))}")

    def fit(self, screen: Screen, *, seed: int, executor: Executor | None = None) -> FittedEnsemble:
        """Fit every member.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the parts and the seeds of the members.
            executor: Where members are fitted, by default here, one after the other; the result is the same. A
                pool of threads is for models without networks only: those train with the one generator that all
                threads of a process share.

        Returns:
            The fitted ensemble.

        Raises:
            DataError: If the screen has several contexts.
        """
        require_one_context(screen)
        ordered = screen.in_canonical_order()
        generator = torch.Generator().manual_seed(seed)
        seeds = torch.randint(2**31, (self.members,), generator=generator).tolist()
        parts = [self._part(ordered, generator) for _ in seeds]
        run = map if executor is None else executor.map
        fits = tuple(run(partial(_fit, self.base, ordered), parts, seeds))
        return FittedEnsemble(fits, ordered.single_rows >= 0)

    def _part(self, screen: Screen, generator: torch.Generator) -> Int[Tensor, "m"]:
        """Draw the rows of one member; rows of one perturbation stay together."""
        labels = sorted({
            label
            for label, order in zip(screen.labels, screen.batch.order.tolist(), strict=True)
            if self.resample == "perturbations" or (self.resample == "combinations" and order > 1)
        })  # fmt: skip
        drawn = torch.randperm(len(labels), generator=generator)[math.ceil(self.fraction * len(labels)) :]
        left_out = {labels[number] for number in drawn.tolist()}
        return torch.tensor([row for row, label in enumerate(screen.labels) if label not in left_out])


def _fit(base: Surrogate, screen: Screen, rows: Int[Tensor, "m"], seed: int) -> Fitted:
    return base.fit(screen.rows(rows), seed=seed)


def _mean(tables: Iterable[Float[Tensor, "*v"]]) -> Float[Tensor, "*v"]:
    return torch.stack(list(tables)).mean(0)
