"""A convex combination of surrogates, with weights for each novelty class learnt from cross-fitted predictions.

Stacked regression [Breiman 1996]: with ``e_m`` the error of member ``m`` on conditions that it has not seen, the
weights minimise ``|sum_m w_m e_m|²`` over ``w >= 0``, ``sum w = 1``. Where targets were held out, every target
counts the same however many conditions contain it: conditions that share an unseen target miss it alike.
"""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.novelty import (
    SEEN_DOUBLE,
    SEEN_SINGLE,
    class_distance,
    novelty_code,
    seen_code,
    splits_over_doubles,
    splits_over_targets,
)
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import (
    Fitted,
    PairFactored,
    PairFactors,
    PairScale,
    Surrogate,
    pair_factored,
    set_rows,
)
from surrogates.models.wrappers.cross_fitting import HeldOutErrors, fit_splits, pooled_errors
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior

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
        """Cross-fit every member, weigh them (in classes of 8 or more held out), and fit them to everything."""
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
