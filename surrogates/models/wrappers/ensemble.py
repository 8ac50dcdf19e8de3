"""Models made of several: fits to parts of the data, stacks of surrogates, and models of residuals.

A sum of two, where the second is a model of what the first leaves over.
"""

import math
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import (
    Fitted,
    LatentFactors,
    PairFactored,
    PairFactors,
    PairScale,
    Surrogate,
    latent_factors,
    pair_factored,
    require_one_context,
)
from surrogates.models.baselines import MatchingMean, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.latent import LatentAdditive
from surrogates.models.linear import Ridge
from surrogates.models.wrappers.denoised import Denoised
from surrogates.models.wrappers.stacked import Stacked
from surrogates.uncertainty.posterior import GaussianPosterior, Mixture, isotropic

Resampling = Literal["combinations", "perturbations", "none"]


@dataclass(frozen=True)
class FittedEnsemble:
    """Fits of one surrogate, each as likely as any other to be right."""

    members: tuple[Fitted, ...]  # the fits; all have the same vocabulary and readouts
    # Whether each entry's single effect was in the training data of the ensemble.
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
        """Predict the effects of some perturbations with every member."""
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

    def latent_factors(self) -> LatentFactors | None:
        """Average the mean effects of all members; see :class:`LatentSum`."""
        parts = [latent_factors(each) for each in self.members]
        known = [each.weighted(1 / len(parts)) for each in parts if each is not None]
        alike = all(torch.equal(each.measured_alone, self.measured_alone) for each in self.members)
        if len(known) < len(parts) or not alike:
            return None
        spread = [replace(each.scale, left=each.scale.left / len(known)) for each in known]
        scale = PairScale(
            _mean(each.side for each in spread),
            torch.cat([each.left for each in spread], dim=1),
            torch.cat([each.right for each in spread], dim=1),
        )
        return replace(reduce(LatentFactors.plus, known), scale=scale)

    def _factored(self) -> list[PairFactored]:
        factored = [each for member in self.members if (each := pair_factored(member)) is not None]
        if len(factored) < len(self.members):
            raise TypeError("a member of the ensemble does not factorise over pairs; stream the ensemble instead")
        return factored


@dataclass(frozen=True)
class Ensemble:
    """Fits a surrogate several times, with other seeds and on other parts of the data, and averages.

    The unit that is resampled is the perturbation, without replacement: a condition drawn twice would stand on
    both sides when a member holds data out inside, to stop its training or to learn its error model. Subsamples of
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
        """Fit every member, by default here, one after the other; an executor gives the same result.

        A pool of threads is for models without networks only: those train with the one generator of a process.
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
        labels = list(dict.fromkeys(
            label
            for label, order in zip(screen.labels, screen.batch.order.tolist(), strict=True)
            if self.resample == "perturbations" or (self.resample == "combinations" and order > 1)
        ))  # fmt: skip
        drawn = torch.randperm(len(labels), generator=generator)[math.ceil(self.fraction * len(labels)) :]
        left_out = {labels[number] for number in drawn.tolist()}
        return torch.tensor([row for row, label in enumerate(screen.labels) if label not in left_out])


def _fit(base: Surrogate, screen: Screen, rows: Int[Tensor, "m"], seed: int) -> Fitted:
    return base.fit(screen.rows(rows), seed=seed)


def _mean(tables: Iterable[Float[Tensor, "*v"]]) -> Float[Tensor, "*v"]:
    return torch.stack(list(tables)).mean(0)


@dataclass(frozen=True)
class FittedResidual:
    """The sum of a model and of the correction learnt on its residuals."""

    base: Fitted  # the first model
    correction: Fitted  # the second, of the first one's residuals
    variance: Float[Tensor, "g"]  # in-sample error variance of each readout

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.base.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.base.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.base.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        return isotropic(self.base.predict(batch).mean + self.correction.predict(batch).mean, self.variance)

    def latent_factors(self) -> LatentFactors | None:
        """Add up the mean effects of both models; see :class:`LatentSum`."""
        base, correction = latent_factors(self.base), latent_factors(self.correction)
        if base is None or correction is None:
            return None
        return replace(base.plus(correction), scale=PairScale.constant(len(base.factors.main)))


@dataclass(frozen=True)
class Residual:
    """Fits one surrogate, and another to its residuals on the training conditions.

    The residuals are in-sample: take a base of few parameters, such as scaled additive, or nothing is left to do.

    Attributes:
        base: What is fitted first.
        correction: What is fitted to the residuals. It sees them as effects, singles' included: those are zero
            when the base reproduces single effects.
    """

    base: Surrogate
    correction: Surrogate

    def fit(self, screen: Screen, *, seed: int) -> FittedResidual:
        """Fit the one, then the other."""
        base = self.base.fit(screen, seed=seed)
        left = screen.effects - base.predict(screen.batch).mean
        correction = self.correction.fit(replace(screen, effects=left), seed=seed)
        return FittedResidual(base, correction, correction.predict(screen.batch).variance.mean(0))


def least_squares() -> Ridge:
    """Least squares on the design: ridge regression without a penalty."""
    return Ridge(0.0)


def denoised_additive() -> Denoised:
    """Scaled sums of single effects that have been shrunk."""
    return Denoised(ScaledAdditive())


def denoised_interaction() -> Denoised:
    """Scaled sums of shrunk single effects, with Bayesian interactions."""
    return Denoised(Interaction())


_MEMBERS = Stacked((ScaledAdditive(), MatchingMean(), Interaction()), unseen=False)


def stacked() -> Denoised:
    """The convex combination of scaled sums, matching means and interactions, on shrunk single effects."""
    return Denoised(_MEMBERS)


def stacked_per_readout() -> Denoised:
    """The same convex combination with weights of each readout."""
    return Denoised(replace(_MEMBERS, per_readout=True))


def ensemble() -> Ensemble:
    """Eight interaction models on resampled combinations."""
    return Ensemble(Interaction())


def latent_residual() -> Residual:
    """A latent additive network that corrects the scaled additive prediction."""
    return Residual(ScaledAdditive(), LatentAdditive())
