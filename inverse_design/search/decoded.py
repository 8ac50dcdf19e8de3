"""Exact search over all pairs with networks that decode sums of rows, block by block.

The first layer of a pair is a sum, and its rectifier is ``relu(u_i + u_j) = max(u_i, -u_j) + u_j``. What stands
behind the plus depends on one entry alone, and is taken through all matrices once for each entry. A pair then
costs one maximum for each rectifier, the products of the layers, and one squared norm. The members of an ensemble
are scored side by side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import TypeAlias

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import Progress, SearchResult
from surrogates.errors import DataError
from surrogates.models.latent import FittedLatentAdditive
from surrogates.models.training import Layers
from surrogates.models.wrappers.ensemble import FittedEnsemble

_EXACT = 16  # pairs scored in double precision together, always as many

Index: TypeAlias = tuple[slice | Tensor | None, ...]
Scratch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class DecodedMember:
    """A network whose first layer is a sum: ``layers(relu(first_i + first_j + bias))``."""

    first: Float[Tensor, "v h"]  # what each entry of the space adds to the first layer
    bias: Float[Tensor, "h"]  # of the first layer
    layers: Layers  # all further layers, with rectifiers between them


@dataclass(frozen=True)
class MemberStack:
    """All members side by side, the target taken in: a squared distance is the squared length of an output."""

    first: Float64[Tensor, "s v h"]  # what each entry adds to the first layer
    weights: tuple[Float64[Tensor, "s _ _"], ...]  # of all further layers, outputs by inputs
    biases: tuple[Float64[Tensor, "s _"], ...]  # of the first layer and of all further ones

    @classmethod
    def of(cls, members: Sequence[DecodedMember]) -> "MemberStack":
        """Put alike members side by side."""
        parts = [(each.first, *each.layers.weights, each.bias, *each.layers.biases) for each in members]
        first, *others = (torch.stack(each) for each in zip(*parts, strict=True))
        depth = len(others) // 2
        return cls(first, tuple(others[:depth]), tuple(others[depth:]))

    def scratch(self, pairs: int) -> Scratch:
        """Make two buffers, each for the widest layer of some pairs."""
        numbers = pairs * max(bias.numel() for bias in self.biases)
        return torch.empty(numbers), torch.empty(numbers)

    @cached_property
    def _tables(self) -> tuple[Float32[Tensor, "s v h"], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What ``i`` adds, what ``j`` adds to each layer (negative where a rectifier follows), the matrices."""
        shift, tables = self.first, [-self.first.float()]
        for weight, bias in zip(self.weights, self.biases[1:], strict=True):
            shift = shift @ weight.mT + bias[:, None]
            tables.append(-shift.float())
        tables[-1] = -tables[-1]
        matrices = tuple(weight.float().mT.contiguous() for weight in self.weights)
        return (self.first + self.biases[0][:, None]).float(), tuple(tables), matrices

    def quick(self, first: Index, second: Index, scratch: Scratch) -> Float32[Tensor, "s n"]:
        """Compute squared distances in single precision."""
        left, tables, matrices = self._tables
        own, other = left[:, *first], tables[0][:, *second]
        shape = tuple(map(max, own.shape, other.shape))  # torch.broadcast_shapes takes longer than the maximum
        one, two = scratch
        state = torch.maximum(own, other, out=one[: math.prod(shape)].view(shape))
        for number, matrix in enumerate(matrices, start=1):
            one, two = two, one
            cells, outputs = state.view(len(matrix), -1, matrix.shape[1]), matrix.shape[2]
            state = one[: cells.shape[0] * cells.shape[1] * outputs].view(*shape[:-1], outputs)
            torch.bmm(cells, matrix, out=state.view(*cells.shape[:2], outputs))
            row = tables[number][:, *second]
            state = state.add_(row) if number == len(matrices) else torch.maximum(state, row, out=state)
        square = state.mul_(state).view(-1, state.shape[-1])
        return torch.mv(square, square.new_ones(square.shape[1])).view(shape[0], -1)

    def exact(self, first: Int64[Tensor, "m"], second: Int64[Tensor, "m"]) -> Float64[Tensor, "s m"]:
        """Compute squared distances in double precision, by sums along rows in blocks of one size."""
        out = self.first.new_zeros(len(self.first), len(first))
        for at in torch.arange(len(first)).split(_EXACT):
            full = torch.cat([at, at[-1:].expand(_EXACT - len(at))]) if len(at) else at
            state = self.first[:, first[full]] + self.first[:, second[full]] + self.biases[0][:, None]
            for weight, bias in zip(self.weights, self.biases[1:], strict=True):
                state = (state.relu()[:, :, None] * weight[:, None]).sum(3) + bias[:, None]
            out[:, at] = state.square().sum(2)[:, : len(at)]
        return out


TILE_ROWS, TILE_COLUMNS = 4, 128  # a tile of pairs; with 8 members of 128 hidden units it takes 2 MB
_SAMPLE = 256  # pairs by which the error of the quick scores is measured
_SAFETY = 4  # the margin, in units of the largest error that was seen


def decoded_members(ensemble: FittedEnsemble, space: CombinationSpace) -> tuple[DecodedMember, ...]:
    """Take the members of an ensemble apart.

    Raises:
        DataError: If a member is none of these.
        SpaceError: If the space is one of another vocabulary.
    """
    if len(ensemble.vocabulary) != len(space.vocabulary):
        raise SpaceError(f"a model of {len(ensemble.vocabulary)} entries, a space over {len(space.vocabulary)}")
    members = []
    for number, each in enumerate(ensemble.members):
        if not isinstance(each, FittedLatentAdditive) or len(each.decoder.weights) < 2:
            raise DataError(
                f"member {number} ({type(each).__name__}) has no known hidden layer; use search_stream"
            )
        members.append(_taken_apart(each, space))
    return tuple(members)


@dataclass(frozen=True)
class DecodedScore:
    """The acquisition of all pairs of a space under an ensemble, as a ``PairScore``; build it with :meth:`of`.

    Attributes:
        error: Margin on the error of a quick score, 4 times the largest error seen; measured, not proved.
    """

    members: MemberStack  # with the target taken in
    space: CombinationSpace  # whose entries are paired
    incumbent: float | None  # the utility to improve upon, or ``None`` for the mean utility
    error: float = 0.0

    @classmethod
    def of(
        cls,
        members: Sequence[DecodedMember],
        target: Float[Tensor, "o"],
        *,
        space: CombinationSpace,
        weights: Float[Tensor, "o"] | None = None,
        incumbent: float | None = None,
    ) -> "DecodedScore":
        """Take the target into the members, and measure the error of quick scores on a sample of pairs.

        What is asked for, and what is refused, is that of :func:`search_decoded`.
        """
        space.span(2)
        goal = target.double()
        importance = torch.ones_like(goal) if weights is None else weights.double()
        if not (bool((goal * importance.sqrt()).isfinite().all()) and math.isfinite(incumbent or 0)):
            raise DataError("the target, a weight or the incumbent is not finite, or a weight negative; drop it")
        shapes = {tuple(bias.shape[0] for bias in (each.bias, *each.layers.biases)) for each in members}
        if len(shapes) != 1 or next(iter(shapes))[-1] != len(goal):
            raise DataError(
                f"layers of {sorted(shapes)} units, target of {len(goal)}; they must be all alike and fit"
            )
        taken = [_towards(each, goal, importance) for each in members]
        for number, each in enumerate(taken):
            _refuse_unfit(each, number, space)
        score = cls(MemberStack.of(taken), space, incumbent)
        drawn = torch.randint(score.size, (2, _SAMPLE), generator=torch.Generator().manual_seed(0)).sort(0).values
        drawn[:, 0] = torch.tensor([0, 1])  # the only pair of two
        return replace(score, error=score.discrepancy(*drawn[:, drawn[0] < drawn[1]]))

    @property
    def size(self) -> int:
        """Number of entries."""
        return len(self.space.entries)

    def discrepancy(self, first: Int64[Tensor, "m"], second: Int64[Tensor, "m"]) -> float:
        """Return 4 times the largest error of a member's quick utility of some pairs."""
        quick = self.members.quick((first,), (second,), self.members.scratch(len(first)))
        return _SAFETY * float((quick - self.members.exact(first, second)).abs().max())

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Score pairs in single precision, tile by tile; what is below the diagonal may be minus infinity."""
        begin, end = columns or (start, self.size)
        scratch = self.members.scratch(TILE_ROWS * TILE_COLUMNS)
        out = torch.full((stop - start, end - begin), -torch.inf)
        for low in range(start, stop, TILE_ROWS):
            high = min(stop, low + TILE_ROWS)
            for left in range(max(begin, low + 1), end, TILE_COLUMNS):  # nothing below the diagonal
                right = min(end, left + TILE_COLUMNS)
                square = self.members.quick((slice(low, high), None), (None, slice(left, right)), scratch)
                tile = out[low - start : high - start, left - begin : right - begin]
                tile.copy_(_gain(square, self.incumbent).mean(0).view_as(tile))
        return out

    def quick(
        self, first: Int64[Tensor, "m"], second: Int64[Tensor, "m"], *, lenience: float = 0.0
    ) -> Float32[Tensor, "m"]:
        """Score chosen pairs in single precision, as if the incumbent were worse by some lenience."""
        incumbent, step = None if self.incumbent is None else self.incumbent - lenience, TILE_ROWS * TILE_COLUMNS
        parts, scratch = zip(first.split(step), second.split(step), strict=True), self.members.scratch(step)
        return torch.cat([_gain(self.members.quick((i,), (j,), scratch), incumbent).mean(0) for i, j in parts])

    def exact(self, first: Int64[Tensor, "m"], second: Int64[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Score chosen pairs in double precision; that of a pair does not depend on what else is asked for."""
        scores = torch.zeros(len(first), dtype=torch.float64)
        # most pairs are far from any improvement: theirs is zero
        near = None if self.incumbent is None else self.quick(first, second, lenience=self.error)
        at = torch.arange(len(first)) if near is None else torch.nonzero(near).flatten()
        gain = _gain(self.members.exact(first[at], second[at]), self.incumbent)
        scores[at] = reduce(torch.add, gain) / len(gain)  # one by one: always in the same order
        return scores


def search_decoded(
    members: Sequence[DecodedMember],
    target: Float[Tensor, "o"],
    k: int,
    *,
    space: CombinationSpace,
    weights: Float[Tensor, "o"] | None = None,
    incumbent: float | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the ``k`` best valid pairs of a space under an ensemble of networks, by scoring every pair.

    Single precision finds what is near, double precision ranks it, and ties go to the smaller number. No useful
    bound on the error of a network is known: the certificate's ``error`` is 4 times the largest that was seen, on
    a sample and on the answer, and ``exact`` holds if no error exceeds it.

    Raises:
        SpaceError: If the space has no pairs, or a member has other entries.
        DataError: If members are not alike or there is none, ``k`` is not positive, or a number is not finite.
    """
    score = DecodedScore.of(members, target, space=space, weights=weights, incumbent=incumbent)
    while True:
        result = search_pairs(score, k, space=space, progress=progress)
        chosen = space.take(result.top.index[:_SAMPLE]).genes[:, :2].contiguous()
        seen = score.discrepancy(*torch.searchsorted(space.entries, chosen).T) if len(chosen) else 0.0
        if seen <= score.error:
            return result
        score = replace(score, error=2 * seen)


def _gain(square: Float[Tensor, "s n"], incumbent: float | None) -> Float[Tensor, "s n"]:
    """Turn squared distances into what each member thinks a pair is worth."""
    return -square if incumbent is None else (-incumbent - square).clamp_(min=0)


def _taken_apart(fitted: FittedLatentAdditive, space: CombinationSpace) -> DecodedMember:
    """Move into each bias that the layer before passes on its departure from the control only."""
    (first, *weights), (bias, *thresholds) = fitted.decoder.weights, fitted.decoder.biases
    thresholds[-1] = torch.zeros_like(thresholds[-1])  # that of the outputs has no effect
    before = [bias, *thresholds[:-1]]
    biases = [b - w @ a.relu() for w, a, b in zip(weights, before, thresholds, strict=True)]
    weights[-1], biases[-1] = fitted.unit * weights[-1], fitted.unit * biases[-1]
    return DecodedMember(fitted.rows[space.entries] @ first.T, bias, Layers(tuple(weights), tuple(biases)))


def _towards(member: DecodedMember, target: Float64[Tensor, "o"], weights: Float64[Tensor, "o"]) -> DecodedMember:
    """Take the target in: the weighted squared distance to it is the squared length of the new output."""
    layers = member.layers.to(device="cpu", dtype=torch.float64)
    last, offset = layers.weights[-1], layers.biases[-1]
    folded = weights.sqrt()[:, None] * torch.cat([last, (offset - target)[:, None]], dim=1)
    if len(folded) > folded.shape[1]:  # a rotation leaves the length as it is
        folded = torch.linalg.qr(folded, mode="r").R
    taken = Layers((*layers.weights[:-1], folded[:, :-1]), (*layers.biases[:-1], folded[:, -1]))
    return DecodedMember(member.first.double(), member.bias.double(), taken)


def _refuse_unfit(member: DecodedMember, number: int, space: CombinationSpace) -> None:
    """Bound every number between a pair and its output, and refuse what single precision may not hold."""
    if len(member.first) != len(space.entries):
        raise SpaceError(f"member {number} has {len(member.first)} entries, the space {len(space.entries)}")
    size = torch.linalg.vector_norm(member.first, dim=1)
    reach = float(2 * size.amax() + member.bias.norm())
    for weight, bias in zip(member.layers.weights, member.layers.biases, strict=True):
        reach = (1 + float(weight.norm())) * reach + float(bias.norm())
    if not reach < 1e17:
        worst = space.vocabulary.entries[int(space.entries[int(size.nan_to_num(nan=torch.inf).argmax())])].label
        raise DataError(
            f"weights of member {number} are not finite or too large: numbers reach {reach:.3g}, and the row of"
            f" {worst} is {float(size.amax()):.3g} long; train it again or rescale its outputs"
        )
