"""The error model: what held-out errors of one novelty class are like, and how likely a target is under it.

A candidate with prediction ``m``, scale ``v`` and parts with single effects ``a_1 ... a_k`` explains a target
``t`` with the covariance ``v Sigma + tau² sum_k a_k a_k^T``: the first term is the model's error, the second says
that the coefficients with which parts add up are scattered (Norman et al. 2019 fit them per combination).
``Sigma`` is low rank plus diagonal and never a dense matrix. With everything whitened by it, inner products are
enough, and one matrix product gives them for all pairs:

    square = |t - m|²,  projections_k = a_k · (t - m),  gram_kl = a_k · a_l
    quad = (square - p^T (gram + (v / tau²) I)^-1 p) / v
    log |cov| = g log v + log |I + (tau² / v) gram| + const
    log p(t | d) = -1/2 log |cov| - 1/2 quad                             normal
                 = -1/2 log |cov| - (nu + g)/2 log(1 + quad / nu)        Student, nu degrees of freedom

Readouts are far from independent even after whitening, so the likelihood is raised to a power (its *temperature*,
Grünwald 2012) that held-out perturbations choose.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class FactorCovariance:
    """The covariance ``diag(diagonal) + loadings @ loadings.T`` over readouts."""

    diagonal: Float[Tensor, "g"]  # variance of each readout that no factor explains; positive
    loadings: Float[Tensor, "g r"]  # factor loadings; the rank may be zero

    @classmethod
    def independent(cls, variance: Float[Tensor, "g"]) -> "FactorCovariance":
        """Make the covariance of readouts that vary on their own."""
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

    @cached_property
    def precision(self) -> tuple[Float[Tensor, "g"], Float[Tensor, "g r"]]:
        """Weights ``w`` and directions ``V`` of the inverse, ``diag(w) - V V^T``."""
        vectors, values = self._spectrum
        root = self.diagonal.rsqrt()[:, None]
        return self.diagonal.reciprocal(), root * vectors * (values.square() / (1 + values.square())).sqrt()

    def whiten(self, rows: Float[Tensor, "b g"]) -> Float[Tensor, "b g"]:
        """Multiply rows by a square root of the inverse: their inner products become Mahalanobis products.

        With ``D = diag(diagonal)`` and the thin singular value decomposition ``D^-1/2 loadings = U S V^T`` the
        root is ``D^-1/2 (I + U ((1 + S²)^-1/2 - 1) U^T)``; it costs ``O(b g r)``.
        """
        scaled = rows / self.diagonal.sqrt()
        if not self.loadings.shape[1]:
            return scaled
        vectors, values = self._spectrum
        shrink = (1 + values.square()).rsqrt() - 1
        return scaled + ((scaled @ vectors) * shrink) @ vectors.T

    def draw(self, count: int, *, generator: torch.Generator) -> Float[Tensor, "count g"]:
        """Draw centred normal rows with this covariance."""
        g, r = self.loadings.shape
        noise = torch.randn(count, g, generator=generator, dtype=self.diagonal.dtype)
        factors = torch.randn(count, r, generator=generator, dtype=self.diagonal.dtype)
        return noise * self.diagonal.sqrt() + factors @ self.loadings.T


# Offsets are means over few residuals: as if this many residuals of zero had been seen as well.
_OFFSET_PRIOR = 10.0


@dataclass(frozen=True, order=True)
class LawChoice:
    """What has to be chosen about an error model; :mod:`surrogates.uncertainty.selection` does it."""

    rank: int = 0  # number of factors
    shrinkage: float = 0.5  # weight of the mean variance in each readout's own variance, 0 to 1
    coefficient_variance: float = 0.0  # variance ``tau²`` of the coefficients, before tempering
    tails: float = math.inf  # degrees of freedom of the Student form per readout; infinity is the normal form


@dataclass(frozen=True)
class ErrorLaw:
    """The error model of one novelty class."""

    offset: Float[Tensor, "g"]  # mean error, to be added to predictions
    covariance: FactorCovariance  # of the errors of predictions with scale one
    coefficient_variance: float  # variance of the coefficients of the parts
    degrees: float  # degrees of freedom; infinity for the normal distribution
    temperature: float  # power of the likelihood
    support: int  # number of held-out perturbations it was learnt from
    origin: str  # name of the novelty class they belong to

    def log_density(
        self,
        square: Float[Tensor, "*b"],
        projections: tuple[Float[Tensor, "*b"], ...],
        gram: tuple[Float[Tensor, "*#b"], ...],
        scale: Float[Tensor, "*#b"],
    ) -> Float[Tensor, "*b"]:
        """Tempered logarithm of the density of a target, up to a constant of the class.

        Everything is in whitened coordinates; see the module's equations.
        """
        g = len(self.offset)
        explained, log_volume = self._coefficients(projections, gram, scale)
        quad = (square - explained) / scale
        if math.isfinite(self.degrees):
            quad = (quad / self.degrees).log1p_().mul_(self.degrees + g)
        return quad.add_(log_volume + g * scale.log()).mul_(-self.temperature / 2)

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
        # What depends on the candidate alone is divided first: there are fewer of those numbers.
        explained = (first * (bb / determinant)).addcmul_(second, 2 * ab / determinant, value=-1.0).mul_(first)
        explained.addcmul_(second * second, aa / determinant)
        return explained, (determinant / ridge.square()).log()

    def with_temperature(self, temperature: float) -> "ErrorLaw":
        """Change the power of the likelihood."""
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


# Principal directions of less than this share of the first are those of the residuals, not of their products.
_LEAST_DIRECTION = 1e-3


@dataclass(frozen=True)
class StandardResiduals:
    """What error models need of held-out residuals in units of their posterior scale, less their offset."""

    offset: Float[Tensor, "g"]  # mean residual, shrunk towards zero
    powers: Float[Tensor, "g"]  # sum of squares of each readout
    support: int  # how many residuals
    directions: Float[Tensor, "r g"]  # orthonormal principal directions, leading first
    values: Float[Tensor, "r"]  # singular value of each

    @classmethod
    def of(
        cls, residuals: Float[Tensor, "n g"], scale: Float[Tensor, "n"], *, most: int | None = None
    ) -> "StandardResiduals":
        """Standardise residuals, for error models of at most so many factors."""
        n, g = residuals.shape
        offset = residuals.sum(0) / (n + _OFFSET_PRIOR)
        rows = (residuals - offset).div_(scale.sqrt()[:, None])
        count = min(n - 1, g) if most is None else min(most, n - 1, g)
        return cls(offset, rows.square().sum(0), n, *_principal(rows, count))

    def law(self, choice: LawChoice, *, temperature: float = 1.0, origin: str = "") -> ErrorLaw:
        """Estimate the error model of the class that the residuals come from.

        Factors are the leading principal directions, the rest is diagonal with variances shrunk towards their
        mean; it is well defined from one residual on and for any number of readouts.
        """
        n, g = self.support, len(self.offset)
        rank = min(choice.rank, len(self.values))
        directions, values = self.directions[:rank], self.values[:rank]
        variance = (self.powers - values.square() @ directions.square()).clamp(min=0) / (n - rank)
        floor = max(float(variance.mean()) * 1e-3, float(self.powers.mean()) / n * 1e-6, 1e-12)
        diagonal = (1 - choice.shrinkage) * variance + choice.shrinkage * variance.mean()
        return ErrorLaw(
            offset=self.offset,
            covariance=FactorCovariance(diagonal.clamp(min=floor), directions.T * (values / math.sqrt(n))),
            coefficient_variance=choice.coefficient_variance,
            degrees=choice.tails * g,
            temperature=temperature,
            support=n,
            origin=origin,
        )


def _principal(rows: Float[Tensor, "n g"], count: int) -> tuple[Float[Tensor, "r g"], Float[Tensor, "r"]]:
    """Find so many leading directions and singular values, by products of the rows or of the readouts."""
    by_rows = len(rows) <= rows.shape[1]
    eigenvalues, vectors = torch.linalg.eigh(rows @ rows.T if by_rows else rows.T @ rows)
    values, vectors = eigenvalues.flip(0)[:count].clamp(min=0).sqrt(), vectors.flip(1)[:, :count].T
    if count and not bool(values[-1] > _LEAST_DIRECTION * values[0]):
        _, values, vectors = torch.linalg.svd(rows, full_matrices=False)
        return vectors[:count].clone(), values[:count]
    return (vectors @ rows / values[:, None] if by_rows else vectors.contiguous()), values


_ROWS = 256  # that are squared together


def squares(rows: Float[Tensor, "v g"]) -> Float[Tensor, "v"]:
    """Take the squared length of each row, without a second table as large."""
    return torch.cat([part.square().sum(1) for part in rows.split(_ROWS)])


def squared_norm(
    main: Float[Tensor, "v g"], scores: Float[Tensor, "v q"], basis: Float[Tensor, "q g"]
) -> tuple[Float[Tensor, "v"], Float[Tensor, "v d"], Float[Tensor, "v d"]]:
    """Expand ``|main_i + main_j + basis^T (scores_i * scores_j)|²`` as ``side_i + side_j + left_i · right_j``.

    With ``y_i = scores_i`` and ``B = basis`` the cross terms are ``2 main_i · main_j``,
    ``2 (B main_i * y_i) · y_j``, ``2 y_i · (B main_j * y_j)`` and ``sum_rs (B B^T)_rs y_ir y_is y_jr y_js``, the
    last over ``r <= s`` only: ``d = g + 2 q + q (q + 1) / 2``.
    """
    if not len(basis):
        return squares(main), 2 * main, main
    mixed = (main @ basis.T) * scores
    first, second = torch.triu_indices(len(basis), len(basis))
    gram = (basis @ basis.T)[first, second] * torch.where(first == second, 1.0, 2.0)
    quartic = scores[:, first] * scores[:, second]
    # Any unit gives the same products; that of the effects keeps all columns of one size, hence bounds tight.
    unit = main.square().sum(1).mean().sqrt().clamp(min=torch.finfo(main.dtype).tiny)
    left = torch.cat([2 * main, 2 * mixed / unit, 2 * scores * unit, quartic * gram / unit], dim=1)
    right = torch.cat([main, scores * unit, mixed / unit, quartic * unit], dim=1)
    return squares(main), left, right


def inner_product(
    rows: Float[Tensor, "v g"],
    main: Float[Tensor, "v g"],
    scores: Float[Tensor, "v q"],
    basis: Float[Tensor, "q g"],
) -> tuple[Float[Tensor, "v"], Float[Tensor, "v d"], Float[Tensor, "v d"]]:
    """Expand ``rows_i · (main_i + main_j + basis^T (scores_i * scores_j))``, which is not symmetric."""
    own = torch.cat(
        [(one * other).sum(1) for one, other in zip(rows.split(_ROWS), main.split(_ROWS), strict=True)]
    )
    if not len(basis):
        return own, rows, main
    mixed = (rows @ basis.T) * scores
    return own, torch.cat([rows, mixed], dim=1), torch.cat([main, scores], dim=1)
