"""The mean effects of all pairs in the coordinates of a question, and the forms of them that scores are made of.

A mean is a sum of two rows and of products, to which networks on sums of rows may add ``output @ hidden_ij``. A
linear form of it is then a product and a linear form of the last hidden layer. A squared length also has a square
of that layer, which is rotated to as few numbers as it has units: no pair costs more for more readouts.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from inverse_design.problem.score import ROUNDING, PairProjection, ProductScore, SumScore, row_products
from inverse_design.problem.space import CombinationSpace
from surrogates.models.base import LatentFactors, LatentNetwork
from surrogates.uncertainty.error_model import inner_product, squared_norm, squares

_TOGETHER = 1 << 18  # numbers of a hidden layer that are made at a time: they stay in the cache
_TOGETHER_THERE = 1 << 26  # where memory is large and every call costs: on a GPU
_ROWS = 512  # that are taken to other coordinates together
_EXACT = 16  # pairs scored by sums along rows together, always as many


@dataclass(frozen=True)
class Projection:
    """The form ``own_i - left_i · right_j``: an entry's effect times target minus prediction; not symmetric."""

    own: Float64[Tensor, "v"]  # term of the entry whose effect it is
    left: Float64[Tensor, "v d"]  # factor of that entry
    right: Float64[Tensor, "v d"]  # factor of the other entry of the pair

    def block(self, one: slice, other: slice) -> tuple[Float64[Tensor, "r c"], Float64[Tensor, "r c"]]:
        """The form of both entries of a block of pairs."""
        return (
            self.own[one, None] - self.left[one] @ self.right[other].T,
            self.own[other] - self.right[one] @ self.left[other].T,
        )

    def exact(
        self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]
    ) -> tuple[Float64[Tensor, "m"], Float64[Tensor, "m"]]:
        """The form of both entries of chosen pairs."""
        one, other = (
            self.own[i] - row_products(self.left, self.right, i, j) for i, j in ((first, second), (second, first))
        )
        return one, other


@dataclass(frozen=True)
class HiddenPairs:
    """The last hidden layer of each pair of entries, of all networks side by side."""

    networks: tuple[LatentNetwork, ...]  # one at least; their rows are those of the entries of a space

    @property
    def width(self) -> int:
        """How many units there are."""
        return sum(each.output.shape[1] for each in self.networks)

    @cached_property
    def length(self) -> float:
        """A bound on the length of any pair's layer: rectifiers lengthen no difference."""
        square = 0.0
        for each in self.networks:
            longest = 2 * float(torch.linalg.vector_norm(each.rows, dim=1).max()) if len(each.rows) else 0.0
            for weight in each.weights:
                longest *= float(torch.linalg.matrix_norm(weight, 2))
            square += longest**2
        return math.sqrt(square)

    def tile(self, rows: slice, columns: slice) -> Float64[Tensor, "rows columns w"]:
        """Compute the layers of the pairs of a tile."""
        return self._through(
            lambda each: (each.rows[rows] + each.thresholds[0])[:, None] + each.rows[None, columns],
            lambda state, weight: state @ weight.T,
        )

    def chosen(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m w"]:
        """Compute the layers of chosen pairs by sums along rows, which do not depend on how many are asked for."""
        return self._through(lambda each: each.rows[first] + each.thresholds[0] + each.rows[second], _rowwise)

    def _through(
        self, entering: Callable[[LatentNetwork], Tensor], times: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        layers = []
        for each in self.networks:
            state, (own, *others) = entering(each), each.thresholds
            state = state.clamp_(min=0).sub_(own.relu())
            for weight, threshold in zip(each.weights, others, strict=True):
                state = times(state, weight).add_(threshold).clamp_(min=0).sub_(threshold.relu())
            layers.append(state)
        return layers[0] if len(layers) == 1 else torch.cat(layers, dim=-1)


@dataclass(frozen=True)
class NetworkScore:
    """The score ``product_ij + sign |root h_ij|² + (first_i + second_j) · h_ij`` with ``h`` the hidden layer."""

    product: ProductScore  # what needs no network
    hidden: HiddenPairs  # the last hidden layer of every pair
    first: Float64[Tensor, "v w"]  # how the layer counts for the first entry
    second: Float64[Tensor, "v w"]  # how it counts for the second
    root: Float64[Tensor, "q w"]  # how its square counts; no rows for a linear form
    sign: float = 1.0  # of the square

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.product.size

    @property
    def error(self) -> float:
        """A bound on the rounding of a score, which is made in double precision."""
        return self.magnitude * ROUNDING

    @cached_property
    def magnitude(self) -> float:
        """A bound on the size of any pair's score."""
        length = self.hidden.length
        linear = sum(float(torch.linalg.vector_norm(each, dim=1).max()) for each in (self.first, self.second))
        square = float(torch.linalg.matrix_norm(self.root, 2)) ** 2 if len(self.root) else 0.0
        return self.product.magnitude + linear * length + square * length**2

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score the pairs of rows ``start`` to ``stop`` with some columns."""
        return self.double_block(slice(start, stop), slice(*(columns or (start, None)))).float()

    def double_block(self, one: slice, other: slice) -> Float64[Tensor, "rows columns"]:
        """Score a block of pairs in double precision; networks are asked above the diagonal only."""
        out = self.product.double_block(one, other)
        start, stop, _ = one.indices(self.size)
        left, right, _ = other.indices(self.size)
        step = max(1, (_TOGETHER if out.device.type == "cpu" else _TOGETHER_THERE) // self.hidden.width)
        tall = max(1, step // max(1, right - left))
        for row in range(start, stop, tall):
            rows = slice(row, min(stop, row + tall))
            for at in range(max(left, row + 1), right, step):
                part = slice(at, min(right, at + step))
                layer = self.hidden.tile(rows, part)
                value = (layer @ self.first[rows, :, None])[..., 0] + torch.linalg.vecdot(layer, self.second[part])
                if len(self.root):
                    turned = layer @ self.root.T
                    value = value.add_(torch.linalg.vecdot(turned, turned), alpha=self.sign)
                out[row - start : rows.stop - start, part.start - left : part.stop - left] += value
        return out

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision."""
        scores = self.product.exact(first, second)
        for at in torch.arange(len(first)).split(_EXACT) if len(first) else ():
            full = torch.cat([at, at[-1:].expand(_EXACT - len(at))])
            i, j = first[full], second[full]
            layer = self.hidden.chosen(i, j)
            value = ((self.first[i] + self.second[j]) * layer).sum(1)
            if len(self.root):
                value = value + self.sign * _rowwise(layer, self.root).square().sum(1)
            scores[at] += value[: len(at)]
        return scores


@dataclass(frozen=True)
class NetworkProjection:
    """Each part's row times target minus prediction, where networks add to predictions."""

    product: Projection  # what needs no network
    forms: tuple[NetworkScore, NetworkScore]  # what networks take off for the first entry, and for the second

    def block(self, one: slice, other: slice) -> tuple[Float64[Tensor, "r c"], Float64[Tensor, "r c"]]:
        """Project the predictions of a block of pairs on the rows of both entries."""
        first, second = self.product.block(one, other)
        return first - self.forms[0].double_block(one, other), second - self.forms[1].double_block(one, other)

    def exact(
        self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]
    ) -> tuple[Float64[Tensor, "m"], Float64[Tensor, "m"]]:
        """Project the predictions of chosen pairs."""
        one, other = self.product.exact(first, second)
        return one - self.forms[0].exact(first, second), other - self.forms[1].exact(first, second)


@dataclass(frozen=True)
class PairMeans:
    """The mean effects of all pairs of a space, in some coordinates."""

    main: Float64[Tensor, "v m"]  # contribution of each entry
    scores: Float64[Tensor, "v r"]  # coordinates of each entry in the space of interactions
    basis: Float64[Tensor, "r m"]  # effect of each product of coordinates
    output: Float64[Tensor, "w m"]  # effect of each unit of the hidden layer; no rows without networks
    networks: tuple[LatentNetwork, ...]

    @classmethod
    def of(
        cls,
        found: LatentFactors | None,
        space: CombinationSpace,
        coordinates: Callable[[Float[Tensor, "n g"]], Float[Tensor, "n m"]],
    ) -> "PairMeans | None":
        """Take the means of a space's pairs to other coordinates, by a linear map."""
        if found is None or (found.networks and len(found.factors.basis)):
            return None  # a product of interactions and networks is no form of either
        entries, factors = space.entries, found.factors
        networks = tuple(replace(each, rows=each.rows[entries]) for each in found.networks)
        main, basis = taken(factors.main, entries, coordinates), coordinates(factors.basis)
        output = torch.cat([basis[:0], *(coordinates(each.output.T.contiguous()) for each in networks)])
        return cls(main, factors.scores[entries], basis, output, networks)

    def along(self, direction: Float64[Tensor, "m"]) -> ProductScore | NetworkScore:
        """Score pairs by their mean along a direction."""
        product = ProductScore(self.main @ direction, self.scores * (self.basis @ direction), self.scores)
        if not self.networks:
            return product
        half = (self.output @ direction / 2).expand(len(self.main), -1)
        return NetworkScore(product, HiddenPairs(self.networks), half, half, half[:0])

    def along_all(self, frame: Float64[Tensor, "m d"]) -> "PairMeans":
        """Take the means to coordinates along orthonormal directions."""
        return replace(self, main=self.main @ frame, basis=self.basis @ frame, output=self.output @ frame)

    def beside(self, other: "PairMeans") -> "PairMeans":
        """Add the coordinates of the same means along further directions."""
        parts = ((getattr(self, name), getattr(other, name)) for name in ("main", "basis", "output"))
        main, basis, output = (torch.cat(part, dim=1) for part in parts)
        return replace(self, main=main, basis=basis, output=output)

    def squared_distance(
        self, target: Float64[Tensor, "m"], *, sign: float = 1.0, beyond: float = 0.0
    ) -> ProductScore | NetworkScore:
        """Score pairs by the squared distance of their mean to a target, or by minus that.

        ``beyond`` is the part of it in directions that have no coordinates.
        """
        return replace(self, main=self.main - target / 2).squared_length(sign=sign, beyond=beyond)

    def squared_length(self, *, sign: float = 1.0, beyond: float = 0.0) -> ProductScore | NetworkScore:
        """Score pairs by the squared length of their mean, or by minus that."""
        product = self._squares(sign, beyond)
        if not self.networks:
            return product
        slope = 2 * sign * self.main @ self.output.T
        rotated = torch.linalg.qr(self.output.T.contiguous(), mode="r").R  # a rotation leaves the length as it is
        return NetworkScore(product, HiddenPairs(self.networks), slope, slope, rotated, sign)

    def difference(self, target: Float64[Tensor, "m"]) -> SumScore:
        """The same squared distance, where no networks add: what is as large as the means serves all targets."""
        along = target.square().sum() / 2 - 2 * (self.main @ target)
        mixed = -2 * self.scores * (self.basis @ target)
        return SumScore((self._square, ProductScore(along, mixed, self.scores)))

    @cached_property
    def _square(self) -> ProductScore:
        return self._squares()

    def _squares(self, sign: float = 1.0, beyond: float = 0.0) -> ProductScore:
        if not len(self.basis):
            return ProductScore(sign * (squares(self.main) + beyond / 2), self.main, self.main, 2 * sign)
        side, left, right = squared_norm(self.main, self.scores, self.basis)
        return ProductScore(sign * (side + beyond / 2), left, right, sign)

    def projection(self, rows: Float64[Tensor, "v m"], target: Float64[Tensor, "m"]) -> PairProjection:
        """Project target minus mean on a row of each entry."""
        own, left, right = inner_product(rows, self.main, self.scores, self.basis)
        product = Projection(rows @ target - own, left, right)
        if not self.networks:
            return product
        mine = rows @ self.output.T
        none = ProductScore(own.new_zeros(len(own)), own.new_zeros(len(own), 0), own.new_zeros(len(own), 0))
        empty, hidden = mine[:0], HiddenPairs(self.networks)
        first = NetworkScore(none, hidden, mine, torch.zeros_like(mine), empty)
        return NetworkProjection(product, (first, replace(first, first=first.second, second=mine)))


def taken(
    table: Float[Tensor, "n g"],
    entries: Int[Tensor, "v"],
    coordinates: Callable[[Float[Tensor, "_ g"]], Float[Tensor, "_ m"]],
) -> Float[Tensor, "v m"]:
    """Take some rows of a table to other coordinates, a few at a time: what passes between is never as large."""
    first = coordinates(table[entries[:_ROWS]])
    out = first.new_empty(len(entries), first.shape[1])
    out[:_ROWS] = first
    for at in range(_ROWS, len(entries), _ROWS):
        out[at : at + _ROWS] = coordinates(table[entries[at : at + _ROWS]])
    return out


def _rowwise(state: Float64[Tensor, "m n"], weight: Float64[Tensor, "q n"]) -> Float64[Tensor, "m q"]:
    return (state[:, None] * weight).sum(2)
