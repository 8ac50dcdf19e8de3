"""Networks on sums of rows, folded for a scan of all pairs in single precision, with a bound on its rounding.

What a unit is in the control is a constant of the next layer. The first hidden layer is a maximum of two rows,
``relu(p_i + q_j) = max(p_i, -q_j) + q_j``, and what the last term adds to the second layer depends on ``j`` alone:
one pass over a tile makes the input of its matrix product.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Float32
from torch import Tensor

from inverse_design.problem.pair_means import NetworkScore
from inverse_design.problem.score import ProductScore
from inverse_design.search.pruning import Tile
from surrogates.models.base import LatentNetwork

_UNIT = 2.0**-24  # relative rounding error of single precision
_HIGHER = 1.01  # covers products of rounding errors
_UNDERFLOW = torch.finfo(torch.float32).tiny * 2.0**24


@dataclass(frozen=True)
class FoldedNetwork:
    """One network, and how its last hidden layer counts: ``(first_i + second_j) · s_ij`` and ``root s_ij``."""

    first: Float[Tensor, "v h"]  # of the first entry of a pair, before the rectifiers
    second: Float[Tensor, "v h"]  # of the second entry, negative
    entering: Float[Tensor, "v n"]  # what the second entry adds to the layer after the maximum
    layers: tuple[tuple[Float[Tensor, "_ _"], Float[Tensor, "_"]], ...]  # weights and constants of each layer
    linear: tuple[Float[Tensor, "v w"], ...]  # how the last layer counts for the first entry, and for the second
    root: Float[Tensor, "q w"]  # how its square counts

    @classmethod
    def of(cls, network: LatentNetwork, linear: tuple[Tensor, ...], root: Tensor) -> "FoldedNetwork":
        """Fold a network."""
        first, second, (own, *others) = network.rows + network.thresholds[0], network.rows, network.thresholds
        layers, control = [], own.relu()
        for weight, threshold in zip(network.weights, others, strict=True):
            layers.append((weight, threshold - weight @ control))
            control = threshold.relu()
        entering = second @ layers[0][0].T + layers[0][1] if layers else second
        return cls(first, -second, entering, tuple(layers), linear, root)

    def last(self, one: slice, other: slice) -> Float[Tensor, "rows columns w"]:
        """Compute the last hidden layer of a tile."""
        state = torch.maximum(self.first[one, None], self.second[None, other])
        for number, (weight, constant) in enumerate(self.layers):
            state = state @ weight.T
            state = state.add_(constant if number else self.entering[None, other]).clamp_(min=0)
        return state if self.layers else state.add_(self.entering[None, other])


@dataclass(frozen=True)
class FoldedNetworks:
    """All networks of a score; what needs none is apart."""

    networks: tuple[FoldedNetwork, ...]
    constant: Float[Tensor, "q"]  # of what is squared
    sign: float  # of the square

    @property
    def width(self) -> int:
        """The most units of a layer."""
        return max(each.first.shape[1] for each in self.networks)

    def add_to(self, out: Float32[Tensor, "rows columns"], tile: Tile, *, together: int) -> None:
        """Add what networks add to the pairs of a tile, so many at a time."""
        (left, right), tall = tile.columns, max(1, together // tile.shape[1])
        for start in range(tile.start, tile.stop, tall):
            one, other = slice(start, min(tile.stop, start + tall)), slice(max(left, start + 1), right)
            if other.start < other.stop:
                total = out[one.start - tile.start : one.stop - tile.start, other.start - left :]
                self._add(total, one, other)

    def _add(self, total: Float32[Tensor, "rows columns"], one: slice, other: slice) -> None:
        turned = self.constant.expand(*total.shape, -1)
        for each in self.networks:
            state = each.last(one, other)
            first, *second = each.linear
            total += (state @ first[one, :, None])[..., 0]
            if len(each.root):
                turned = turned + state @ each.root.T
            for factor in second:
                total += state.mul_(factor[None, other]).sum(-1)
        if len(self.constant):
            total.add_(turned.square_().sum(-1), alpha=self.sign)


def folded_networks(score: NetworkScore) -> tuple[ProductScore, FoldedNetworks]:
    """Fold the networks of a score: a product and what they add to it."""
    networks = score.hidden.networks
    widths = [each.output.shape[1] for each in networks]
    control = torch.cat([each.thresholds[-1].relu() for each in networks])
    linear: tuple[Tensor, ...] = (score.first, score.second)
    if bool((score.second == score.second[:1]).all()):
        linear = (score.first + score.second[:1],)  # one way to count for all pairs
    parts = zip(
        networks, score.root.split(widths, dim=1), *(each.split(widths, dim=1) for each in linear), strict=True
    )
    ones = torch.ones_like(score.product.side)
    product = replace(
        score.product,
        left=torch.column_stack([score.product.times * score.product.left, -score.first @ control, ones]),
        right=torch.column_stack([score.product.right, ones, -score.second @ control]),
        times=1.0,
    )
    found = tuple(FoldedNetwork.of(each, tuple(counts), root) for each, root, *counts in parts)
    return product, FoldedNetworks(found, -score.root @ control, score.sign)


def rounding(product: ProductScore, found: FoldedNetworks) -> float:
    """Bound the error of single precision: a layer passes on what the one before is wrong by, and adds its own.

    A product of ``n`` terms in any order is wrong by at most ``γ_{n+2}`` of the norms of its factors, as in
    :attr:`.ProductScore.error`; rectifiers lengthen no difference. The last term covers underflow.
    """
    wrong, total = 0.0, product.magnitude
    turned = _longest(found.constant[None])  # length of what is squared
    turned_wrong = _UNIT * turned
    for each in found.networks:
        size, added = _longest(each.first) + _longest(each.second), _longest(each.entering)
        off = _UNIT * size
        for weight, constant in each.layers:
            spectral, whole = (float(torch.linalg.matrix_norm(weight, kind)) for kind in (2, "fro"))
            off = spectral * off + _gamma(weight.shape[1]) * (whole * (size + off) + added)
            size, added = spectral * size + added, _longest(constant[None])
        if not each.layers:
            size += added
            off += 2 * _UNIT * size
        units, counts = each.root.shape[1], sum(map(_longest, each.linear))
        wrong += counts * (off + _gamma(units) * (size + off))
        total += counts * size
        if len(each.root):
            spectral, whole = (float(torch.linalg.matrix_norm(each.root, kind)) for kind in (2, "fro"))
            turned_wrong += spectral * off + _gamma(units) * whole * (size + off)
            turned += spectral * size
    steps = len(found.networks)
    turned_wrong += _gamma(steps) * (turned + turned_wrong)
    wrong += (
        2 * turned * turned_wrong + turned_wrong**2 + _gamma(len(found.constant)) * (turned + turned_wrong) ** 2
    )
    whole = total + turned**2 + wrong
    return _HIGHER * (product.error + wrong + _gamma(2 * steps) * whole) + _UNDERFLOW


def _longest(rows: Float[Tensor, "n w"]) -> float:
    return float(torch.linalg.vector_norm(rows, dim=1).max()) if rows.numel() else 0.0


def _gamma(terms: int) -> float:
    """Bound the relative error of a sum of products; four more roundings are those of its factors."""
    steps = (terms + 4) * _UNIT
    return steps / (1 - steps)
