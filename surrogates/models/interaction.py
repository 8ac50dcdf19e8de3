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

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import PairFactors, PairScale, sum_over_interventions
from surrogates.models.baselines import FittedScaledAdditive, ScaledAdditive
from surrogates.models.directions import effect_components
from surrogates.models.marked import MarkedDesign
from surrogates.uncertainty.error_model import FactorCovariance, squared_norm
from surrogates.uncertainty.marginal_likelihood import (
    evidence_of_products,
    many_features,
    maximise_evidence,
    prior_of_squares,
)
from surrogates.uncertainty.posterior import GaussianPosterior

FEWEST_COMBINATIONS = 8


@dataclass(frozen=True)
class Features:
    """The coordinates from which the features of any combination are made."""

    # For each entry, which column marks it; ``-1`` for entries that no training combination has.
    owned: Int[Tensor, "v"]
    # Scores of each entry's single effect on the effect components, rows of unit length.
    similarity: Float[Tensor, "v c"]
    scores: Float[Tensor, "v q"]  # scores on the leading components, in units of their overall root mean square

    @classmethod
    def of(
        cls,
        singles: Float[Tensor, "v g"],
        components: Float[Tensor, "c g"],
        *,
        leading: int,
        combined: Bool[Tensor, "v"],
    ) -> "Features":
        """Project single effects on the effect components."""
        tiny = torch.finfo(torch.float64).tiny
        projected = singles @ components.T
        first = projected[:, :leading]
        return cls(
            owned=torch.where(combined, combined.cumsum(0) - 1, -1),
            similarity=projected / projected.norm(dim=1, keepdim=True).clamp(min=tiny),
            scores=first / first.square().sum(1).mean().sqrt().clamp(min=tiny),
        )

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Number of columns of each of the four terms."""
        leading = self.scores.shape[1]
        return int((self.owned >= 0).sum()), self.similarity.shape[1], leading, leading

    def main(
        self, weights: Float[Tensor, "p d"], *, onto: Float[Tensor, "v d"] | None = None
    ) -> Float[Tensor, "v d"]:
        """Weigh what each part adds to the features of a combination on its own; rows may take it in place."""
        own, similar, _, squares = weights.split(self.sizes)
        total = similar.new_zeros(len(self.owned), similar.shape[1]) if onto is None else onto
        total.addmm_(self.similarity, similar).addmm_(self.scores.square(), squares)
        marked = torch.nonzero(self.owned >= 0).flatten()
        total.index_add_(0, marked, own[self.owned[marked]])
        return total

    def basis(self) -> Float[Tensor, "q p"]:
        """What the product of two parts' scores adds: ``(a - b)² = a² + b² - 2ab``."""
        own, similarity, q, _ = self.sizes
        unit = torch.eye(q, dtype=torch.float64)
        return torch.cat([unit.new_zeros(q, own + similarity), unit, -2 * unit], dim=1)

    def of_batch(self, batch: PerturbationBatch) -> MarkedDesign:
        """Features of combinations of any order: sums over parts and over pairs of parts."""
        # sum over pairs of y_i y_j = ((sum y)² - sum y²) / 2, and each y_i² stands in order - 1 pairs
        squares = sum_over_interventions(self.scores.square(), batch)
        products = (sum_over_interventions(self.scores, batch).square() - squares) / 2
        partners = (batch.order - 1).clamp(min=0).to(torch.float64)[:, None]
        similarity = sum_over_interventions(self.similarity, batch)
        rest = torch.cat([similarity, products, partners * squares - 2 * products], dim=1)
        marks = torch.where(batch.present, self.owned[batch.genes], -1)
        return MarkedDesign(marks, self.sizes[0], rest)


@dataclass(frozen=True)
class FittedInteraction:
    """The interaction model after it has seen a screen."""

    additive: FittedScaledAdditive  # the scaled additive prediction that it corrects
    features: Features  # coordinates of the entries
    weights: Float[Tensor, "p g"]  # posterior mean of the regression weights
    # ``root @ root.T`` is the posterior covariance of the weights, in units of the noise.
    root: Float[Tensor, "p p"]
    noise: Float[Tensor, "g"]  # variance of each readout of a combination around the model
    # Prior variance that an entry adds to the scale when no training combination contains it.
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
        """Predict effects; singles are left to the additive model."""
        combined = (batch.order > 1).to(torch.float64)
        features = self.features.of_batch(batch)
        mean = self.additive.predict(batch).mean + combined[:, None] * features.times(self.weights)
        unknown = sum_over_interventions(self.unknown[:, None], batch)[:, 0]
        scale = 1 + combined * (features.squared_lengths(self.root) + unknown)
        covariance = FactorCovariance.independent(self.noise)
        return GaussianPosterior(mean, scale, (covariance,), torch.zeros(len(batch), dtype=torch.int64))

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs of entries measured alone."""
        main = self.features.main(self.weights, onto=self.additive.pair_factors().main)
        return PairFactors(main, self.features.scores, self.features.basis() @ self.weights)

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        rows = self.features.main(self.root)
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
            additive.table,
            components,
            leading=self.leading,
            combined=torch.isin(torch.arange(len(screen.vocabulary)), batch.genes),
        )
        residual = screen.effects[rows] - additive.predict(batch).mean
        design = features.of_batch(batch)
        enough = len(rows) >= FEWEST_COMBINATIONS
        # Below that, a prior variance of nothing: the scaled additive model, in the same form.
        gram, sizes = design.gram, features.sizes
        if not enough:
            weights = torch.zeros(len(sizes), dtype=torch.float64)
        elif many_features(len(design), len(gram)):
            weights = maximise_evidence(design.dense, sizes, residual @ components.T)
        else:
            scores = residual @ components.T
            weights = evidence_of_products(len(design), gram, design.onto(scores), scores.square().sum(), sizes)
        prior = prior_of_squares(gram.diagonal() / max(1, len(design)), sizes, weights)
        return _posterior(additive, features, design, residual, prior)


def _posterior(
    additive: FittedScaledAdditive,
    features: Features,
    design: MarkedDesign,
    residual: Float[Tensor, "n g"],
    prior: Float[Tensor, "p"],
) -> FittedInteraction:
    eye = torch.eye(len(prior), dtype=torch.float64)
    spread = prior.sqrt()[:, None]
    chol = torch.linalg.cholesky(eye + spread * design.gram * spread.T)
    # V = S (I + S F^T F S)^-1 S with S = sqrt(prior): well conditioned also where the prior variance is zero.
    root = spread * torch.linalg.solve_triangular(chol, eye, upper=False).T
    if many_features(len(design), len(prior)):  # the same by as many equations as there are combinations
        scaled = design.dense * spread.T
        outer = torch.eye(len(design), dtype=torch.float64) + scaled @ scaled.T
        solved = torch.cholesky_solve(residual, torch.linalg.cholesky(outer))
        mean = prior[:, None] * design.onto(solved)
    else:
        mean = root @ (root.T @ design.onto(residual))
    left_out = 1 - design.squared_lengths(root)
    noise = _leave_one_out_variance(residual - design.times(mean), left_out) if len(design) else additive.variance
    absent = features.owned < 0
    own_prior = prior[0] if features.sizes[0] else prior.new_zeros(())
    return FittedInteraction(additive, features, mean, root, noise, absent * own_prior)


def _leave_one_out_variance(residual: Float[Tensor, "n g"], left_out: Float[Tensor, "n"]) -> Float[Tensor, "g"]:
    """Noise variance from leave-one-out residuals ``e / (1 - h)``, whose variance is ``noise / (1 - h)``."""
    variance = (residual.square() / left_out[:, None]).mean(0)
    return variance.clamp(min=torch.finfo(torch.float64).eps)
