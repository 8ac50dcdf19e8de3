"""Scores of sets of three and more entries as sums over their pairs, where the model makes them so.

All pairs of a space are scored quickly, with bounds on the sets that hold a pair.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice, product

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood, class_constant, law_on
from inverse_design.problem.objective import Objective, SignedProjection, SquaredDistance
from inverse_design.problem.score import ProductScore
from inverse_design.problem.set_rules import PairMask, SetRules
from inverse_design.problem.space import CombinationSpace
from surrogates.data.novelty import SEEN_DOUBLE, seen_code
from surrogates.errors import DataError
from surrogates.models.wrappers.calibrated import FittedCalibrated

_UNIT = 2.0**-24  # relative rounding error of single precision
_SPARE_ROUNDINGS = 24  # of a bound, of a threshold turned to single precision, and of their comparison
_EXACT_CELLS = 1 << 22  # numbers gathered at a time


@dataclass(frozen=True)
class PairwiseSetScore:
    """The score ``constant + sum_i side_i + sum_{i<j} left_i · right_j`` of a set of ``order`` entries.

    It is the constant plus a sum over pairs of ``P_ij = (side_i + side_j) / (order - 1) + left_i · right_j``.
    Entries are counted in *positions*: place ``i`` is ``space.entries[i]`` of the space that is searched.
    """

    side: Float64[Tensor, "v"]  # the utility of an entry by itself
    left: Float64[Tensor, "v d"]  # factor of the earlier entry of a pair
    right: Float64[Tensor, "v d"]  # factor of the later entry of a pair
    constant: float  # the utility of each set
    order: int  # how many entries a set has; at least two

    def __post_init__(self) -> None:
        """Refuse sets without pairs, and numbers that are not finite or overflow single precision."""
        if self.order < 2:
            raise DataError(f"sets of order {self.order} have no pairs; ask for order two or more")
        if not math.isfinite(self.constant):
            raise DataError(f"the constant {self.constant} of a set score is not finite; leave it out")
        if not 4 * self.pairs * self.product.magnitude < torch.finfo(torch.float32).max:
            raise DataError(
                f"scores of {self.pairs} pairs of size up to {self.product.magnitude:.3g} are not finite in"
                " single precision; rescale the effects, or remove values that are not finite"
            )

    @classmethod
    def of_distance(
        cls, rows: Float64[Tensor, "v d"], target: Float64[Tensor, "d"], order: int
    ) -> "PairwiseSetScore":
        """Score sets by the negative squared distance ``-|target - sum_i rows_i|²``."""
        centred = rows - target / max(1, order)
        return cls(-centred.square().sum(1), -2 * centred, centred, 0.0, order)

    @property
    def size(self) -> int:
        """Number of entries ``v``."""
        return len(self.side)

    @property
    def pairs(self) -> int:
        """Number of pairs in a set."""
        return math.comb(self.order, 2)

    @cached_property
    def product(self) -> ProductScore:
        """Scores ``P_ij`` of pairs."""
        return ProductScore(self.side / (self.order - 1), self.left, self.right)

    @property
    def error(self) -> float:
        """A bound on the error of sums of quick pair scores, and of bounds made of them, less the constant.

        Each of the ``n`` pairs is wrong by at most :attr:`ProductScore.error`. Adding them up in single
        precision in any order takes ``n - 1`` roundings of sums that are at most ``n`` times the magnitude of a
        pair [Higham 2002, section 4.2]; the spare ones cover those of bounds and thresholds. The last term
        covers the roundings of :meth:`exact` in double precision, which grow with the constant.
        """
        largest = self.pairs * self.product.magnitude
        steps = (self.pairs + _SPARE_ROUNDINGS) * _UNIT
        double = (self.pairs * (self.left.shape[1] + 2) + 2 * self.order) * _UNIT**2
        return (
            self.pairs * self.product.error
            + largest * steps / (1 - steps)
            + double * (largest + abs(self.constant))
        )

    def quick(self, start: int, stop: int) -> Float32[Tensor, "rows columns"]:
        """Score pairs ``P_ij`` in single precision."""
        return self.product.block(start, stop)

    def exact(self, positions: Int[Tensor, "m k"]) -> Float64[Tensor, "m"]:
        """Score chosen sets in double precision."""
        if positions.shape[1] != self.order:
            raise DataError(f"sets of {positions.shape[1]} entries do not fit a score of order {self.order}")
        chunk = max(2, _EXACT_CELLS // max(1, self.left.shape[1]))
        return torch.cat([self._exact(part) for part in positions.split(chunk)])

    def _exact(self, positions: Int[Tensor, "m k"]) -> Float[Tensor, "m"]:
        """Add up in a fixed order: first the entries, then the pairs."""
        members = positions.unbind(1)
        total = torch.full((len(positions),), self.constant, dtype=torch.float64)
        for member in members:
            total = total + self.side[member]
        for later in range(1, self.order):
            for earlier in range(later):
                total = total + (self.left[members[earlier]] * self.right[members[later]]).sum(1)
        return total


def is_sum_over_pairs(objective: Objective) -> bool:
    """Tell whether a utility is a sum over pairs where the mean effect is a sum of rows; see :func:`set_score`."""
    return isinstance(objective, SquaredDistance | SignedProjection | TargetLikelihood)


def set_score(
    objective: Objective, fitted: FittedCalibrated, space: CombinationSpace, order: int
) -> PairwiseSetScore | None:
    """Write the utility of the sets of an order as a sum over pairs, so that bounds on pairs bound sets.

    If the mean effect is a sum of rows and the posterior scale is one, a squared distance has terms of one and of
    two members only, whatever the covariance it is measured in; so has a projection. The log density of the normal
    distribution is such a distance. That of the Student distribution falls with it, and ranks alike where the
    prior is flat. Scattered coefficients couple all members in a density (in a distance each adds its own), as do
    interactions and correlations: they have no such sum.
    """
    rows = fitted.set_rows(order)
    if rows is None or not is_sum_over_pairs(objective):
        return None
    rows = rows[space.entries]
    if isinstance(objective, SquaredDistance):
        return _of_distance(objective, rows, fitted, fitted.singles[space.entries], order=order)
    if isinstance(objective, SignedProjection):
        none = rows.new_zeros(len(rows), 1)
        return PairwiseSetScore(objective.measured(rows), none, none, 0.0, order)
    if isinstance(objective, TargetLikelihood):
        return _of_likelihood(objective, rows, fitted, space, order)
    return None


def _of_distance(
    objective: SquaredDistance,
    rows: Float64[Tensor, "v g"],
    fitted: FittedCalibrated,
    singles: Float64[Tensor, "v g"],
    *,
    order: int,
) -> PairwiseSetScore:
    target, law = objective.target, fitted.law(seen_code(order))
    root, columns = target.weights.sqrt(), target.columns
    spread = float((law.covariance.variance[columns] * target.weights).sum())
    scattered = law.coefficient_variance * (singles[:, columns].square() @ target.weights)
    score = PairwiseSetScore.of_distance(rows[:, columns] * root, target.values * root, order)
    return replace(score, side=score.side - scattered, constant=-spread)


def _of_likelihood(
    objective: TargetLikelihood,
    rows: Float64[Tensor, "v g"],
    fitted: FittedCalibrated,
    space: CombinationSpace,
    order: int,
) -> PairwiseSetScore | None:
    target, prior = objective.target, objective.log_prior[space.entries]
    power = fitted.law(SEEN_DOUBLE).temperature
    law = law_on(fitted.law(seen_code(order)), target).with_temperature(power)
    flat = bool((prior == prior[0]).all()) if len(prior) else True
    if law.coefficient_variance > 0 or (math.isfinite(law.degrees) and not flat):
        return None
    half, whiten = math.sqrt(power / 2), law.covariance.whiten
    score = PairwiseSetScore.of_distance(
        half * whiten(rows[:, target.columns]), half * whiten(target.values[None])[0], order
    )
    return replace(score, side=score.side + prior, constant=class_constant(law))


_ROWS = 512  # rows of a product
_ALONE, _GROUPS = 32, 96  # groups of further entries: the strongest one by one, the others together
_CELLS = 1 << 20  # bounds held at a time

_Singles = NDArray[np.float32]
_Places = NDArray[np.int64]


@dataclass(frozen=True)
class PairBounds:
    """Quick scores of all pairs of a space, and bounds on the sets of which a pair is the *leading* one.

    If no target is required, the leading pair of a set is its pair of the largest score. Else it is that of a
    entry of the required target with the fewest entries, the lead, with its best partner in the set.
    """

    # Symmetric; minus infinity on the diagonal and where no candidate may hold both entries.
    pairs: Float32[np.ndarray, "v v"]
    # Positions of the entries of each required target, the fewest first.
    required: tuple[Int[np.ndarray, "_"], ...]
    order: int  # how many entries a set has; at least three
    rules: SetRules  # what makes a set a candidate

    @classmethod
    def of(cls, score: PairwiseSetScore, space: CombinationSpace) -> "PairBounds":
        """Score all pairs quickly."""
        pairs, mask = _symmetric(score), PairMask(space.rules, score.order)
        for start in range(0, len(pairs), _ROWS):
            allowed = mask.tile(slice(start, start + _ROWS), slice(None))
            if allowed is not None:
                pairs[start : start + _ROWS][~allowed] = -np.inf
        required = sorted((space.rules.positions(one) for one in space.required), key=len)
        return cls(pairs, tuple(required), score.order, space.rules)

    @property
    def leads(self) -> Int[np.ndarray, "l"]:
        """Positions of which each set holds one: all, or the entries of the required target with the fewest."""
        return self.required[0] if self.required else np.arange(len(self.pairs))

    @cached_property
    def ceiling(self) -> float:
        """A bound on pairs without the lead; minus infinity where none exceeds the leading pair."""
        return float(self.pairs.max()) if self.required else -math.inf

    def starts(self, limit: int) -> Int[np.ndarray, "n s"]:
        """Choose what good sets may grow from: an entry of each required target, or else the strongest entries."""
        if self.required:
            return np.array(list(islice(product(*self.required), limit)), dtype=np.int64)
        return np.argsort(-self.best, kind="stable")[:limit, None]

    def meeting(self, positions: Int[np.ndarray, "n k"]) -> Int[np.ndarray, "m k"]:
        """Drop sets that lack a required target or break a limit."""
        for one in self.required[1:]:
            positions = positions[np.isin(positions, one).any(axis=1)]
        if not self.rules.limits.free:
            positions = positions[self.rules.limits.admit(self._ids(positions)).numpy()]
        return positions

    def open_to(self, positions: Int[np.ndarray, "n k"]) -> Bool[np.ndarray, "n v"] | None:
        """Tell which entries may still join some growing sets, as far as budget and groups go."""
        limits, missing = self.rules.limits, self.order - positions.shape[1]
        if limits.budget is None and not limits.groups:
            return None
        ids = self._ids(positions)
        room = np.ones((len(positions), len(self.pairs)), dtype=bool)
        if limits.budget is not None:
            left = limits.budget - self.rules.reserve(missing - 1) - limits.cost(ids).numpy()
            room &= self.rules.costs <= left[:, None]
        if limits.groups:
            room &= ~limits.full(ids, self.rules.entries).numpy()
        return room

    def _ids(self, positions: Int[np.ndarray, "n k"]) -> Int[Tensor, "n k"]:
        return self.rules.entries[torch.from_numpy(np.sort(positions, axis=1))]

    @cached_property
    def best(self) -> Float32[np.ndarray, "v"]:
        """The largest score of a pair with each entry."""
        best: _Singles = self.pairs.max(axis=1)
        return best

    @cached_property
    def _groups(self) -> _Singles:
        """The largest score of a pair of each entry with the members of each group."""
        order = np.argsort(-self.best, kind="stable")
        parts = [part for part in np.array_split(order[_ALONE:], _GROUPS) if len(part)]
        columns = [self.pairs[:, part].max(axis=1) for part in parts]
        groups: _Singles = np.column_stack([self.pairs[:, order[:_ALONE]], *columns])
        return groups

    def square(self, rows: Int[np.ndarray, "n"], start: int, stop: int) -> Float32[np.ndarray, "n m"]:
        """Bound the sets that some pairs lead, by what their members score at best with any entry."""
        largest = self.pairs[rows, start:stop]
        bound = self._bounds(largest, self.best[rows, None], self.best[None, start:stop])
        if not self.required:
            bound[rows[:, None] >= np.arange(start, start + largest.shape[1])] = -np.inf
        return bound

    def tightened(self, first: Int[np.ndarray, "n"], second: Int[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
        """Bound the sets that some pairs lead, by what both members score with the same group of entries."""
        step = max(1, _CELLS // self._groups.shape[1])
        bound = np.empty(len(first), dtype=np.float32)
        for at in range(0, len(first), step):
            i, j = first[at : at + step], second[at : at + step]
            parts = self._bounds(self.pairs[i, j][:, None], self._groups[i], self._groups[j])
            bound[at : at + step] = parts.max(axis=1)
        return bound

    def _bounds(self, largest: _Singles, first: _Singles, second: _Singles) -> _Singles:
        """Bound sets by their leading pair and the most that both its members score with another one."""
        others = self.order - 2
        cap = np.maximum(largest, np.float32(self.ceiling))
        bound: _Singles = largest + others * (np.minimum(first, largest) + np.minimum(second, cap))
        if others > 1:  # none times minus infinity would not be a number
            bound += math.comb(others, 2) * cap
        return bound


def _symmetric(score: PairwiseSetScore) -> _Singles:
    """Score every pair in both of its cells, and none in the diagonal."""
    pairs = np.empty((score.size, score.size), dtype=np.float32)
    for start in range(0, score.size, _ROWS):
        stop = min(score.size, start + _ROWS)
        block = score.quick(start, stop).numpy()
        corner = np.triu(block[:, : stop - start], 1)
        pairs[start:stop, stop:] = block[:, stop - start :]
        pairs[stop:, start:stop] = block[:, stop - start :].T
        pairs[start:stop, start:stop] = corner + corner.T
    np.fill_diagonal(pairs, -np.inf)
    return pairs
