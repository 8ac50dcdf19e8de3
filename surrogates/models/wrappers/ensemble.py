"""Models made of several: fits to parts of the data, stacks of surrogates, and models of residuals.

A stack is a convex combination with weights for each novelty class [Breiman 1996]: with ``e_m`` the error of
member ``m`` on conditions that it has not seen, the weights minimise ``|sum_m w_m e_m|²`` over ``w >= 0``, ``sum w
= 1``. Where targets were held out, every target counts the same however many conditions contain it: conditions
that share an unseen target have similar errors.
"""

import math
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Literal, get_args

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, class_distance, novelty_code, seen_code
from surrogates.data.screen import Screen
from surrogates.data.splits import splits_over_doubles, splits_over_targets
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
    set_rows,
)
from surrogates.models.wrappers.cross_fitting import HeldOutErrors, fit_splits, pooled_errors
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.mixture import Mixture
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

Resampling = Literal["combinations", "perturbations", "none"]


@dataclass(frozen=True)
class FittedEnsemble:
    """Fits of one surrogate, each as likely as any other to be right.

    Attributes:
        measured_alone: Whether each entry's single effect was in the training data of the ensemble.
    """

    members: tuple[Fitted, ...]  # the fits; all have the same vocabulary and readouts
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


FEWEST_HELD_OUT = 8


@dataclass(frozen=True)
class ClassWeights:
    """How much each member counts in one novelty class."""

    code: int  # the class, as numbered by :func:`surrogates.data.novelty.novelty_code`
    weights: Float[Tensor, "m"]  # one per member, not negative, of sum one
    variance: Float[Tensor, "g"]  # cross-fitted error variance of each readout, for a scale of one
    support: int  # number of held-out conditions behind them; 0 if nothing was held out


@dataclass(frozen=True)
class FittedStacked:
    """Fitted members and their weights.

    Attributes:
        unseen: Weights of each class with unseen parts that was held out; others borrow from the nearest.
    """

    members: tuple[Fitted, ...]  # the fitted surrogates
    alone: ClassWeights  # weights for the control and for singles that were measured
    combined: ClassWeights  # weights for combinations of entries measured alone
    unseen: tuple[ClassWeights, ...]

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.members[0].vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.members[0].readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.members[0].measured_alone

    def weights(self, code: int) -> ClassWeights:
        """Find the weights of a novelty class."""
        order, seen = divmod(code, 16)
        if order == seen:
            return self.combined if order > 1 else self.alone
        return min(self.unseen, key=lambda each: class_distance(each.code, code), default=self.combined)

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        codes, group = torch.unique(novelty_code(batch, self.measured_alone), return_inverse=True)
        classes = [self.weights(int(code)) for code in codes] or [self.alone]
        weights = torch.stack([each.weights for each in classes])
        # Only what counts is asked: most batches are of one class, in which most members do not.
        counting = torch.nonzero(weights.sum(0) > 0).flatten().tolist()
        posteriors = [self.members[number].predict(batch) for number in counting]
        shares = weights[group][:, counting].T
        mean = sum(w[:, None] * each.mean for w, each in zip(shares, posteriors, strict=True))
        scale = sum(w * each.scale for w, each in zip(shares, posteriors, strict=True))
        covariances = tuple(FactorCovariance.independent(each.variance) for each in classes)
        return GaussianPosterior(torch.as_tensor(mean), torch.as_tensor(scale), covariances, group)

    @property
    def factorises(self) -> bool:
        """Whether every member that counts for doubles of seen parts factorises."""
        return all(factored is not None for factored, _ in self._counting())

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs of entries measured alone."""
        parts = [(_required(factored).pair_factors(), weight) for factored, weight in self._counting()]
        return PairFactors(
            torch.stack([weight * each.main for each, weight in parts]).sum(0),
            torch.cat([each.scores for each, _ in parts], dim=1),
            torch.cat([weight * each.basis for each, weight in parts]),
        )

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs of entries measured alone."""
        parts = [(_required(factored).pair_scale(), weight) for factored, weight in self._counting()]
        return PairScale(
            torch.stack([weight * each.side for each, weight in parts]).sum(0),
            torch.cat([weight * each.left for each, weight in parts], dim=1),
            torch.cat([each.right for each, _ in parts], dim=1),
        )

    def set_rows(self, order: int) -> Float[Tensor, "v g"] | None:
        """Average the rows of the members that count for combinations of seen parts."""
        weights = self.weights(seen_code(order)).weights.tolist()
        counting = [(member, each) for member, each in zip(self.members, weights, strict=True) if each > 0]
        parts = [(set_rows(member, order), weight) for member, weight in counting]
        rows = [weight * part for part, weight in parts if part is not None]
        return torch.stack(rows).sum(0) if len(rows) == len(parts) else None

    def _counting(self) -> list[tuple[PairFactored | None, float]]:
        weights = self.weights(SEEN_DOUBLE).weights.tolist()
        return [
            (pair_factored(member), weight)
            for member, weight in zip(self.members, weights, strict=True)
            if weight > 0
        ]


@dataclass(frozen=True)
class Stacked:
    """Averages surrogates with convex weights, learnt for each novelty class by cross-fitting.

    Doubles of seen parts are held out in folds, and so are targets with every condition that contains them.
    Singles that were measured are left to the first member.

    Attributes:
        members: The surrogates, the simplest first: it stands alone where nothing can be held out.
        unseen: Whether to learn weights for perturbations with unseen parts; they cost as many fits again.
        folds: Number of folds of each kind.
    """

    members: tuple[Surrogate, ...]
    unseen: bool = True
    folds: int = 5

    def __post_init__(self) -> None:
        """Refuse an empty stack, and too few folds."""
        if not self.members or self.folds < 2:
            raise DataError(f"a stack needs members, and 2 or more folds; got {self!r}")

    def fit(self, screen: Screen, *, seed: int) -> FittedStacked:
        """Cross-fit every member, weigh them, and fit them to everything.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds and fits.

        Returns:
            The fitted stack. A class with fewer than 8 held-out conditions gets no weights of its own.

        Raises:
            DataError: If a member refuses the screen.
        """
        members = tuple(member.fit(screen, seed=seed) for member in self.members)
        splits = splits_over_doubles(screen, folds=self.folds, seed=seed)
        if self.unseen:
            splits += splits_over_targets(screen, folds=self.folds, seed=seed)
        held_out = [
            each
            for each in pooled_errors(fit_splits(self.members, screen, splits, seed=seed))
            if each.support >= FEWEST_HELD_OUT and each.code != SEEN_SINGLE
        ]
        alone = _first_alone(members, screen)
        classes = [weigh(each) for each in held_out]
        combined = next((each for each in classes if each.code == SEEN_DOUBLE), alone)
        return FittedStacked(members, alone, combined, tuple(each for each in classes if each is not combined))


def weigh(held_out: HeldOutErrors) -> ClassWeights:
    """Learn the weights of a novelty class."""
    weights = convex_weights((held_out.errors * held_out.shares.sqrt()[:, None]).flatten(1))
    error = torch.tensordot(weights, held_out.errors, 1)
    scale = weights @ held_out.scales
    variance = _positive((error.square() / scale[:, None]).mean(0))
    return ClassWeights(held_out.code, weights, variance, held_out.support)


def convex_weights(errors: Float[Tensor, "m n"]) -> Float[Tensor, "m"]:
    """Minimise the squared length of a convex combination of rows."""
    return convex_weights_of(errors @ errors.T)


def convex_weights_of(products: Float[Tensor, "m m"]) -> Float[Tensor, "m"]:
    """Minimise the squared length of a convex combination of rows that are known by their inner products."""
    gram = products.numpy()
    size = np.trace(gram)
    if not size > 0:
        return torch.eye(len(gram), dtype=torch.float64)[0]
    # The sum of one is a row of its own, so heavy that what is left of it vanishes in the normalisation.
    values, vectors = np.linalg.eigh(gram / size)
    root = np.sqrt(values.clip(min=0))[:, None] * vectors.T
    sum_to_one = np.full((1, len(gram)), 1e3)
    weights, _ = scipy.optimize.nnls(np.vstack([root, sum_to_one]), np.append(np.zeros(len(gram)), 1e3))
    return torch.from_numpy(weights / weights.sum())


def _first_alone(members: tuple[Fitted, ...], screen: Screen) -> ClassWeights:
    error = members[0].predict(screen.batch).mean - screen.effects
    weights = torch.eye(len(members), dtype=torch.float64)[0]
    return ClassWeights(SEEN_SINGLE, weights, _positive(error.square().mean(0)), 0)


def _positive(variance: Float[Tensor, "g"]) -> Float[Tensor, "g"]:
    return variance.clamp(min=torch.finfo(variance.dtype).eps)


def _required(factored: PairFactored | None) -> PairFactored:
    if factored is None:
        raise TypeError("a member of the stack does not factorise over pairs; stream it instead")
    return factored


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
        """Fit the one, then the other.

        Args:
            screen: Measured effects in one context.
            seed: Fixes both fits.

        Returns:
            The fitted sum.

        Raises:
            DataError: If one of the two refuses the screen.
        """
        base = self.base.fit(screen, seed=seed)
        left = screen.effects - base.predict(screen.batch).mean
        correction = self.correction.fit(replace(screen, effects=left), seed=seed)
        return FittedResidual(base, correction, correction.predict(screen.batch).variance.mean(0))
