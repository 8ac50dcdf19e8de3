"""One statement per row: it made the target and only noise is left, or it did not and is as far as such rows are.

With probability ``P`` the candidate of a row made the target. Then a new measurement of it differs from the target
by the noise of two measurements, and the measurement that is the target itself by nothing. Otherwise its distance
is ``c rho``: ``c`` is what its stated error lets expect, and ``rho`` a ratio of measured to expected distances, of
first rows of held-out targets that had not made them. Such rows are nearer than expected, as they were chosen for
their likeness to the target: what makes them alike is in the errors as well.

The distribution of a row is the mixture of both. Its quantiles are taken as conformal ones: each of ``n`` ratios
weighs ``1 / (n + 1)``, shared by the two sides of their median, and the rest lies at zero and at infinity. The
maker's part counts as zero for lower bounds and as noise for upper ones, so that bounds hold of both readings. The
tails that are cut off are the nominal ones, or smaller ones if the first rows of held-out targets, with the makers
among them, would have left their bounds more often than was promised.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.replicates import Replicates
from inverse_design.search.first_rows import FirstRows
from surrogates.uncertainty.conformal import require_count, require_level

_ROUNDING = 1e-9
_NO_NOISE = torch.zeros(1, dtype=torch.float64)


@dataclass(frozen=True)
class StatedDistances:
    """What a measurement of some candidates will show.

    Attributes:
        expected: Expected distance of a new measurement.
        lower: Lower bounds; zero where the candidate may well have made the target.
        upper: Upper bounds.
    """

    expected: Float[Tensor, "b"]
    lower: Float[Tensor, "b"]
    upper: Float[Tensor, "b"]


@dataclass(frozen=True)
class RowLaw:
    """The distribution of the distance of a row, given its probability and what the error law expects.

    Attributes:
        ratio: Measured over expected distance of first rows that did not make their target.
        noise: How far a new measurement is from the target that its perturbation made.
        tail: Probability that is cut off on either side.
        level: Nominal probability of the bounds.
    """

    ratio: Float[Tensor, "n"]
    noise: Replicates
    tail: float
    level: float

    @classmethod
    def learn(cls, rows: FirstRows, noise: Replicates, level: float) -> "RowLaw":
        """Learn it from the first rows of held-out targets.

        Args:
            rows: What they said, and what was measured.
            noise: How far a new measurement is from the target that its perturbation made.
            level: Nominal probability of the bounds.

        Returns:
            The law.

        Raises:
            CalibrationError: If the level is no probability, or there are too few rows for it.
        """
        require_level(level)
        known = ~rows.other_measured.isnan()
        require_count(int(known.sum()), level, "held-out doubles with another beside them")
        tiny = torch.finfo(torch.float64).tiny
        ratio = rows.other_measured[known].clamp(min=tiny) / rows.other_expected[known].clamp(min=tiny)
        nominal = cls(ratio, noise, (1 - level) / 2, level)
        # Bounds hold of a row if more than the tail lies on both sides of what was measured.
        beside = nominal.beside(rows).sort().values
        allowed = math.floor((len(beside) + 1) * (1 - level) + _ROUNDING)
        tail = min(nominal.tail, max(0.0, float(beside[max(allowed, 1) - 1]) - 2 * _ROUNDING))
        return cls(ratio, noise, tail, level)

    def state(self, probability: Float[Tensor, "b"], expected: Float[Tensor, "b"]) -> StatedDistances:
        """State the distances of rows.

        Args:
            probability: That each made the target.
            expected: What the error law expects of each, if it did not.

        Returns:
            Expectation and bounds of the mixture.
        """
        mean = probability * self.noise.mean + (1 - probability) * expected * self.ratio.mean()
        low, low_weight = self._support(probability, expected, maker=_NO_NOISE)
        high, high_weight = self._support(probability, expected, maker=self.noise.distances)
        below, above = _below(low, low_weight), _below(-high, high_weight)
        lower = torch.where(below <= self.tail + _ROUNDING, low, 0.0).amax(1)
        inner = torch.where((above <= self.tail + _ROUNDING) & high.isfinite(), high, torch.inf).amin(1)
        return StatedDistances(mean, lower, torch.where(inner.isinf(), self._largest(high), inner))

    def beside(self, rows: FirstRows) -> Float[Tensor, "n"]:
        """Say how much of each row's distribution lies at least on either side of what was measured.

        Args:
            rows: What they said, and what was measured.

        Returns:
            The smaller of the two sides, what was measured among both.
        """
        low, low_weight = self._support(rows.probability, rows.expected, maker=_NO_NOISE)
        high, high_weight = self._support(rows.probability, rows.expected, maker=self.noise.distances)
        measured = rows.measured[:, None]
        left = torch.where(low <= measured, low_weight, 0.0).sum(1)
        right = torch.where(high >= measured, high_weight, 0.0).sum(1)
        return torch.minimum(left, right)

    def _support(
        self, probability: Float[Tensor, "b"], expected: Float[Tensor, "b"], *, maker: Float[Tensor, "s"]
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """List the values of the mixture of each row with their weights."""
        logs = self.ratio.log()
        middle = logs.median()
        reach = (logs - middle).abs()
        sides = torch.cat([middle - reach, middle + reach]).exp()
        ends = torch.tensor([0.0, torch.inf], dtype=torch.float64)
        b, each = len(expected), (1 - probability) / (2 * (len(reach) + 1))
        other = torch.cat([expected[:, None] * sides, ends.expand(b, 2)], dim=1)
        made = maker.expand(b, -1)
        weights = torch.cat(
            [each[:, None].expand_as(other), (probability / len(maker))[:, None].expand_as(made)], 1
        )
        return torch.cat([other, made], dim=1), weights

    @staticmethod
    def _largest(values: Float[Tensor, "b t"]) -> Float[Tensor, "b"]:
        return torch.where(values.isfinite(), values, 0.0).amax(1)


def _below(values: Float[Tensor, "b t"], weights: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Sum the weights of all smaller values of each row."""
    order = values.argsort(1)
    ascending, sums = values.gather(1, order), weights.gather(1, order).cumsum(1)
    first = torch.searchsorted(ascending, ascending)  # equal values share what lies below the first of them
    before = torch.nn.functional.pad(sums, (1, 0)).gather(1, first)
    return torch.empty_like(before).scatter(1, order, before)
