"""The exact law of a quadratic form of a normal effect, for short lists: inversion of its Laplace transform.

``Q = sum_j l_j (e_j + c_j)²`` with eigenvalues ``l_j`` of the covariance, standard normal ``e_j``, has

    E[exp(-s Q)] = prod_j (1 + 2 l_j s)^(-1/2) exp(-s l_j c_j² / (1 + 2 l_j s))

``E[max(q - Q, 0)]`` and ``P(Q < q)``, as functions of ``q``, have this transform over ``s²`` and over ``s``. All
singularities are on the negative real axis, so that the inversion integral may run along any curve around it: here
the parabola of steepest descent through the saddle point, on which nothing oscillates [Rice 1980], by the
trapezoidal rule, which converges geometrically there [Weideman and Trefethen 2007]. Small probabilities keep their
relative accuracy. The classical inversions on the imaginary axis (Imhof 1961, Davies 1980) lose it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from inverse_design.acquisition.quadratic import NormalSquare
from surrogates.errors import DataError

_REACH, _STEP = 9.0, 0.025  # of the integral; nodes are spread as a hyperbolic sine, dense at the saddle point
_HALVINGS = 40  # of a bracket around the saddle point; the curve need not run through it exactly
_NODES = 40  # of the integral over distances


@dataclass(frozen=True)
class ExactSquare:
    """The exact law of some squares.

    Attributes:
        eigenvalues: Of each covariance; positive.
        energy: Squared gap along each eigenvector.
    """

    eigenvalues: Float[Tensor, "b m"]
    energy: Float[Tensor, "b m"]

    @classmethod
    def of(cls, square: NormalSquare) -> "ExactSquare":
        """Diagonalise the covariances, each of ``m`` x ``m``.

        Args:
            square: Of a few perturbations.

        Returns:
            Their laws.

        Raises:
            DataError: If a covariance is singular.
        """
        dense = torch.diag_embed(square.diagonal) + square.factor @ square.factor.mT
        values, vectors = torch.linalg.eigh(dense)
        if bool((values <= 0).any()):
            raise DataError("a covariance of the effects is singular; give every readout some variance of its own")
        return cls(values, torch.einsum("bm,bmk->bk", square.gap, vectors).square())

    def probability_below(self, square: Float[Tensor, "#b"]) -> Float[Tensor, "b"]:
        """Probability that the square is below a value.

        Args:
            square: The value, or one for each; positive.

        Returns:
            Probabilities.
        """
        return self._invert(square, 1)

    def shortfall(self, square: Float[Tensor, "#b"]) -> Float[Tensor, "b"]:
        """Expected improvement on a square: ``E[max(q - Q, 0)]``.

        Args:
            square: That of the incumbent, or one for each; positive.

        Returns:
            Expectations.
        """
        return self._invert(square, 2)

    def root_shortfall(self, distance: Float[Tensor, "#b"]) -> Float[Tensor, "b"]:
        """Expected improvement on a distance: ``E[max(d - √Q, 0)]``, the integral of ``P(√Q < x)`` up to ``d``.

        Args:
            distance: That of the incumbent, or one for each; positive.

        Returns:
            Expectations, by Gauss-Legendre quadrature.
        """
        nodes, weights = (torch.from_numpy(each) for each in np.polynomial.legendre.leggauss(_NODES))
        b = len(self.eigenvalues)
        stop = distance.expand(b)[:, None]
        every = ExactSquare(*(each.repeat_interleave(_NODES, 0) for each in (self.eigenvalues, self.energy)))
        below = every.probability_below((stop * (1 + nodes) / 2).square().flatten())
        expected: Tensor = below.reshape(b, _NODES) @ weights * stop[:, 0] / 2
        return expected

    def _invert(self, square: Float[Tensor, "#b"], poles: int) -> Float[Tensor, "b"]:
        """Integrate ``exp(K(s)) / (2 pi i)`` with ``K(s) = log E[exp(-s Q)] + s q - poles log s``."""
        q = square.expand(len(self.eigenvalues))
        saddle = self._saddle(q, poles)
        second, third = self._derivatives(saddle, poles)
        unit, bend = second.rsqrt(), torch.maximum(third / (6 * second), -self._most_bent(saddle))
        t = torch.arange(0, _REACH, _STEP, dtype=torch.float64)
        y = unit[:, None] * t.sinh()
        s = torch.complex(saddle[:, None] + bend[:, None] * y.square(), y)
        slope = torch.complex(2 * bend[:, None] * y, torch.ones_like(y))  # ds / dy
        values = (self._exponent(s, q, poles).exp() * slope / 1j).real * t.cosh()
        values[:, 0] /= 2  # the curve is symmetric: half of it, and half of its middle
        total: Tensor = values.sum(1) * unit * _STEP / torch.pi
        return total

    def _most_bent(self, saddle: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
        """How sharply the parabola may bend so that no ``exp(-s energy / (1 + 2 l s))`` exceeds its saddle value.

        With ``w = s + 1 / (2 l)`` it is ``exp(energy / (4 l² w))`` up to a constant, and on a parabola through
        ``w_0`` the real part of ``1 / w`` stays below ``1 / w_0`` if it bends by no more than that.
        """
        distance = saddle[:, None] + 1 / (2 * self.eigenvalues)
        pulls = self.energy / (4 * self.eigenvalues.square() * distance) > 1
        return torch.where(pulls, 1 / distance, torch.inf).amin(1)

    def _saddle(self, q: Float[Tensor, "b"], poles: int) -> Float[Tensor, "b"]:
        """The positive zero of ``K'``, which increases from minus infinity to ``q``.

        It lies above where ``poles / s`` alone, and below where ``energy / (8 l s)`` and ``1 / (2 s)``, which
        bound the other terms, bring the slope to zero.
        """
        high = (self.eigenvalues.shape[1] / 2 + poles + (self.energy / (8 * self.eigenvalues)).sum(1)) / q
        low = poles / (2 * (q + (self.eigenvalues + self.energy).sum(1)))
        for _ in range(_HALVINGS):
            middle = (low * high).sqrt()
            falling = self._slope(middle, q, poles) < 0
            low, high = torch.where(falling, middle, low), torch.where(falling, high, middle)
        return (low * high).sqrt()

    def _slope(self, s: Float[Tensor, "b"], q: Float[Tensor, "b"], poles: int) -> Float[Tensor, "b"]:
        grown = 1 + 2 * self.eigenvalues * s[:, None]
        return q - poles / s - (self.eigenvalues / grown + self.energy / grown.square()).sum(1)

    def _derivatives(self, s: Float[Tensor, "b"], poles: int) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Second and third derivative of ``K``."""
        values, grown = self.eigenvalues, 1 + 2 * self.eigenvalues * s[:, None]
        second = 2 * values.square() / grown.square() + 4 * values * self.energy / grown.pow(3)
        third = 8 * values.pow(3) / grown.pow(3) + 24 * values.square() * self.energy / grown.pow(4)
        return second.sum(1) + poles / s.square(), -third.sum(1) - 2 * poles / s.pow(3)

    def _exponent(self, s: Complex[Tensor, "b t"], q: Float[Tensor, "b"], poles: int) -> Complex[Tensor, "b t"]:
        grown = 1 + 2 * self.eigenvalues[:, None] * s[..., None]
        # Logarithms one by one: that of the product would jump where its angle passes a half turn.
        spread = grown.log().sum(2) / 2
        drift = (self.energy[:, None] * s[..., None] / grown).sum(2)
        return s * q[:, None] - spread - drift - poles * s.log()
