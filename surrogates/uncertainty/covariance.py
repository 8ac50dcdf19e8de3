"""A covariance of readouts as low rank plus diagonal: never a dense g x g matrix."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FactorCovariance:
    """The covariance ``diag(diagonal) + loadings @ loadings.T`` over readouts.

    Attributes:
        diagonal: Variance of each readout that no factor explains; positive.
        loadings: Factor loadings; the rank may be zero.
    """

    diagonal: Float[Tensor, "g"]
    loadings: Float[Tensor, "g r"]

    @classmethod
    def independent(cls, variance: Float[Tensor, "g"]) -> "FactorCovariance":
        """Make the covariance of readouts that vary on their own.

        Args:
            variance: Of each readout; positive.

        Returns:
            A covariance of rank zero.
        """
        return cls(variance, variance.new_zeros(len(variance), 0))

    @property
    def variance(self) -> Float[Tensor, "g"]:
        """Variance of each readout."""
        return self.diagonal + self.loadings.square().sum(1)

    @cached_property
    def log_determinant(self) -> float:
        """Natural logarithm of the determinant, by the matrix determinant lemma."""
        return float(self.diagonal.log().sum() + self._spectrum[1].square().log1p().sum())

    @cached_property
    def _spectrum(self) -> tuple[Float[Tensor, "g r"], Float[Tensor, "r"]]:
        """Left singular vectors and values of the loadings in units of the diagonal, by way of a thin QR."""
        tall, square = torch.linalg.qr(self.loadings / self.diagonal.sqrt()[:, None])
        vectors, values, _ = torch.linalg.svd(square)
        return tall @ vectors, values

    def whiten(self, rows: Float[Tensor, "b g"]) -> Float[Tensor, "b g"]:
        """Multiply rows by a square root of the inverse: their inner products become Mahalanobis products.

        With ``D = diag(diagonal)`` and the thin singular value decomposition ``D^-1/2 loadings = U S V^T`` the
        root is ``D^-1/2 (I + U ((1 + S²)^-1/2 - 1) U^T)``; it costs ``O(b g r)``.

        Args:
            rows: Any rows over readouts.

        Returns:
            Whitened rows, in standard deviations.
        """
        scaled = rows / self.diagonal.sqrt()
        vectors, values = self._spectrum
        shrink = (1 + values.square()).rsqrt() - 1
        return scaled + ((scaled @ vectors) * shrink) @ vectors.T

    def draw(self, count: int, *, generator: torch.Generator) -> Float[Tensor, "count g"]:
        """Draw centred normal rows with this covariance.

        Args:
            count: How many rows.
            generator: Source of randomness.

        Returns:
            The rows.
        """
        g, r = self.loadings.shape
        noise = torch.randn(count, g, generator=generator, dtype=self.diagonal.dtype)
        factors = torch.randn(count, r, generator=generator, dtype=self.diagonal.dtype)
        return noise * self.diagonal.sqrt() + factors @ self.loadings.T
