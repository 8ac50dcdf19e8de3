"""Held-out combinations with the candidates among which they are to be identified, and their quadratic forms.

A likelihood needs inner products under the inverse covariance, ``x^T Sigma^-1 y``, and a candidate is a sum of
few rows: so the products of those rows are worked out once for each covariance, and looked up for every candidate.
Where there are many rows but few of their pairs are candidates, no others are multiplied.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement, product
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance

_BLOCK = 2**18  # forms of so many rows and candidates are worked out together
_DENSE = 8  # all pairs of rows are multiplied if they are at most so many times as many as those that are wanted
_READOUTS = 256  # readouts that are multiplied together where few pairs are wanted

Table: TypeAlias = Callable[[], Float[Tensor, "n g"]]


@dataclass(frozen=True)
class HeldOutFold:
    """Combinations that a model has not seen, and the candidates among which they are to be identified.

    Tables as large as a screen are made when they are asked for, so that those of one fold are there at a time.
    """

    measured: Float[Tensor, "p g"]  # measured effects of the combinations that are to be identified
    truth: Int[Tensor, "p"]  # number of each of them among the candidates
    atoms: Table  # makes rows of effects; every candidate's predicted effect is the sum of some, and of basis rows
    summed: Int[Tensor, "c k"]  # which of the atoms are summed for each candidate
    basis: Float[Tensor, "r g"]  # few more rows of effects
    products: Float[Tensor, "c r"]  # weight of each basis row in each candidate's prediction
    scale: Float[Tensor, "c"]  # posterior scale of the candidates
    parts: Int[Tensor, "c 2"]  # numbers of the two parts of each candidate among the singles
    singles: Table  # makes the single effect of each entry; the same as ``atoms`` where nothing was done to them

    @property
    def predictions(self) -> Float[Tensor, "c g"]:
        """Predicted effect of every candidate."""
        return self.atoms()[self.summed].sum(1) + self.products @ self.basis

    @property
    def truths(self) -> tuple[Int[Tensor, "_p"], ...]:
        """Number of the true candidate of each combination, in blocks of rows that stay in a processor's cache."""
        return tuple(self.truth.split(max(1, _BLOCK // len(self.parts))))


# What the log density of an error model is given: square, projections, gram and scale.
Forms: TypeAlias = tuple[
    Float[Tensor, "_p c"],
    tuple[Float[Tensor, "_p c"], ...],
    tuple[Float[Tensor, "c"], ...],
    Float[Tensor, "c"],
]
_Pairs: TypeAlias = tuple[Int[Tensor, "c"], Int[Tensor, "c"]]


@dataclass(frozen=True)
class WantedProducts:
    """Which rows of a fold are multiplied with each other, the same for all error models."""

    shared: bool  # whether candidates are predicted as sums of the single effects themselves
    of_atoms: "_Wanted"
    of_singles: "_Wanted"
    of_both: "_Wanted"  # singles with atoms

    @classmethod
    def of(cls, fold: HeldOutFold) -> "WantedProducts":
        """List what the candidates of a fold ask for."""
        slots, parts = tuple(fold.summed.T), tuple(fold.parts.T)
        return cls(
            fold.atoms is fold.singles and torch.equal(fold.summed, fold.parts),
            _Wanted.of(list(combinations_with_replacement(slots, 2))),
            _Wanted.of(list(combinations_with_replacement(parts, 2))),
            _Wanted.of(list(product(parts, slots))),
        )


@dataclass(frozen=True)
class FoldProducts:
    """Inner products of the rows of a fold under the covariance of an error model, targets less its offset."""

    fold: HeldOutFold
    squares: Float[Tensor, "p"]  # of each combination with itself
    on_atoms: Float[Tensor, "p a"]
    on_basis: Float[Tensor, "p r"]
    on_singles: Float[Tensor, "p v"]
    lengths: Float[Tensor, "c"]  # of the prediction of each candidate with itself
    mixed: tuple[Float[Tensor, "c"], ...]  # of the single effect of each part with the prediction
    grams: tuple[Float[Tensor, "c"], ...]  # of the single effects with each other

    @classmethod
    def of(cls, fold: HeldOutFold, law: ErrorLaw, wanted: "WantedProducts | None" = None) -> "FoldProducts":
        """Multiply the rows of a fold; which are wanted is found out unless it is known."""
        wanted = wanted or WantedProducts.of(fold)
        singles = _Rows.of(fold.singles(), law.covariance)
        atoms = singles if wanted.shared else _Rows.of(fold.atoms(), law.covariance)
        basis = _Rows.of(fold.basis, law.covariance)
        targets = _Rows.of(fold.measured - law.offset, law.covariance)
        slots = range(fold.summed.shape[1])
        pairs = combinations_with_replacement(slots, 2)
        squares = atoms.times(atoms, wanted.of_atoms)
        lengths = sum(
            (square if one == other else 2 * square for square, (one, other) in zip(squares, pairs, strict=True)),
            start=fold.scale.new_zeros(len(fold.scale)),
        )
        on_basis = atoms.all_times(basis)
        along = fold.products @ basis.all_times(basis) + 2 * on_basis[fold.summed].sum(1)
        single_on_basis = singles.all_times(basis)
        if wanted.shared:  # each of the two with both, and both with both
            grams, across = squares, iter([*squares[:2], *squares[1:]])
        else:
            grams = singles.times(singles, wanted.of_singles)
            across = iter(singles.times(atoms, wanted.of_both))
        mixed = tuple(
            (single_on_basis[part] * fold.products).sum(1) + torch.stack([next(across) for _ in slots]).sum(0)
            for part in fold.parts.T
        )
        return cls(
            fold=fold,
            squares=targets.squares,
            on_atoms=targets.all_times(atoms),
            on_basis=targets.all_times(basis),
            on_singles=targets.all_times(singles),
            lengths=lengths + (along * fold.products).sum(1),
            mixed=mixed,
            grams=tuple(grams),
        )

    @property
    def numbers(self) -> int:
        """How many numbers these are."""
        tables = (self.on_atoms, self.on_basis, self.on_singles, self.lengths, *self.mixed, *self.grams)
        return sum(each.numel() for each in tables)

    @property
    def densities(self) -> int:
        """How many log densities they give."""
        return len(self.fold.truth) * len(self.fold.parts)

    def forms(self) -> Iterator[Forms]:
        """Look the products up for all combinations and candidates, in the blocks of rows of the truths."""
        done = 0
        for block in self.fold.truths:
            rows = slice(done, done + len(block))
            done += len(block)
            inner = self.on_basis[rows] @ self.fold.products.T
            for atom in self.fold.summed.T:
                inner += self.on_atoms[rows].index_select(1, atom)
            square = torch.add(self.squares[rows, None] + self.lengths, inner, alpha=-2)
            projections = tuple(
                self.on_singles[rows].index_select(1, part) - own
                for part, own in zip(self.fold.parts.T, self.mixed, strict=True)
            )
            yield square, projections, self.grams, self.fold.scale


def inner_products(left: Float[Tensor, "n q"], right: Float[Tensor, "m q"], pairs: _Pairs) -> Float[Tensor, "c"]:
    """Multiply some rows with some others, pair by pair."""
    if not left.shape[1]:
        return left.new_zeros(len(pairs[0]))
    one, other = (_Rows(rows, rows.new_ones(rows.shape[1]), rows[:, :0]) for rows in (left, right))
    return one.times(other, _Wanted.of([pairs]))[0]


@dataclass(frozen=True)
class _Rows:
    """Some rows, weighed by ``Sigma^-1 = diag(weight) - V V^T``."""

    rows: Float[Tensor, "n g"]
    weight: Float[Tensor, "g"]
    along: Float[Tensor, "n q"]  # the rows times ``V``

    @classmethod
    def of(cls, rows: Float[Tensor, "n g"], covariance: FactorCovariance) -> "_Rows":
        weight, directions = covariance.precision
        return cls(rows, weight, rows @ directions)

    @cached_property
    def squares(self) -> Float[Tensor, "n"]:
        """Product of each row with itself."""
        return self.rows.square() @ self.weight - self.along.square().sum(1)

    @cached_property
    def _weighed(self) -> Float[Tensor, "n g"]:
        return self.rows * self.weight

    def all_times(self, other: "_Rows") -> Float[Tensor, "n m"]:
        """Multiply every row with every other."""
        if len(self.rows) > len(other.rows):  # fewer rows are weighed
            return other.all_times(self).T
        return self._weighed @ other.rows.T - self.along @ other.along.T

    def times(self, other: "_Rows", wanted: "_Wanted") -> list[Float[Tensor, "c"]]:
        """Multiply some rows with some others."""
        if len(self.rows) * len(other.rows) <= _DENSE * len(wanted.first):
            found = self.all_times(other)[wanted.first, wanted.second]
        else:
            found = self._each_times(other, wanted)
        return [found[place] for place in wanted.places]

    def _each_times(self, other: "_Rows", wanted: "_Wanted") -> Float[Tensor, "k"]:
        """Multiply rows pair by pair, few readouts at a time: those stay in a processor's cache."""
        found = _nothing(wanted, len(self.rows), len(other.rows))
        for start in range(0, self.rows.shape[1], _READOUTS):
            some = slice(start, start + _READOUTS)
            found = torch.sparse.sampled_addmm(
                found, self.rows[:, some] * self.weight[some], other.rows[:, some].T
            )
        if self.along.shape[1]:
            found = torch.sparse.sampled_addmm(found, self.along, other.along.T, alpha=-1.0)
        products: Tensor = found.values()
        return products


@dataclass(frozen=True)
class _Wanted:
    """Which rows are multiplied with which others: every product once, in the order of the first."""

    first: Int[Tensor, "k"]
    second: Int[Tensor, "k"]
    places: tuple[Int[Tensor, "c"], ...]  # which of the products each list of pairs asks for

    @classmethod
    def of(cls, pairs: Sequence[_Pairs]) -> "_Wanted":
        """Take several lists of pairs together."""
        first, second = (torch.cat(each) for each in zip(*pairs, strict=True))
        width = int(second.max()) + 1 if len(second) else 1
        keys, place = (first * width + second).unique(return_inverse=True)
        return cls(keys // width, keys % width, place.split([len(each) for each, _ in pairs]))


def _nothing(wanted: _Wanted, height: int, width: int) -> Tensor:
    """Make a sparse matrix of zeros where products are wanted."""
    with warnings.catch_warnings():  # sparse matrices of this kind are called new
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(
            torch.searchsorted(wanted.first, torch.arange(height + 1)),
            wanted.second,
            torch.zeros(len(wanted.second), dtype=torch.float64),
            size=(height, width),
            check_invariants=False,
        )
