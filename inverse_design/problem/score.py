"""Scores of all pairs: the contract between an objective and the search.

A score is one product of factors, or a function of several. A likelihood is a small difference of large forms, so
that single precision would need wide margins: its products are in double precision, which costs two in single.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from surrogates.errors import DataError
from surrogates.uncertainty.error_model import ErrorLaw, squares

_UNIT = 2.0**-24  # relative rounding error of single precision
_TINY = torch.finfo(torch.float32).tiny
_EXACT_CELLS = 1 << 18  # numbers gathered at a time
_LEADING = 64  # directions that bounds are made of
_SAMPLED = 512  # rows of each factor that the leading directions are found from


@runtime_checkable
class PairScore(Protocol):
    """Scores of the pairs of ``v`` entries, larger is better.

    Entries are counted in *positions*: place ``i`` is ``space.entries[i]`` of the space that is searched. A pair
    is ``(i, j)`` with ``i < j``.
    """

    @property
    def size(self) -> int:
        """Number of entries ``v``."""
        ...

    @property
    def error(self) -> float:
        """A bound on ``|block - exact|`` over all pairs; the search is exact because, and if, it holds."""
        ...

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score pairs quickly, in single precision; several threads may ask at the same time.

        Args:
            start: First row ``i``.
            stop: One past the last row.
            columns: First column ``j`` and one past the last; by default all from ``start`` on.

        Returns:
            ``stop - start`` first entries by second entries. Cells with ``j <= i`` mean nothing, but are not NaN.
        """
        ...

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision.

        Args:
            first: Positions ``i``.
            second: Positions ``j``, each larger than its ``i``.

        Returns:
            Their scores; that of a pair does not depend on what else is asked for.
        """
        ...


@dataclass(frozen=True)
class ProductScore:
    """The score ``side_i + side_j + times left_i · right_j`` of the pair ``i < j``."""

    side: Float64[Tensor, "v"]  # the utility of an entry by itself
    left: Float[Tensor, "v d"]  # factor of the first entry
    right: Float[Tensor, "v d"]  # factor of the second entry
    times: float = 1.0  # a square of sums counts products twice: both factors are one table

    def __post_init__(self) -> None:
        """Refuse factors that are not finite or overflow single precision."""
        if not 4 * self.magnitude < torch.finfo(torch.float32).max:
            raise DataError(
                f"pair scores of size up to {self.magnitude:.3g} are not finite in single precision; rescale"
                " the effects, or remove values that are not finite"
            )

    @classmethod
    def of_distance(cls, rows: Float64[Tensor, "v d"], target: Float64[Tensor, "d"]) -> "ProductScore":
        """Score pairs by the negative squared distance ``-|target - rows_i - rows_j|²``."""
        centred = rows - target / 2
        return cls(-squares(centred), centred, centred, -2.0)

    @property
    def size(self) -> int:
        """Number of entries ``v``."""
        return len(self.side)

    @property
    def error(self) -> float:
        """A bound on the single-precision error, by the standard analysis of an inner product.

        Rounding both factors and summing ``n = d + 2`` products in any order, fused or not, is wrong by at most
        ``γ_{n+2} Σ|x y|`` with ``γ_m = m u / (1 - m u)`` and ``u = 2^-24`` [Higham 2002, section 3.1]; the sum is
        at most :attr:`magnitude` by Cauchy-Schwarz. The slack of four more roundings covers those of the bound
        and of the double-precision score; the second term covers underflow.
        """
        steps = (self.left.shape[1] + 8) * _UNIT
        return self.magnitude * steps / (1 - steps) + steps / _UNIT * _TINY * (4 + self.magnitude)

    @cached_property
    def magnitude(self) -> float:
        """A bound on the size of any pair's score, by Cauchy-Schwarz."""
        if self.size == 0:
            return 0.0
        factors = (self.left,) if self.left is self.right else (self.left, self.right)
        longest = [torch.linalg.vector_norm(each, dim=1).max() for each in factors]
        return float(abs(self.times) * longest[0] * longest[-1] + 2 * self.side.abs().max())

    @cached_property
    def _folded(self) -> tuple[Float32[Tensor, "v n"], Float32[Tensor, "v n"]]:
        """Both factors with the sides as two more columns: one product then makes the whole score."""
        side = self.side.float()[:, None]
        ones = torch.ones_like(side)
        return (
            torch.cat([self.times * self.left.float(), side, ones], dim=1),
            torch.cat([self.right.float(), ones, side], dim=1),
        )

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of rows ``start`` to ``stop`` with some columns."""
        left, right = self._folded
        return left[start:stop] @ right[slice(*(columns or (start, None)))].T

    def double_block(self, one: slice, other: slice) -> Float64[Tensor, "rows columns"]:
        """Score a block of pairs in double precision."""
        product = self.left[one].double() @ self.right[other].double().T
        return product.mul_(self.times).add_(self.side[one, None]).add_(self.side[other])

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision."""
        return (
            self.side[first] + self.side[second] + self.times * row_products(self.left, self.right, first, second)
        )


def row_products(
    left: Float[Tensor, "v d"], right: Float[Tensor, "v d"], first: Int[Tensor, "m"], second: Int[Tensor, "m"]
) -> Float64[Tensor, "m"]:
    """Take inner products of chosen rows, so few at a time that they stay in the cache."""
    chunk = max(2, _EXACT_CELLS // max(1, left.shape[1]))
    pairs = zip(first.split(chunk), second.split(chunk), strict=True)
    return torch.cat([(left[i].double() * right[j].double()).sum(1) for i, j in pairs])


def leading_directions(factors: Sequence[Float[Tensor, "v d"]]) -> tuple[Float64[Tensor, "d q"], float]:
    """Find directions that hold most of some factors, and how much, by a step of subspace iteration on samples."""
    sampled = torch.cat([each[:: max(1, len(each) // _SAMPLED)].double() for each in factors])
    rows = torch.nn.functional.normalize(sampled, dim=1)
    start = rows[:: max(1, len(rows) // _LEADING)][:_LEADING]
    directions: Tensor = torch.linalg.qr(rows.T @ (rows @ start.T)).Q
    return directions, float((rows @ directions).square().sum(1).mean())


# Rounding a score to single precision is wrong by half a unit in the last place; twice that for safety.
ROUNDING = 2.0**-23


@runtime_checkable
class DoubleScore(PairScore, Protocol):
    """A score whose blocks can also be had in double precision: others are made of several of them."""

    @property
    def magnitude(self) -> float:
        """A bound on the size of any pair's score."""
        ...

    def double_block(self, one: slice, other: slice) -> Float64[Tensor, "rows columns"]:
        """Score the pairs of some rows and columns; cells below the diagonal mean nothing, but are not NaN."""
        ...


@dataclass(frozen=True)
class SumScore:
    """The sum of several scores of the same pairs."""

    parts: tuple[DoubleScore, ...]  # one at least

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.parts[0].size

    @property
    def magnitude(self) -> float:
        """A bound on the size of any pair's score, before the parts cancel."""
        return sum(each.magnitude for each in self.parts)

    @property
    def error(self) -> float:
        """A bound on the rounding of a score, which is made in double precision."""
        return self.magnitude * ROUNDING

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of rows ``start`` to ``stop`` with some columns."""
        return self.double_block(slice(start, stop), slice(*(columns or (start, None)))).float()

    def double_block(self, one: slice, other: slice) -> Float64[Tensor, "rows columns"]:
        """Score a block of pairs in double precision."""
        return reduce(torch.add, (each.double_block(one, other) for each in self.parts))

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision."""
        return reduce(torch.add, (each.exact(first, second) for each in self.parts))


@dataclass(frozen=True)
class RatioScore:
    """The correlation ``numerator / sqrt(square)`` of every pair."""

    numerator: DoubleScore  # a linear form of the pair's effect, at most the root of ``square``
    square: DoubleScore  # the squared length of the pair's effect

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.numerator.size

    @property
    def error(self) -> float:
        """A bound on the rounding error: a correlation is at most one."""
        return 2 * ROUNDING

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of rows ``start`` to ``stop`` with some columns."""
        one, other = slice(start, stop), slice(*(columns or (start, None)))
        numerator, square = (each.double_block(one, other) for each in (self.numerator, self.square))
        return self._ratio(numerator, square).float()

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision."""
        return self._ratio(self.numerator.exact(first, second), self.square.exact(first, second))

    def _ratio(self, numerator: Float64[Tensor, "*b"], square: Float64[Tensor, "*b"]) -> Float64[Tensor, "*b"]:
        # Cells below the diagonal mean nothing and may hold a negative "square". What is rounding depends on the
        # unit of the effects: it is relative to the largest entry.
        double = torch.finfo(torch.float64)
        floor = max(self.square.magnitude * double.eps, double.tiny)
        return (numerator / square.clamp(min=floor).sqrt()).clamp(-1.0, 1.0)


@runtime_checkable
class PairProjection(Protocol):
    """Each part's own effect times target minus prediction, for both parts of every pair."""

    def block(self, one: slice, other: slice) -> tuple[Float64[Tensor, "r c"], Float64[Tensor, "r c"]]:
        """The numbers of a block of pairs: of the first entries, and of the second ones."""
        ...

    def exact(
        self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]
    ) -> tuple[Float64[Tensor, "m"], Float64[Tensor, "m"]]:
        """The numbers of chosen pairs."""
        ...


@dataclass(frozen=True)
class LikelihoodScore:
    """The log density of a target under every pair, by the error model of pairs of seen singles."""

    law: ErrorLaw  # the error model on the target's readouts
    square: DoubleScore  # squared length of target minus prediction, whitened
    scale: ProductScore  # posterior scale
    projection: PairProjection | None  # each part's whitened effect times target minus prediction, if it scatters
    singles: Float64[Tensor, "v m"]  # whitened single effects
    log_prior: Float64[Tensor, "v"]  # log prior weight of each entry
    constant: float  # added to every score
    upper: "LikelihoodScore | None" = None  # the same along few directions, which is never below it

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.log_prior)

    @property
    def error(self) -> float:
        """A bound on the rounding of a score, from the largest square and scale that a pair can have."""
        square = self.square.magnitude
        readouts = len(self.law.offset)
        volume = readouts * (1 + self.scale.magnitude) + 2 * (1 + self.law.coefficient_variance * square)
        largest = self.law.temperature / 2 * (square + volume) + 2 * float(self.log_prior.abs().max())
        return (largest + abs(self.constant)) * ROUNDING

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of rows ``start`` to ``stop`` with some columns."""
        return self.double_block(slice(start, stop), slice(*(columns or (start, None)))).float()

    def double_block(self, one: slice, other: slice) -> Float64[Tensor, "rows columns"]:
        """Score a block of pairs in double precision."""
        square = self.square.double_block(one, other)
        scale = self._certain if self._certain is not None else self.scale.double_block(one, other)
        projections: tuple[Tensor, ...] = ()
        gram: tuple[Tensor, ...] = ()
        if self.projection is not None:
            lengths = self._lengths
            projections = self.projection.block(one, other)
            inner = self.singles[one] @ self.singles[other].T
            gram = (lengths[one, None].expand_as(inner), inner, lengths[other].expand_as(inner))
        prior = self.log_prior[one, None] + self.log_prior[other]
        return self._density(square, projections, gram, scale, prior)

    def shifted(self, by: float) -> "LikelihoodScore":
        """Add a number to every score."""
        upper = None if self.upper is None else self.upper.shifted(by)
        return replace(self, constant=self.constant + by, upper=upper)

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision."""
        projections: tuple[Tensor, ...] = ()
        gram: tuple[Tensor, ...] = ()
        if self.projection is not None:
            projections, lengths = self.projection.exact(first, second), self._lengths
            gram = (lengths[first], row_products(self.singles, self.singles, first, second), lengths[second])
        square, scale = self.square.exact(first, second), self.scale.exact(first, second)
        return self._density(square, projections, gram, scale, self.log_prior[first] + self.log_prior[second])

    @cached_property
    def _certain(self) -> Float64[Tensor, "1 1"] | None:
        """A scale of one, where all pairs have that: it need not be made for each."""
        same = not self.scale.left.shape[1] and bool((self.scale.side == 1 / 2).all())
        return self.scale.side.new_ones(1, 1) if same else None

    @cached_property
    def _lengths(self) -> Float64[Tensor, "v"]:
        return squares(self.singles)

    def _density(
        self,
        square: Float64[Tensor, "*b"],
        projections: tuple[Float64[Tensor, "*b"], ...],
        gram: tuple[Float64[Tensor, "*b"], ...],
        scale: Float64[Tensor, "*#b"],
        prior: Float64[Tensor, "*b"],
    ) -> Float64[Tensor, "*b"]:
        # Cells on and below the diagonal are not pairs; keep them finite, they are never proposed.
        density = self.law.log_density(square.clamp(min=0), projections, gram, scale.clamp(min=1e-6))
        return density + prior + self.constant


@dataclass(frozen=True)
class PooledScore:
    """The logarithm of a sum of exponentials of several scores: of posteriors, the log of their weighted mean."""

    scores: tuple[LikelihoodScore, ...]  # of the same pairs
    shifts: tuple[float, ...]  # added to each: log weights less log normalisers

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.scores[0].size

    @property
    def error(self) -> float:
        """A bound on the rounding: the sum is made in double precision and is no larger than its largest term."""
        return max(each.error for each in self._shifted) + math.log(len(self.scores)) * ROUNDING

    @cached_property
    def upper(self) -> "PooledScore | None":
        """The same along few directions, which is never below it."""
        if all(each.upper is None for each in self.scores):
            return None
        return PooledScore(tuple(each.upper or each for each in self.scores), self.shifts)

    @property
    def _shifted(self) -> tuple[LikelihoodScore, ...]:
        return tuple(each.shifted(by) for each, by in zip(self.scores, self.shifts, strict=True))

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of rows ``start`` to ``stop`` with some columns."""
        return self.double_block(slice(start, stop), slice(*(columns or (start, None)))).float()

    def double_block(self, one: slice, other: slice) -> Float64[Tensor, "rows columns"]:
        """Score a block of pairs in double precision."""
        blocks = (each.double_block(one, other) + by for each, by in zip(self.scores, self.shifts, strict=True))
        return reduce(torch.logaddexp, blocks)

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision."""
        return log_sum((each.exact(first, second) for each in self.scores), self.shifts)

    def shifted(self, by: float) -> "PooledScore":
        """Add a number to every score."""
        return replace(self, shifts=tuple(each + by for each in self.shifts))


def log_sum(scores: Iterable[Float64[Tensor, "*b"]], shifts: Iterable[float]) -> Float64[Tensor, "*b"]:
    """Add up the exponentials of several scores, each shifted by a number, and take the logarithm.

    Number by number: in torch the last bit depends on how many there are.
    """
    terms = ((each + by).numpy() for each, by in zip(scores, shifts, strict=True))
    return torch.from_numpy(reduce(np.logaddexp, terms))
