"""The error law: how held-out predictions of one novelty class miss, and how likely a target is under it.

A candidate with prediction ``m``, scale ``v`` and parts with single effects ``a_1 ... a_k`` explains a target
``t`` with the covariance ``v Sigma + tau² sum_k a_k a_k^T``: the first term is the model's error, the second says
that the coefficients with which parts add up are scattered (Norman et al. 2019 fit them per combination). With
everything whitened by ``Sigma`` it needs inner products only:

    square = |t - m|²,  projections_k = a_k · (t - m),  gram_kl = a_k · a_l
    quad = (square - p^T (gram + (v / tau²) I)^-1 p) / v
    log |cov| = g log v + log |I + (tau² / v) gram| + const
    log p(t | d) = -1/2 log |cov| - 1/2 quad                             normal
                 = -1/2 log |cov| - (nu + g)/2 log(1 + quad / nu)        Student, nu degrees of freedom

Readouts are far from independent even after whitening, so the likelihood is raised to a power (its
*temperature*, Grünwald 2012) that held-out perturbations choose.
"""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.uncertainty.covariance import FactorCovariance

# Offsets are means over few residuals: as if this many residuals of zero had been seen as well.
_OFFSET_PRIOR = 10.0


@dataclass(frozen=True, order=True)
class LawChoice:
    """What has to be chosen about an error law; :mod:`surrogates.uncertainty.selection` does it.

    Attributes:
        rank: Number of factors.
        shrinkage: Weight of the mean variance in each readout's own variance, 0 to 1.
        coefficient_variance: Variance ``tau²`` of the coefficients, before tempering.
        tails: Degrees of freedom of the Student form per readout; infinity is the normal form.
    """

    rank: int = 0
    shrinkage: float = 0.5
    coefficient_variance: float = 0.0
    tails: float = math.inf


@dataclass(frozen=True)
class ErrorLaw:
    """The law of the prediction errors of one novelty class.

    Attributes:
        offset: Mean error, to be added to predictions.
        covariance: Of the errors of predictions with scale one.
        coefficient_variance: Variance of the coefficients of the parts.
        degrees: Degrees of freedom; infinity for the normal law.
        temperature: Power of the likelihood.
        support: Number of held-out perturbations it was learnt from.
        origin: Name of the novelty class they belong to.
    """

    offset: Float[Tensor, "g"]
    covariance: FactorCovariance
    coefficient_variance: float
    degrees: float
    temperature: float
    support: int
    origin: str

    def log_density(
        self,
        square: Float[Tensor, "*b"],
        projections: tuple[Float[Tensor, "*b"], ...],
        gram: tuple[Float[Tensor, "*#b"], ...],
        scale: Float[Tensor, "*#b"],
    ) -> Float[Tensor, "*b"]:
        """Tempered logarithm of the density of a target, up to a constant of the class.

        Everything is in whitened coordinates; see the module's equations.

        Args:
            square: Squared length of target minus prediction.
            projections: Inner product of each part's effect with target minus prediction.
            gram: Inner products of the parts' effects, row by row of the upper triangle: ``(a·a,)`` or
                ``(a·a, a·b, b·b)`` and so on.
            scale: Posterior scale of each candidate.

        Returns:
            Log densities; they compare candidates of one class.
        """
        g = len(self.offset)
        explained, log_volume = self._coefficients(projections, gram, scale)
        quad = (square - explained) / scale
        if math.isfinite(self.degrees):
            quad = (self.degrees + g) * (quad / self.degrees).log1p()
        return (-self.temperature / 2) * (quad + log_volume + g * scale.log())

    def _coefficients(
        self,
        projections: tuple[Float[Tensor, "*b"], ...],
        gram: tuple[Float[Tensor, "*#b"], ...],
        scale: Float[Tensor, "*#b"],
    ) -> tuple[Float[Tensor, "*b"] | float, Float[Tensor, "*#b"] | float]:
        """Part of the square that scattered coefficients explain, and their log volume."""
        if self.coefficient_variance == 0.0:
            return 0.0, 0.0
        ridge = scale / self.coefficient_variance
        if len(projections) == 1:
            determinant = gram[0] + ridge
            return projections[0].square() / determinant, (determinant / ridge).log()
        if len(projections) > 2:
            return _many_coefficients(projections, gram, ridge)
        (first, second), (aa, ab, bb) = projections, gram
        aa, bb = aa + ridge, bb + ridge
        determinant = aa * bb - ab * ab
        explained = (bb * first * first - 2 * ab * first * second + aa * second * second) / determinant
        return explained, (determinant / ridge.square()).log()

    def with_temperature(self, temperature: float) -> "ErrorLaw":
        """Change the power of the likelihood.

        Args:
            temperature: The new power.

        Returns:
            The law with it.
        """
        return replace(self, temperature=temperature)


def _many_coefficients(
    projections: tuple[Float[Tensor, "*b"], ...],
    gram: tuple[Float[Tensor, "*#b"], ...],
    ridge: Float[Tensor, "*#b"],
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
    """The same for any number of parts, by Cholesky factors of ``gram + ridge I``."""
    k = len(projections)
    onto = torch.stack(projections, dim=-1)
    matrix = onto.new_zeros(*onto.shape, k)
    first, second = torch.triu_indices(k, k)
    for value, row, column in zip(gram, first.tolist(), second.tolist(), strict=True):
        matrix[..., row, column] = matrix[..., column, row] = value
    matrix.diagonal(dim1=-2, dim2=-1).add_(ridge[..., None])
    factor = torch.linalg.cholesky(matrix)
    explained = torch.linalg.solve_triangular(factor, onto[..., None], upper=False).square().sum((-2, -1))
    log_determinant = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return explained, log_determinant - k * ridge.log()


@dataclass(frozen=True)
class StandardResiduals:
    """Held-out residuals in units of their posterior scale, and their principal directions.

    Attributes:
        offset: Mean residual, shrunk towards zero.
        rows: Residuals minus offset, over the root of the scale.
        directions: Orthonormal principal directions of the rows, leading first.
        values: Singular value of each.
    """

    offset: Float[Tensor, "g"]
    rows: Float[Tensor, "n g"]
    directions: Float[Tensor, "r g"]
    values: Float[Tensor, "r"]

    @classmethod
    def of(cls, residuals: Float[Tensor, "n g"], scale: Float[Tensor, "n"]) -> "StandardResiduals":
        """Standardise residuals.

        Args:
            residuals: Measured minus predicted, each predicted without having been seen.
            scale: Posterior scale of each of those predictions.

        Returns:
            The residuals with their decomposition, from which any law is cheap.
        """
        offset = residuals.sum(0) / (len(residuals) + _OFFSET_PRIOR)
        rows = (residuals - offset) / scale.sqrt()[:, None]
        _, values, directions = torch.linalg.svd(rows, full_matrices=False)
        return cls(offset, rows, directions, values)

    def law(self, choice: LawChoice, *, temperature: float = 1.0, origin: str = "") -> ErrorLaw:
        """Estimate the law of the class that the residuals come from.

        Factors are the leading principal directions, the rest is diagonal with variances shrunk towards their
        mean; it is well defined from one residual on and for any number of readouts.

        Args:
            choice: Rank, shrinkage, coefficient variance and tails.
            temperature: Power of the likelihood.
            origin: Name of the novelty class.

        Returns:
            The law.
        """
        n, g = self.rows.shape
        rank = min(choice.rank, n - 1, g)
        directions = self.directions[:rank]
        rest = self.rows - (self.rows @ directions.T) @ directions
        variance = rest.square().sum(0) / (n - rank)
        floor = max(float(variance.mean()) * 1e-3, float(self.rows.square().mean()) * 1e-6, 1e-12)
        diagonal = (1 - choice.shrinkage) * variance + choice.shrinkage * variance.mean()
        return ErrorLaw(
            offset=self.offset,
            covariance=FactorCovariance(
                diagonal.clamp(min=floor), directions.T * (self.values[:rank] / math.sqrt(n))
            ),
            coefficient_variance=choice.coefficient_variance,
            degrees=choice.tails * g,
            temperature=temperature,
            support=n,
            origin=origin,
        )
