"""All members of an ensemble of networks side by side: squared distances of pairs, quickly or exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import torch
from jaxtyping import Float, Float32, Float64, Int64
from torch import Tensor

from surrogates.models.layers import Layers

_EXACT = 16  # pairs scored in double precision together, always as many

Index: TypeAlias = tuple[slice | Tensor | None, ...]
Scratch: TypeAlias = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class DecodedMember:
    """A network whose first layer is a sum: ``layers(relu(first_i + first_j + bias))``.

    Attributes:
        first: What each entry of the space adds to the first layer.
        bias: Of the first layer.
        layers: All further layers, with rectifiers between them.
    """

    first: Float[Tensor, "v h"]
    bias: Float[Tensor, "h"]
    layers: Layers


@dataclass(frozen=True)
class MemberStack:
    """All members side by side, the target taken in: a squared distance is the squared length of an output.

    Attributes:
        first: What each entry adds to the first layer.
        weights: Of all further layers, outputs by inputs.
        biases: Of the first layer and of all further ones.
    """

    first: Float64[Tensor, "s v h"]
    weights: tuple[Float64[Tensor, "s _ _"], ...]
    biases: tuple[Float64[Tensor, "s _"], ...]

    @classmethod
    def of(cls, members: Sequence[DecodedMember]) -> "MemberStack":
        """Put alike members side by side.

        Args:
            members: Networks of the same shapes, in double precision.

        Returns:
            The stack.
        """
        parts = [(each.first, *each.layers.weights, each.bias, *each.layers.biases) for each in members]
        first, *others = (torch.stack(each) for each in zip(*parts, strict=True))
        depth = len(others) // 2
        return cls(first, tuple(others[:depth]), tuple(others[depth:]))

    def scratch(self, pairs: int) -> Scratch:
        """Make two buffers, each for the widest layer of some pairs.

        Args:
            pairs: How many pairs :meth:`quick` is given at a time, at most.

        Returns:
            Flat buffers.
        """
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
        """Compute squared distances in single precision.

        Args:
            first: Index of the rows of the first entries.
            second: That of the second entries; both are broadcast.
            scratch: Buffers, which are overwritten.

        Returns:
            One row per member.
        """
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
        """Compute squared distances in double precision, by sums along rows in blocks of one size.

        Args:
            first: Positions of the first entries.
            second: Positions of the second entries.

        Returns:
            One row per member; that of a pair does not depend on what else is asked for.
        """
        out = self.first.new_zeros(len(self.first), len(first))
        for at in torch.arange(len(first)).split(_EXACT):
            full = torch.cat([at, at[-1:].expand(_EXACT - len(at))]) if len(at) else at
            state = self.first[:, first[full]] + self.first[:, second[full]] + self.biases[0][:, None]
            for weight, bias in zip(self.weights, self.biases[1:], strict=True):
                state = (state.relu()[:, :, None] * weight[:, None]).sum(3) + bias[:, None]
            out[:, at] = state.square().sum(2)[:, : len(at)]
        return out
