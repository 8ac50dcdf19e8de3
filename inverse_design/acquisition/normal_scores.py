"""How much better than the best candidates will be: laws given by their normal scores.

The chance that a candidate improves by more than ``y`` is ``Phi(z(y))``. For a normal utility the score ``z`` is a
straight line; for others it bends little, so that straight pieces between a few nodes are close, and integrals of
``Phi`` along them have a closed form: with ``h(z) = phi(z) + z Phi(z)``, whose derivative is ``Phi``,

    integral of Phi(z(t)) over a piece  =  (h(z_left) - h(z_right)) / slope

Everything is positive and keeps its relative accuracy where chances are tiny: no draw has to hit them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.normal import hinge

_KNOWN = 1e-9  # of what is expected: a deviation below this is none
_FLAT = 1e-6  # scores that differ by less have the same chance


@dataclass(frozen=True)
class NormalScores:
    """Laws of the improvement of some candidates.

    Attributes:
        at: Improvements at the nodes, ascending from zero; the last piece goes on without end.
        score: Normal score of a larger improvement than each, descending.
    """

    at: Float[Tensor, "b n"]
    score: Float[Tensor, "b n"]

    @classmethod
    def of_normal(cls, excess: Float[Tensor, "b"], deviation: Float[Tensor, "b"]) -> "NormalScores":
        """Take utilities that are normal.

        Args:
            excess: Expected utility above the incumbent.
            deviation: Standard deviation of each; not negative.

        Returns:
            Straight lines.
        """
        least = (_KNOWN * excess.abs()).clamp(min=torch.finfo(excess.dtype).tiny ** 0.25)
        spread = torch.maximum(deviation, least)
        stop = spread + excess.clamp(min=0)
        nodes = torch.stack([torch.zeros_like(stop), stop], 1)
        return cls(nodes, (excess[:, None] - nodes) / spread[:, None])

    @classmethod
    def joined(cls, parts: Sequence["NormalScores"]) -> "NormalScores":
        """Put laws below each other.

        Args:
            parts: Laws of as many nodes each.

        Returns:
            One law of all their candidates.
        """
        if not parts:
            return cls.of_normal(*torch.zeros(2, 0, dtype=torch.float64))
        return cls(torch.cat([each.at for each in parts]), torch.cat([each.score for each in parts]))

    def rows(self, index: Int[Tensor, "c"]) -> "NormalScores":
        """Take some of the candidates.

        Args:
            index: Which.

        Returns:
            Their laws.
        """
        return NormalScores(self.at[index], self.score[index])

    def in_units(self, unit: float) -> "NormalScores":
        """Measure improvements in another unit.

        Args:
            unit: How much of the present one it is.

        Returns:
            The same laws.
        """
        return NormalScores(self.at / unit, self.score)

    @property
    def probability(self) -> Float[Tensor, "b"]:
        """Chance of any improvement."""
        log_probability: Tensor = torch.special.log_ndtr(self.score[:, 0])
        return log_probability.exp()

    @property
    def expected(self) -> Float[Tensor, "b"]:
        """Expected improvement."""
        return self._beyond_nodes()[:, 0]

    @property
    def reach(self) -> Float[Tensor, "b"]:
        """Improvement beyond which nothing counts: its chance is ``exp(-32)`` of that of any improvement."""
        least = -(self.score[:, :1].square() + 64).sqrt()
        first = (self.score <= least).int().argmax(1, keepdim=True)
        on_line = self.at[:, -1:] + (self.score[:, -1:] - least) / self._last_slope
        return torch.where(first > 0, self.at.gather(1, first), on_line)[:, 0]

    def beyond(self, least: Float[Tensor, "c"]) -> Float[Tensor, "b c"]:
        """Take the expected improvement beyond some values: ``E[max(improvement - y, 0)]``.

        Args:
            least: The values; not negative.

        Returns:
            One row per candidate.
        """
        wanted = least.expand(len(self.at), -1).contiguous()
        after = torch.searchsorted(self.at, wanted, right=True)
        piece = (after - 1).clamp(0, self.at.shape[1] - 2)
        (left, right), (high, low) = ((x.gather(1, piece), x.gather(1, piece + 1)) for x in (self.at, self.score))
        score = high - (wanted - left) * (high - low) / (right - left)
        rest = self._beyond_nodes().gather(1, piece + 1)
        inside = (right - wanted) * _mean_chance(score, low) + rest
        return torch.where(after == self.at.shape[1], hinge(score) / self._last_slope, inside)

    @property
    def _last_slope(self) -> Float[Tensor, "b 1"]:
        return (self.score[:, -2:-1] - self.score[:, -1:]) / (self.at[:, -1:] - self.at[:, -2:-1])

    def _beyond_nodes(self) -> Float[Tensor, "b n"]:
        """Expected improvement beyond each node."""
        parts = (self.at[:, 1:] - self.at[:, :-1]) * _mean_chance(self.score[:, :-1], self.score[:, 1:])
        end = hinge(self.score[:, -1:]) / self._last_slope
        return torch.cat([parts, end], 1).flip(1).cumsum(1).flip(1)


def _mean_chance(high: Float[Tensor, "b p"], low: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
    """Mean of ``Phi`` between two scores; the chance in their middle where they are the same but for rounding."""
    fall = high - low
    middle = torch.special.log_ndtr((high + low) / 2).exp()
    return torch.where(fall > _FLAT, (hinge(high) - hinge(low)) / fall.clamp(min=_FLAT), middle)
