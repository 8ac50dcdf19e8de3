"""Gains of a squared distance: a quadratic form of a normal effect, by a gamma law of the same moments.

With ``y ~ N(m, S)``, gap ``a = W^1/2 (t - m)`` and ``V = W^1/2 S W^1/2``, the square
``Q = (t - y)^T W (t - y)`` has the cumulants

    k_r = 2^(r-1) (r-1)! (tr V^r + r a^T V^(r-1) a)

A gamma law with the first two is never negative, as ``Q`` (Satterthwaite 1946); one with the first three is
shifted (Pearson 1959; Imhof 1961, equation 4.1) and closer, above all where few factors hold most of the
variance. :mod:`inverse_design.acquisition.exact_square` has the law itself. ``V`` is low rank plus diagonal, and
never a dense matrix.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.target import AlignedProfile
from surrogates.uncertainty.posterior import Posterior

_TINY = torch.finfo(torch.float64).tiny
# Gamma laws of a larger shape are normal ones in all that matters, and their function loses its digits.
_LARGEST_SHAPE = 1e6
_ROUNDING = 1e-6  # of a mean: a standard deviation below this is none
_FAR = 10.0  # standard deviations from the mean, beyond which a square is not expected
_NODES = 40  # of the integral over distances


@dataclass(frozen=True)
class NormalSquare:
    """The square ``|a - e|²`` of some gaps and centred normal errors ``e`` of low rank plus diagonal covariance.

    Attributes:
        gap: Expected gaps, in units in which all readouts count alike.
        diagonal: Variance of each readout that no factor explains.
        factor: Low-rank part; the rank may be zero.
    """

    gap: Float[Tensor, "b m"]
    diagonal: Float[Tensor, "b m"]
    factor: Float[Tensor, "b m r"]

    @classmethod
    def between(cls, posterior: Posterior, target: AlignedProfile) -> "NormalSquare":
        """Take the weighted square of the gaps between predicted effects and a profile.

        Args:
            posterior: Predicted effects on all readouts of a screen.
            target: The profile.

        Returns:
            The square for each perturbation.
        """
        columns, root = target.columns, target.weights.sqrt()
        variance = posterior.variance[:, columns] * target.weights
        factor = posterior.factor
        low = variance.new_zeros(*variance.shape, 0) if factor is None else factor[:, columns] * root[:, None]
        return cls(
            (target.values - posterior.mean[:, columns]) * root,
            (variance - low.square().sum(2)).clamp(min=0),
            low,
        )

    def cumulants(self) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Take the first three cumulants: mean, variance, and third central moment."""
        gap, d, f = self.gap, self.diagonal, self.factor
        gram = torch.einsum("bmr,bms->brs", f, f)
        scaled = torch.einsum("bmr,bm,bms->brs", f, d, f)
        once = self._times(gap)
        traces = (
            d.sum(1) + _trace(gram),
            d.square().sum(1) + 2 * _trace(scaled) + gram.square().sum((1, 2)),
            d.pow(3).sum(1)
            + 3 * (d.square() * f.square().sum(2)).sum(1)
            + 3 * (scaled * gram).sum((1, 2))
            + _trace(gram @ gram @ gram),
        )
        forms = (gap.square().sum(1), (gap * once).sum(1), once.square().sum(1))
        first, second, third = (
            trace + r * form for r, (trace, form) in enumerate(zip(traces, forms, strict=True), 1)
        )
        return first, 2 * second, 8 * third

    def _times(self, rows: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        inner = torch.einsum("bmr,bm->br", self.factor, rows)
        return self.diagonal * rows + torch.einsum("bmr,br->bm", self.factor, inner)


@dataclass(frozen=True)
class MatchedSquare:
    """A gamma law, maybe shifted, in the place of a square's own.

    Attributes:
        shape: Of the gamma law; half the degrees of freedom of a chi-square.
        scale: Of the gamma law.
        shift: Smallest value.
    """

    shape: Float[Tensor, "b"]
    scale: Float[Tensor, "b"]
    shift: Float[Tensor, "b"]

    @classmethod
    def of_two(cls, square: NormalSquare) -> "MatchedSquare":
        """Match mean and variance.

        Args:
            square: Of some perturbations.

        Returns:
            A law without shift.
        """
        mean, variance, _ = square.cumulants()
        mean = mean.clamp(min=_TINY**0.25)
        variance = torch.maximum(variance, mean.square() / _LARGEST_SHAPE)
        return cls(mean.square() / variance, variance / mean, torch.zeros_like(mean))

    @classmethod
    def of_three(cls, square: NormalSquare) -> "MatchedSquare":
        """Match mean, variance and skewness.

        Args:
            square: Of some perturbations.

        Returns:
            A shifted law.
        """
        mean, variance, third = square.cumulants()
        variance = torch.maximum(variance, (_ROUNDING * mean).square().clamp(min=_TINY**0.5))
        third = torch.maximum(third, 2 * variance.pow(1.5) / _LARGEST_SHAPE**0.5)
        shape, scale = 4 * variance.pow(3) / third.square(), third / (2 * variance)
        return cls(shape, scale, mean - shape * scale)

    def probability_below(self, square: Float[Tensor, "#b"]) -> Float[Tensor, "b"]:
        """Probability that the square is below a value.

        Args:
            square: The value, or one for each.

        Returns:
            Probabilities.
        """
        return _gamma(self.shape, self._standard(square))

    def shortfall(self, square: Float[Tensor, "#b"]) -> Float[Tensor, "b"]:
        """Expected improvement on a square: ``E[max(q - Q, 0)]``.

        Args:
            square: That of the incumbent, or one for each.

        Returns:
            Expectations.
        """
        x = self._standard(square)
        gap = square - self.shift
        return (gap * _gamma(self.shape, x) - self.shape * self.scale * _gamma(self.shape + 1, x)).clamp(min=0)

    def root_shortfall(self, distance: Float[Tensor, "#b"]) -> Float[Tensor, "b"]:
        """Expected improvement on a distance, ``E[max(d - √Q, 0)]``: the integral of ``P(√Q < x)`` up to ``d``.

        Args:
            distance: That of the incumbent, or one for each; not negative.

        Returns:
            Expectations, by Gauss-Legendre quadrature over where the law is; all of what lies above it counts.
        """
        mean, reach = self.shift + self.shape * self.scale, _FAR * self.shape.sqrt() * self.scale
        low = torch.maximum(mean - reach, self.shift).clamp(min=0).sqrt()
        high = (mean + reach).sqrt()
        stop = torch.minimum(distance, high)
        width = (stop - low).clamp(min=0) / 2
        nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(_NODES))
        parts = [
            weight * self.probability_below((low + width * (1 + node)).square())
            for node, weight in zip(nodes, weights, strict=True)
        ]
        return torch.stack(parts).sum(0) * width + (distance - high).clamp(min=0)

    def _standard(self, square: Float[Tensor, "#b"]) -> Float[Tensor, "b"]:
        return ((square - self.shift) / self.scale).clamp(min=0)


def _gamma(shape: Float[Tensor, "b"], x: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Regularised lower incomplete gamma function."""
    below: Tensor = torch.special.gammainc(shape, x)
    return below


def _trace(square: Float[Tensor, "b r r"]) -> Float[Tensor, "b"]:
    trace: Tensor = square.diagonal(dim1=1, dim2=2).sum(1)
    return trace
