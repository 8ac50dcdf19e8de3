"""A convex combination of surrogates, with weights for each novelty class learnt from cross-fitted predictions.

Stacked regression [Breiman 1996]: with ``e_m`` the error of member ``m`` on conditions that it has not seen, the
weights minimise ``|sum_m w_m e_m|²`` over ``w >= 0``, ``sum w = 1``. Where targets were held out, every target
counts the same however many conditions contain it: conditions that share an unseen target miss it alike.

Weights of each readout minimise ``w^T ((1 - c) P_g / tr P_g + c P / tr P) w``: ``P_g`` holds the inner products of
the members' errors in readout ``g``, ``P`` their sum over readouts. The share ``c`` is chosen by the squared error
on each split of weights that the other splits gave; at ``c = 1`` all readouts have the weights above.
"""

from dataclasses import dataclass
from itertools import combinations

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
_MOST_MEMBERS = 8  # weights of each readout are the best of 2^m - 1 closed forms
_COMMON_SHARES = (1.0, 0.9, 0.75, 0.5, 0.25, 0.0)


@dataclass(frozen=True)
class ClassWeights:
    """How much each member counts in one novelty class."""

    code: int  # the class, as numbered by :func:`surrogates.data.novelty.novelty_code`
    weights: Float[Tensor, "m *r"]  # one per member, or per member and readout; not negative, of sum one
    variance: Float[Tensor, "g"]  # cross-fitted error variance of each readout, for a scale of one
    support: int  # number of held-out conditions behind them; 0 if nothing was held out

    @property
    def of_readouts(self) -> Float[Tensor, "m r"]:
        """Weights of each readout; one column if all have the same."""
        return self.weights.reshape(len(self.weights), -1)


@dataclass(frozen=True)
class FittedStacked:
    """Fitted members and their weights."""

    members: tuple[Fitted, ...]  # the fitted surrogates
    alone: ClassWeights  # weights for the control and for singles that were measured
    combined: ClassWeights  # weights for combinations of entries measured alone
    # Weights of each class with unseen parts that was held out; others borrow from the nearest.
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
        weights = torch.stack(torch.broadcast_tensors(*(each.of_readouts for each in classes)))
        # Only what counts is asked: most batches are of one class, in which most members do not.
        counting = torch.nonzero(weights.sum((0, 2)) > 0).flatten().tolist()
        posteriors = [self.members[number].predict(batch) for number in counting]
        shares = [weights[:, number][group] for number in counting]
        mean = sum(w * each.mean for w, each in zip(shares, posteriors, strict=True))
        scale = sum(w.mean(1) * each.scale for w, each in zip(shares, posteriors, strict=True))
        covariances = tuple(FactorCovariance.independent(each.variance) for each in classes)
        return GaussianPosterior(torch.as_tensor(mean), torch.as_tensor(scale), covariances, group)

    @property
    def factorises(self) -> bool:
        """Whether every member that counts for doubles of seen parts factorises."""
        return all(pair_factored(member) is not None for member, _ in self._counting(SEEN_DOUBLE))

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs of entries measured alone."""
        parts = [(_required(member).pair_factors(), weight) for member, weight in self._counting(SEEN_DOUBLE)]
        return PairFactors(
            torch.stack([weight * each.main for each, weight in parts]).sum(0),
            torch.cat([each.scores for each, _ in parts], dim=1),
            torch.cat([weight * each.basis for each, weight in parts]),
        )

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs of entries measured alone."""
        parts = [(_required(member).pair_scale(), weight) for member, weight in self._counting(SEEN_DOUBLE)]
        return PairScale(
            torch.stack([weight.mean() * each.side for each, weight in parts]).sum(0),
            torch.cat([weight.mean() * each.left for each, weight in parts], dim=1),
            torch.cat([each.right for each, _ in parts], dim=1),
        )

    def set_rows(self, order: int) -> Float[Tensor, "v g"] | None:
        """Average the rows of the members that count for combinations of seen parts."""
        parts = [(set_rows(member, order), weight) for member, weight in self._counting(seen_code(order))]
        rows = [weight * part for part, weight in parts if part is not None]
        return torch.stack(rows).sum(0) if len(rows) == len(parts) else None

    def _counting(self, code: int) -> list[tuple[Fitted, Float[Tensor, "r"]]]:
        """List the members that count in a novelty class, with their weights."""
        weights = self.weights(code).of_readouts
        return [(member, each) for member, each in zip(self.members, weights, strict=True) if bool(each.any())]


@dataclass(frozen=True)
class Stacked:
    """Averages surrogates with convex weights, learnt for each novelty class by cross-fitting.

    Doubles of seen parts are held out in folds, and so are targets with every condition that contains them.
    Singles that were measured are left to the first member.

    Attributes:
        members: The surrogates, the simplest first: it stands alone where nothing can be held out.
        unseen: Whether to learn weights for perturbations with unseen parts; they cost as many fits again.
        folds: Number of folds of each kind.
        per_readout: Whether each readout has weights of its own, as in the stacks for each gene of Al Taweraqi and
            King (2022), drawn to those of all readouts as far as the held-out errors ask for; at most 8 members.
            The posterior has one scale for all readouts, with the mean weight of each member.
    """

    members: tuple[Surrogate, ...]
    unseen: bool = True
    folds: int = 5
    per_readout: bool = False

    def __post_init__(self) -> None:
        """Refuse an empty stack, and too few folds."""
        if not self.members or self.folds < 2:
            raise DataError(f"a stack needs members, and 2 or more folds; got {self!r}")
        if self.per_readout and len(self.members) > _MOST_MEMBERS:
            raise DataError(
                f"a stack with weights of each readout takes {_MOST_MEMBERS} members or fewer; got"
                f" {len(self.members)}: leave some out, or take per_readout=False"
            )

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
        classes = [weigh(each, per_readout=self.per_readout) for each in held_out]
        combined = next((each for each in classes if each.code == SEEN_DOUBLE), alone)
        return FittedStacked(members, alone, combined, tuple(each for each in classes if each is not combined))


def weigh(held_out: HeldOutErrors, *, per_readout: bool) -> ClassWeights:
    """Learn the weights of a novelty class."""
    if per_readout:
        weights = _weights_of_readouts(held_out)
        error = torch.einsum("mg,mbg->bg", weights, held_out.errors)
        scale = weights.mean(1) @ held_out.scales
    else:
        weights = convex_weights((held_out.errors * held_out.shares.sqrt()[:, None]).flatten(1))
        error = torch.tensordot(weights, held_out.errors, 1)
        scale = weights @ held_out.scales
    variance = _positive((error.square() / scale[:, None]).mean(0))
    return ClassWeights(held_out.code, weights, variance, held_out.support)


def _weights_of_readouts(held_out: HeldOutErrors) -> Float[Tensor, "m g"]:
    """Choose how far readouts share weights on each split in turn, by what the others let expect, and apply it."""
    errors = held_out.errors * held_out.shares.sqrt()[:, None]
    lost = torch.zeros(len(_COMMON_SHARES), dtype=torch.float64)
    for split in held_out.splits.unique():
        own = held_out.splits == split
        others = errors[:, ~torch.isin(held_out.conditions, held_out.conditions[own])]
        for number, common in enumerate(_COMMON_SHARES):
            weights = readout_weights(others, common=common)
            lost[number] += torch.einsum("mg,mbg->bg", weights, errors[:, own]).square().sum()
    return readout_weights(errors, common=_COMMON_SHARES[int(lost.argmin())])


def readout_weights(errors: Float[Tensor, "m b g"], *, common: float) -> Float[Tensor, "m g"]:
    """Weigh members in each readout by its errors, and by those of all readouts with the share ``common``."""
    own = torch.einsum("mbg,nbg->gmn", errors, errors)
    if common == 1:
        return convex_weights_of(own.sum(0))[:, None].expand(-1, len(own)).clone()
    return simplex_weights((1 - common) * _of_size_one(own) + common * _of_size_one(own.sum(0))).T


def _of_size_one(products: Float[Tensor, "*r m m"]) -> Float[Tensor, "*r m m"]:
    sizes = products.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return products / torch.where(sizes > 0, sizes, 1.0)


def simplex_weights(products: Float[Tensor, "g m m"]) -> Float[Tensor, "g m"]:
    """Minimise ``w^T P w`` over convex weights for many small ``P`` at once: the best of all sets of members.

    Some optimum solves the equations of Lagrange on the members that count in it, and those have one solution.
    """
    g, m, _ = products.shape
    best, least = products.new_zeros(g, m), products.new_full((g,), float("inf"))
    for count in range(1, m + 1):
        for members in combinations(range(m), count):
            some = torch.tensor(members)
            system = products.new_ones(g, count + 1, count + 1)
            system[:, :count, :count] = products[:, some[:, None], some]
            system[:, count, count] = 0
            right = products.new_zeros(g, count + 1, 1)
            right[:, count] = 1
            solved = torch.linalg.solve_ex(system, right).result[:, :count, 0]
            weights = products.new_zeros(g, m)
            weights[:, some] = solved / solved.sum(1, keepdim=True)
            value = torch.einsum("gm,gmn,gn->g", weights, products, weights)
            better = (solved >= 0).all(1) & (value < least)  # false where the equations have no solution
            best[better], least[better] = weights[better], value[better]
    return best


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


def _required(member: Fitted) -> PairFactored:
    factored = pair_factored(member)
    if factored is None:
        raise TypeError("a member of the stack does not factorise over pairs; stream it instead")
    return factored
