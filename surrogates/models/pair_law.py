"""What combinations do beyond the sum of their parts, learnt from few of them: curve, offsets and slopes.

For a combination of entries ``i, j, ...`` with single effects ``s`` the effect on one readout is

    sum s + curve(sum s, (sum s)^2, sum of products, least) + sum_i (offset_i + slope_i * sum_{j != i} z_j)
          + what is known of it elsewhere,

where ``z`` are standardised single effects. This is Bayesian linear regression around the additive prediction,
with one prior variance for each of the four terms, chosen by the evidence. Readouts are regressed one by one.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.singles import sum_over_interventions
from surrogates.uncertainty.marginal_likelihood import maximise_evidence

FEWEST_COMBINATIONS = 8
_EVIDENCE_ROWS = 4000
_ROWS_AT_ONCE = 4096
_CURVE = 5
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class PairLaw:
    """A fitted law, of any number of readouts; with nothing learnt it is additive.

    Attributes:
        singles: Effect of each entry alone.
        centre: Of the curve's terms over the training combinations.
        spread: Of the same.
        curve: Weight of each of the curve's terms, the first of which is constant.
        offset: What each entry adds to any combination.
        slope: What each entry adds per standardised effect of its partners.
        elsewhere: Weight of each quantity known from elsewhere.
        variance: Error variance of each readout of a combination, by generalised cross-validation.
    """

    singles: Float[Tensor, "v g"]
    centre: Float[Tensor, "t g"]
    spread: Float[Tensor, "t g"]
    curve: Float[Tensor, "t g"]
    offset: Float[Tensor, "v g"]
    slope: Float[Tensor, "v g"]
    elsewhere: Float[Tensor, "e g"]
    variance: Float[Tensor, "g"]

    def mean(self, batch: PerturbationBatch, elsewhere: Float[Tensor, "b e g"]) -> Float[Tensor, "b g"]:
        """Predict effects; single perturbations get their own.

        Args:
            batch: The perturbations.
            elsewhere: What is known of each elsewhere.

        Returns:
            One row per perturbation.
        """
        terms = (_curve_terms(self.singles, batch) - self.centre) / self.spread
        beyond = torch.einsum("btg,tg->bg", terms, self.curve) + self.deviation(batch)
        beyond = beyond + torch.einsum("beg,eg->bg", elsewhere, self.elsewhere)
        combined = (batch.order > 1)[:, None]
        return sum_over_interventions(self.singles, batch) + torch.where(combined, beyond, 0.0)

    def deviation(self, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
        """Take the part of the prediction that is due to which entries are given: offsets and slopes.

        Args:
            batch: The perturbations.

        Returns:
            One row per perturbation.
        """
        z = standardised(self.singles)
        # slope_i * (sum of all z - z_i), summed over the parts i
        crossed = sum_over_interventions(self.slope, batch) * sum_over_interventions(z, batch)
        return crossed + sum_over_interventions(self.offset - self.slope * z, batch)


def additive_law(singles: Float[Tensor, "v g"], *, elsewhere: int) -> PairLaw:
    """Build the law that adds single effects up.

    Args:
        singles: Effect of each entry alone.
        elsewhere: How many quantities are known from elsewhere.

    Returns:
        The law; its variance is the mean square of the single effects.
    """
    none = singles.new_zeros(_CURVE, singles.shape[1])
    return PairLaw(
        singles=singles,
        centre=none,
        spread=none + 1,
        curve=none,
        offset=torch.zeros_like(singles),
        slope=torch.zeros_like(singles),
        elsewhere=singles.new_zeros(elsewhere, singles.shape[1]),
        variance=singles.square().mean(0).clamp(min=torch.finfo(singles.dtype).eps),
    )


def fit_pair_law(
    batch: PerturbationBatch,
    effects: Float[Tensor, "n g"],
    singles: Float[Tensor, "v g"],
    elsewhere: Float[Tensor, "n e g"],
) -> PairLaw:
    """Learn the law from some combinations.

    Args:
        batch: Combinations, in an order that does not depend on that of a screen's rows.
        effects: What they did.
        singles: Effect of each entry alone.
        elsewhere: What is known of each combination elsewhere.

    Returns:
        The law, additive if there are fewer than 8 combinations.
    """
    law = additive_law(singles, elsewhere=elsewhere.shape[1])
    if len(batch) < FEWEST_COMBINATIONS:
        return law
    terms = _curve_terms(singles, batch)
    centre, spread = terms.mean(0), terms.std(0)
    # A term that does not vary is left alone; the first is constant and must stay the constant that it is.
    constant = spread <= 1e-9 * terms.abs().amax(0).clamp(min=_TINY)
    centre, spread = torch.where(constant, 0.0, centre), torch.where(constant, 1.0, spread)
    combined = torch.unique(batch.genes[batch.present])
    designs = _Designs(batch, (terms - centre) / spread, standardised(singles), combined, elsewhere)
    target = effects - sum_over_interventions(singles, batch)
    fits = [_regress(designs, target[:, readout], readout) for readout in range(target.shape[1])]
    weights = torch.stack([each for each, _ in fits], dim=1)
    curve, offset, slope, other = weights.split(designs.sizes)
    variance = torch.stack([each for _, each in fits])
    return PairLaw(
        singles=singles,
        centre=centre,
        spread=spread,
        curve=curve,
        offset=torch.zeros_like(singles).index_copy(0, combined, offset),
        slope=torch.zeros_like(singles).index_copy(0, combined, slope),
        elsewhere=other,
        variance=variance.clamp(min=torch.finfo(variance.dtype).eps),
    )


def standardised(singles: Float[Tensor, "v g"]) -> Float[Tensor, "v g"]:
    """Bring the single effects of each readout to mean zero and mean square one.

    Args:
        singles: Effect of each entry alone.

    Returns:
        The same, in those units; zeros where all are alike.
    """
    centred = singles - singles.mean(0)
    size = centred.square().mean(0).sqrt()
    alike = size <= 1e-9 * singles.abs().amax(0)
    return torch.where(alike, 0.0, centred / size.clamp(min=_TINY))


def _curve_terms(singles: Float[Tensor, "v g"], batch: PerturbationBatch) -> Float[Tensor, "b t g"]:
    total = sum_over_interventions(singles, batch)
    products = (total.square() - sum_over_interventions(singles.square(), batch)) / 2
    parts = torch.where(batch.present[:, :, None], singles[batch.genes.clamp(min=0)], torch.inf)
    least = torch.where((batch.order > 0)[:, None], parts.amin(1), 0.0)
    return torch.stack([torch.ones_like(total), total, total.square(), products, least], dim=1)


@dataclass(frozen=True)
class _Designs:
    """The regressors of each readout, made for a few rows at a time: there may be 100,000 of 1,000 columns."""

    batch: PerturbationBatch
    curve: Float[Tensor, "n t g"]
    z: Float[Tensor, "v g"]
    combined: Int[Tensor, "o"]
    elsewhere: Float[Tensor, "n e g"]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Numbers of columns of the four terms."""
        return self.curve.shape[1], len(self.combined), len(self.combined), self.elsewhere.shape[1]

    def of(self, rows: Int[Tensor, "m"], readout: int) -> Float[Tensor, "m p"]:
        batch = self.batch.rows(rows)
        marks = batch.multi_hot(len(self.z))[:, self.combined]
        z = self.z[:, readout]
        partners = sum_over_interventions(z[:, None], batch) - z[self.combined]
        curve, elsewhere = self.curve[rows, :, readout], self.elsewhere[rows, :, readout]
        return torch.cat([curve, marks, marks * partners, elsewhere], dim=1)


def _regress(designs: _Designs, target: Float[Tensor, "n"], readout: int) -> tuple[Float[Tensor, "p"], Tensor]:
    """Solve one readout: ridge with the prior variances that the evidence prefers on at most 4,000 rows."""
    every = torch.arange(len(target))
    some = every[:: -(-len(every) // _EVIDENCE_ROWS)]
    design = designs.of(some, readout)
    weights = maximise_evidence(design, designs.sizes, target[some][:, None])
    squares = [block.square().sum(1).mean() for block in design.split(designs.sizes, dim=1)]
    root = torch.cat([
        (weight / square).sqrt().expand(size) if float(square) > 1e-20 else square.new_zeros(size)
        for weight, square, size in zip(weights, squares, designs.sizes, strict=True)
    ])  # fmt: skip
    gram, onto = (
        torch.zeros(len(root), len(root), dtype=torch.float64),
        torch.zeros(len(root), dtype=torch.float64),
    )
    for rows in every.split(_ROWS_AT_ONCE):
        # Most regressors mark the few entries of a combination: products of sparse matrices are far cheaper.
        design = csr_array((designs.of(rows, readout) * root).numpy())
        gram += torch.from_numpy((design.T @ design).toarray())
        onto += torch.from_numpy(design.T @ target[rows].numpy())
    eye = torch.eye(len(root), dtype=torch.float64)
    chol = torch.linalg.cholesky(eye + gram)
    scaled = torch.cholesky_solve(onto[:, None], chol)[:, 0]
    # Golub 1979: mean square residual over (1 - degrees of freedom / n)^2
    residual = target.square().sum() - 2 * scaled @ onto + scaled @ gram @ scaled
    freedom = len(root) - torch.cholesky_inverse(chol).trace()
    variance = residual.clamp(min=0) / len(target) / (1 - freedom / len(target)).clamp(min=0.05).square()
    return root * scaled, variance
