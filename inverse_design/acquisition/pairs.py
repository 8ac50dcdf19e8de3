"""Acquisitions of all pairs under an ensemble, searched exactly by the products of its members.

Each acquisition has two faces: its value, from utilities in double precision, and a *screen*, an upper bound of
the value in single precision and in place, by which a search leaves out almost all pairs. Mean and deviation are
those of the members, each as likely as any other; improvement is on the best observed utility.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from inverse_design.problem.score import ProductScore
from inverse_design.search.pruning import Buffer, Cells, Products, Tile, reaching
from surrogates.errors import DataError

_FARTHEST = 10.0  # deviations below the incumbent; an improvement of probability 1e-23 counts as none
_SMALLEST = -75.0  # beyond the farthest; the exponential of less is slow, and soon not a normal number
_WIDEST, _WIDE, _SCREENED = 1000.0, 900.0, 950.0  # deviations that are told apart, and where the screen gives up
_UNIT = 2.0**-24
_LEAST = 2.0**-149  # the smallest number above 0 in single precision
_ROUNDING = 1e-4  # relative, of the exponential of a squared deviation: more than it can be


@runtime_checkable
class PairAcquisition(Protocol):
    """What a pair is worth, from its utilities.

    Attributes:
        incumbent: The utility to improve upon; 0 where there is none.
        floor: A value that none falls below and that very many pairs may have; minus infinity if there is none.
    """

    @property
    def incumbent(self) -> float:
        """The utility to improve upon."""
        ...

    @property
    def floor(self) -> float:
        """The lowest value."""
        ...

    def threshold(self, margin: float) -> float:
        """Tell the lowest screen of a pair above the floor, for screens of some margin."""
        ...

    def magnitude(self, reach: float) -> float:
        """Bound the size of a value, where utilities are within ``reach`` of the incumbent."""
        ...

    def value(self, utilities: Float64[Tensor, "s *b"]) -> Float64[Tensor, "*b"]:
        """Value pairs.

        Args:
            utilities: Of each member.

        Returns:
            One number per pair, which does not depend on the other pairs.
        """
        ...

    def screen(self, above: Float32[Tensor, "s *b"], margin: float) -> Float32[Tensor, "*b"]:
        """Bound the values of pairs from above.

        Args:
            above: Bounds from above of utility minus incumbent, by up to ``margin``; overwritten.
            margin: At least twice the error of these bounds, and of a sum over members in single precision.

        Returns:
            Numbers that are not smaller than the values.
        """
        ...


@dataclass(frozen=True)
class MeanImprovement:
    """Expected improvement over the members themselves: ``mean_s max(u_s - incumbent, 0)``."""

    incumbent: float  # the utility to improve upon
    floor = 0.0

    def threshold(self, margin: float) -> float:  # noqa: ARG002 - the same for all
        """Screen 0 exactly where no member expects an improvement."""
        return _LEAST

    def magnitude(self, reach: float) -> float:
        """No improvement is larger than the largest distance to the incumbent."""
        return reach

    def value(self, utilities: Float64[Tensor, "s *b"]) -> Float64[Tensor, "*b"]:
        """Average the improvements."""
        return _mean((utilities - self.incumbent).clamp_(min=0))

    def screen(self, above: Float32[Tensor, "s *b"], margin: float) -> Float32[Tensor, "*b"]:  # noqa: ARG002
        """Average the bounds; a sum of numbers of one sign is wrong by a share of itself, and 0 stays 0."""
        return above.clamp_(min=0).sum(0).mul_((1 + 4 * len(above) * _UNIT) / len(above))


@dataclass(frozen=True)
class GaussianImprovement:
    """Expected improvement under a normal law with the members' mean and deviation [Mockus 1978; Jones 1998].

    ``d Phi(z) + s phi(z)`` with ``d`` the mean minus the incumbent, ``s`` the deviation and ``z = d / s``; none
    below ``z = -10``. The value grows with ``d`` and ``s``, and ``phi(z) - |z| Phi(-|z|) <= phi(z) / (1 + z²)``
    [Gordon 1941], so that ``max(d, 0) + s phi(z) / (1 + z²)`` of bounds on both is a screen with one exponential.
    """

    incumbent: float  # the utility to improve upon
    floor = 0.0

    def threshold(self, margin: float) -> float:
        """Separate ``z >= -10``, where ``phi(z) / (1 + z²)`` is above 7e-25, from where it is cut, below 1e-35."""
        return margin * 1e-27

    def magnitude(self, reach: float) -> float:
        """The deviation is at most the distance, and its share at most 0.4."""
        return 2 * reach

    def value(self, utilities: Float64[Tensor, "s *b"]) -> Float64[Tensor, "*b"]:
        """Value pairs by mean and deviation."""
        mean, deviation = _moments(utilities)
        above = mean - self.incumbent
        z = above / deviation.clamp(min=torch.finfo(torch.float64).tiny)
        spread = deviation * (-z.square() / 2).exp() / math.sqrt(2 * math.pi)
        # phi(z) - |z| Phi(-|z|) without the difference of nearly equal numbers
        ratio = math.sqrt(math.pi / 2) * torch.special.erfcx(z.abs() / math.sqrt(2))
        improvement = torch.where(z < 0, spread * (1 + z * ratio), above * torch.special.ndtr(z) + spread)
        return torch.where(z < -_FARTHEST, 0.0, improvement)

    def screen(self, above: Float32[Tensor, "s *b"], margin: float) -> Float32[Tensor, "*b"]:
        """Bound the values by the larger mean and the larger deviation."""
        mean, deviation = _quick_moments(above)
        deviation.add_(margin)
        square = (mean / deviation).square_()
        density = (square / -2).clamp_(min=_SMALLEST).exp_().mul_(deviation).div_(square.add_(1))
        return density.mul_(1 / math.sqrt(2 * math.pi)).add_(mean.clamp_(min=0)).mul_(1 + _ROUNDING)


@dataclass(frozen=True)
class UpperBound:
    """Upper confidence bound ``mean + width * deviation`` [Srinivas 2010]; a negative width gives a lower one."""

    width: float = 2.0  # how many deviations
    incumbent = 0.0
    floor = -math.inf

    def __post_init__(self) -> None:
        """Refuse a width that is no number."""
        if not math.isfinite(self.width):
            raise DataError(f"a bound {self.width} deviations away has no value; take a finite width")

    def threshold(self, margin: float) -> float:  # noqa: ARG002 - the same for all
        """Bounds have no floor."""
        return -math.inf

    def magnitude(self, reach: float) -> float:
        """The deviation is at most the largest utility."""
        return (1 + abs(self.width)) * reach

    def value(self, utilities: Float64[Tensor, "s *b"]) -> Float64[Tensor, "*b"]:
        """Value pairs by mean and deviation."""
        mean, deviation = _moments(utilities)
        return mean + self.width * deviation

    def screen(self, above: Float32[Tensor, "s *b"], margin: float) -> Float32[Tensor, "*b"]:
        """Bound the values by the larger mean, and the deviation that is worse for it."""
        mean, deviation = _quick_moments(above)
        deviation = deviation.add_(margin) if self.width > 0 else deviation.sub_(2 * margin).clamp_(min=0)
        return mean.add_(deviation, alpha=self.width).add_(margin)


@dataclass(frozen=True)
class ImprovementProbability:
    """Probability of improvement under a normal law, as its quantile ``z`` = (mean - incumbent) / deviation.

    The probability is ``Phi(z)``; its quantile ranks the same and tells pairs apart that improve almost surely. It
    is cut at 1,000, and counts as -1,000 below -900.
    """

    incumbent: float  # the utility to improve upon
    floor = -_WIDEST

    def threshold(self, margin: float) -> float:  # noqa: ARG002 - the same for all
        """Lie between the floor and the lowest quantile that is told apart from it."""
        return -_SCREENED

    def magnitude(self, reach: float) -> float:  # noqa: ARG002 - the same for all
        """Quantiles are cut."""
        return _WIDEST

    def value(self, utilities: Float64[Tensor, "s *b"]) -> Float64[Tensor, "*b"]:
        """Divide the mean improvement by the deviation."""
        mean, deviation = _moments(utilities)
        z = (mean - self.incumbent) / deviation.clamp(min=torch.finfo(torch.float64).tiny)
        return torch.where(z < -_WIDE, -_WIDEST, z.clamp(max=_WIDEST))

    def screen(self, above: Float32[Tensor, "s *b"], margin: float) -> Float32[Tensor, "*b"]:
        """Divide the larger mean by the deviation that makes more of it."""
        mean, deviation = _quick_moments(above)
        least = (deviation - 2 * margin).clamp_(min=torch.finfo(torch.float32).tiny)
        z: Tensor = mean / torch.where(mean > 0, least, deviation.add_(margin))
        return torch.clamp(z, -_WIDEST, _WIDEST).add_(_WIDEST * 32 * _UNIT)


def _mean(numbers: Float[Tensor, "s *b"]) -> Float[Tensor, "*b"]:
    total: Tensor = reduce(torch.add, numbers)  # one by one: always in the same order
    return total / len(numbers)


def _moments(utilities: Float64[Tensor, "s *b"]) -> tuple[Float64[Tensor, "*b"], Float64[Tensor, "*b"]]:
    mean = _mean(utilities)
    return mean, _mean((utilities - mean).square_()).sqrt_()


def _quick_moments(above: Float32[Tensor, "s *b"]) -> tuple[Float32[Tensor, "*b"], Float32[Tensor, "*b"]]:
    """Mean, and deviation around it in two passes: no digits are lost where the members agree."""
    mean = above.mean(0)
    return mean, above.sub_(mean).square_().mean(0).sqrt_()


_SINGLE_ROUNDING = 2.0**-23  # of a value to single precision, twice over
_ROWS, _CELLS, _NARROWEST = 256, 1 << 21, 256  # a tile of all members takes 8 MB and stays in cache


@dataclass(frozen=True)
class PairGain:
    """An acquisition of every pair, from the utilities that the members of an ensemble give it."""

    members: tuple[ProductScore, ...]  # utility of all pairs under each member
    acquisition: PairAcquisition  # what a pair is worth by them

    def __post_init__(self) -> None:
        """Refuse members of other entries, and an incumbent that single precision cannot hold."""
        sizes = sorted({each.size for each in self.members})
        if len(sizes) != 1:
            raise DataError(
                f"members of {sizes} entries are not an ensemble; give one or more, of the same entries"
            )
        if not math.isfinite(self.acquisition.incumbent):
            raise DataError(f"nothing improves on {self.acquisition.incumbent}; give a finite incumbent")
        _ = self.margin

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.members[0].size

    @property
    def floor(self) -> float:
        """The value of pairs of which no member expects anything."""
        return self.acquisition.floor

    @property
    def error(self) -> float:
        """A bound on the rounding of values, which are computed in double precision."""
        reach = max(each.magnitude for each in self._improvements)
        return self.acquisition.magnitude(reach) * _SINGLE_ROUNDING + torch.finfo(torch.float32).tiny

    @cached_property
    def margin(self) -> float:
        """More than the errors of utilities in single precision, and of sums of theirs over members, together.

        The error of a product is at least eight roundings of its magnitude; a sum of ``s`` terms makes ``s``.
        """
        return max(each.error for each in self._improvements) * (2 + len(self.members) / 4)

    @cached_property
    def _improvements(self) -> tuple[ProductScore, ...]:
        """Utilities minus the incumbent."""
        shift = self.acquisition.incumbent / 2
        return tuple(replace(each, side=each.side - shift) for each in self.members)

    def block(
        self, start: int, stop: int, columns: tuple[int, int] | None = None
    ) -> Float32[Tensor, "rows columns"]:
        """Value the pairs of rows ``start`` to ``stop`` with some columns."""
        one, other = slice(start, stop), slice(*(columns or (start, None)))
        utilities = torch.stack([each.double_block(one, other) for each in self.members])
        return self.acquisition.value(utilities).float()

    def exact(self, first: Int[Tensor, "m"], second: Int[Tensor, "m"]) -> Float64[Tensor, "m"]:
        """Value chosen pairs in double precision."""
        return self.acquisition.value(torch.stack([each.exact(first, second) for each in self.members]))

    def pruner(self, *, device: str = "cpu") -> "GainPruner":
        """Start a search."""
        return GainPruner(self, device=device)


class GainPruner:
    """Makes the products of all members for one tile after another, and values what passes the screen."""

    bound, error = "", 0.0

    def __init__(self, score: PairGain, *, device: str = "cpu") -> None:
        """Fold incumbent and margin into the members' products."""
        count = len(score.members)
        self.rows, self.columns = _ROWS, max(_NARROWEST, _CELLS // (_ROWS * count))
        self._score, self._threshold = score, score.acquisition.threshold(score.margin)
        shift = score.margin - score.acquisition.incumbent
        self._products = [Products(each, device=device, shift=shift) for each in score.members]
        self._buffer = Buffer(count, self.rows * self.columns, device=device)

    def sift(self, tile: Tile, cut: float) -> Cells:
        """Value the pairs that pass the screen; see :meth:`~inverse_design.search.pruning.TilePruner.sift`."""
        acquisition = self._score.acquisition
        rows, columns = tile.shape
        buffer = self._buffer.numbers
        for products, row in zip(self._products, buffer, strict=True):
            products.into(row, tile)
        above = buffer[:, : rows * columns].unflatten(1, (rows, columns))
        screened = acquisition.screen(above, self._score.margin)
        positions = reaching(screened, tile, max(cut, self._threshold)).positions
        values = self._score.exact(*positions.unbind(1))
        kept = ~(values <= acquisition.floor)
        return Cells(positions[kept], values[kept])

    def after(self, tile: Tile, cells: Cells) -> "GainPruner":  # noqa: ARG002 - nothing is learnt
        """Go on; see :meth:`~inverse_design.search.pruning.TilePruner.after`."""
        return self
