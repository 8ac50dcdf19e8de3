"""The Bayesian interaction model: what combinations do beyond the scaled sum of their parts.

On top of the scaled additive prediction stands a Gaussian process whose covariance between two combinations is a
sum of four terms, all symmetric in the parts of a combination (``i`` and ``j`` run over the parts):

* own: both contain the same intervention, which behaves in combinations unlike alone;
* sum: their parts have similar single effects;
* product: the products of the parts' scores on the leading effect components agree;
* difference: so do the squared differences of those scores.

It is fitted in weight space, where it is Bayesian linear regression on ``F = [own, sum, product, difference]``
with one prior variance per term (relative to the noise), all readouts sharing the covariance over combinations:
``W = (F^T F + P)^-1 F^T R``, posterior scale ``1 + f^T (F^T F + P)^-1 f``. The four prior variances maximise the
marginal likelihood of the residuals' scores on the effect components. The squared difference stands for the
absolute one because it keeps the model a sum of products, hence searchable exactly: see
docs/decisions/0003-squared-difference.md.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.optimize import minimize
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.additive import FittedScaledAdditive, ScaledAdditive
from surrogates.models.base import PairFactors, PairScale
from surrogates.models.features import Features, effect_components
from surrogates.uncertainty.covariance import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior
from surrogates.uncertainty.products import squared_norm

FEWEST_COMBINATIONS = 8
_LOG_WEIGHT_BOUNDS = (-8.0, 4.0)
# Squared size below which a feature is rounding.
_VANISHING = 1e-20


@dataclass(frozen=True)
class FittedInteraction:
    """The interaction model after it has seen a screen.

    Attributes:
        additive: The scaled additive prediction that it corrects.
        features: Coordinates of the entries.
        weights: Posterior mean of the regression weights.
        root: ``root @ root.T`` is the posterior covariance of the weights, in units of the noise.
        noise: Variance of each readout of a combination around the model.
        unknown: Prior variance that an entry adds to the scale when no training combination contains it.
    """

    additive: FittedScaledAdditive
    features: Features
    weights: Float[Tensor, "p g"]
    root: Float[Tensor, "p p"]
    noise: Float[Tensor, "g"]
    unknown: Float[Tensor, "v"]

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.additive.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.additive.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.additive.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict effects; singles are left to the additive model.

        Args:
            batch: Ids of this model's vocabulary.

        Returns:
            Normal effects with scale ``1 + f^T V f``.
        """
        combined = (batch.order > 1).to(torch.float64)
        features = self.features.of_batch(batch) * combined[:, None]
        mean = self.additive.predict(batch).mean + features @ self.weights
        unknown = batch.multi_hot(len(self.unknown)) @ self.unknown
        scale = 1 + (features @ self.root).square().sum(1) + combined * unknown
        covariance = FactorCovariance.independent(self.noise)
        return GaussianPosterior(mean, scale, (covariance,), torch.zeros(len(batch), dtype=torch.int64))

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs of entries measured alone."""
        main = self.additive.pair_factors().main + self.features.main() @ self.weights
        return PairFactors(main, self.features.scores, self.features.basis() @ self.weights)

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        rows = self.features.main() @ self.root
        side, left, right = squared_norm(rows, self.features.scores, self.features.basis() @ self.root)
        return PairScale(side + self.unknown + 0.5, left, right)


@dataclass(frozen=True)
class Interaction:
    """Scaled additive prediction plus Bayesian interactions.

    Attributes:
        components: Effect components on which effects are compared.
        leading: How many of them carry products and squared differences.
    """

    components: int = 50
    leading: int = 8

    def fit(self, screen: Screen, *, seed: int) -> FittedInteraction:
        """Learn from all singles and combinations of a screen.

        Args:
            screen: Measured effects in one context.
            seed: Unused; the fit is deterministic.

        Returns:
            The fitted model. With fewer than 8 combinations the interactions stay zero.
        """
        additive = ScaledAdditive().fit(screen, seed=seed)
        rows = torch.nonzero(screen.batch.order > 1).flatten()
        batch = screen.batch.rows(rows)
        components = effect_components(screen.effects, self.components)
        features = Features.of(
            additive.singles,
            components,
            leading=self.leading,
            combined=batch.multi_hot(len(screen.vocabulary)).sum(0) > 0,
        )
        residual = screen.effects[rows] - additive.predict(batch).mean
        design = features.of_batch(batch)
        enough = len(rows) >= FEWEST_COMBINATIONS
        # Below that, a prior variance of nothing: the scaled additive model, in the same form.
        weights = (
            maximise_evidence(design, features.sizes, residual @ components.T)
            if enough
            else torch.zeros(len(features.sizes), dtype=torch.float64)
        )
        return _posterior(additive, features, design, residual, weights)


def _posterior(
    additive: FittedScaledAdditive,
    features: Features,
    design: Float[Tensor, "n p"],
    residual: Float[Tensor, "n g"],
    weights: Float[Tensor, "t"],
) -> FittedInteraction:
    prior = _column_prior(design, features.sizes, weights)
    eye = torch.eye(len(prior), dtype=torch.float64)
    scaled = design * prior.sqrt()
    chol = torch.linalg.cholesky(eye + scaled.T @ scaled)
    # V = S (I + S F^T F S)^-1 S with S = sqrt(prior): well conditioned also where the prior variance is zero.
    root = prior.sqrt()[:, None] * torch.linalg.solve_triangular(chol, eye, upper=False).T
    mean = root @ (root.T @ (design.T @ residual))
    left_out = 1 - (design @ root).square().sum(1)
    noise = _leave_one_out_variance(residual - design @ mean, left_out) if len(design) else additive.variance
    absent = features.own.sum(1) == 0
    own_prior = prior[0] if features.sizes[0] else prior.new_zeros(())
    return FittedInteraction(additive, features, mean, root, noise, absent * own_prior)


def _mean_square(block: Float[Tensor, "n p"]) -> Float[Tensor, ""]:
    """Mean squared length of the rows; one for a term that training combinations do not vary.

    Features are near one by construction. Rounding must not pass for a feature, nor be divided by: where the data
    say nothing of a term, its prior variance is that of features of unit size.
    """
    mean = block.square().sum(1).mean() if block.numel() else block.new_zeros(())
    return mean if float(mean) > _VANISHING else block.new_ones(())


def _leave_one_out_variance(residual: Float[Tensor, "n g"], left_out: Float[Tensor, "n"]) -> Float[Tensor, "g"]:
    """Noise variance from leave-one-out residuals ``e / (1 - h)``, whose variance is ``noise / (1 - h)``."""
    variance = (residual.square() / left_out[:, None]).mean(0)
    return variance.clamp(min=torch.finfo(torch.float64).eps)


def maximise_evidence(
    design: Float[Tensor, "n p"], sizes: tuple[int, ...], scores: Float[Tensor, "n c"]
) -> Float[Tensor, "t"]:
    """Choose the prior variance of each term by the marginal likelihood, the noise variance profiled out.

    With ``K = I + F P F^T``, ``P`` the prior variances, and ``c`` independent columns ``Y`` the criterion is
    ``log det K / n + log tr(Y^T K^-1 Y)`` (Rasmussen and Williams 2006, equation 2.30). In weight space, with
    ``A = I + P^1/2 F^T F P^1/2``, ``det K = det A`` and ``K^-1 = I - F P^1/2 A^-1 P^1/2 F^T``: the cost grows
    linearly with ``n``.

    Args:
        design: Features of the training combinations, terms side by side.
        sizes: Number of columns of each term.
        scores: Residuals on the effect components.

    Returns:
        Prior variance of each term relative to the noise, for a term whose rows have unit mean square.
    """
    n, p = design.shape
    gram, onto = design.T @ design, design.T @ scores
    total = scores.square().sum()
    eye = torch.eye(p, dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny

    def criterion(at: np.ndarray) -> tuple[float, np.ndarray]:
        log_weights = torch.tensor(at, requires_grad=True)
        root = _column_prior(design, sizes, log_weights.exp()).sqrt()
        chol = torch.linalg.cholesky(eye + root[:, None] * gram * root)
        explained = torch.linalg.solve_triangular(chol, root[:, None] * onto, upper=False).square().sum()
        value = 2 * chol.diagonal().log().sum() / n + (total - explained).clamp(min=tiny).log()
        (gradient,) = torch.autograd.grad(value, log_weights)
        return float(value.detach()), gradient.numpy()

    start = np.full(len(sizes), -3.0)
    found = minimize(criterion, start, jac=True, method="L-BFGS-B", bounds=[_LOG_WEIGHT_BOUNDS] * len(sizes))
    return torch.tensor(found.x).exp()


def _column_prior(
    design: Float[Tensor, "n p"], sizes: tuple[int, ...], weights: Float[Tensor, "t"]
) -> Float[Tensor, "p"]:
    """Prior variance of each regression weight: its term's, for a term whose rows have unit mean square."""
    blocks = design.split(sizes, dim=1)
    return torch.cat([
        (weight / _mean_square(block)).expand(block.shape[1])
        for weight, block in zip(weights, blocks, strict=True)
    ])  # fmt: skip
