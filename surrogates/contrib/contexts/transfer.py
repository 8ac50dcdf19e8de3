"""Transfer of combinations: a context learns from few of its own and from those of the other contexts.

What combinations do beyond the sum of their parts is a curve, offsets and slopes. For a combination of entries
``i, j, ...`` with single effects ``s`` the effect on one readout is

    sum s + curve(sum s, (sum s)^2, sum of products, least) + sum_i (offset_i + slope_i * sum_{j != i} z_j)
          + what is known of it elsewhere,

where ``z`` are standardised single effects. This is Bayesian linear regression around the additive prediction,
with one prior variance for each of the four terms, chosen by the evidence. Readouts are regressed one by one.
"""

from dataclasses import dataclass

import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.across import Actions, ActionTable, context_number, require_several_contexts
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import sum_over_interventions
from surrogates.uncertainty.marginal_likelihood import maximise_evidence
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

FEWEST_COMBINATIONS = 8
_EVIDENCE_ROWS = 4000
_ROWS_AT_ONCE = 4096
_CURVE = 5
_TINY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True)
class PairLaw:
    """A fitted law, of any number of readouts; with nothing learnt it is additive."""

    singles: Float[Tensor, "v g"]  # effect of each entry alone
    centre: Float[Tensor, "t g"]  # of the curve's terms over the training combinations
    spread: Float[Tensor, "t g"]  # of the same
    curve: Float[Tensor, "t g"]  # weight of each of the curve's terms, the first of which is constant
    offset: Float[Tensor, "v g"]  # what each entry adds to any combination
    slope: Float[Tensor, "v g"]  # what each entry adds per standardised effect of its partners
    elsewhere: Float[Tensor, "e g"]  # weight of each quantity known from elsewhere
    variance: Float[Tensor, "g"]  # error variance of a combination, by generalised cross-validation

    def mean(self, batch: PerturbationBatch, elsewhere: Float[Tensor, "b e g"]) -> Float[Tensor, "b g"]:
        """Predict effects; single perturbations get their own."""
        terms = (_curve_terms(self.singles, batch) - self.centre) / self.spread
        beyond = torch.einsum("btg,tg->bg", terms, self.curve) + self.deviation(batch)
        beyond = beyond + torch.einsum("beg,eg->bg", elsewhere, self.elsewhere)
        combined = (batch.order > 1)[:, None]
        return sum_over_interventions(self.singles, batch) + torch.where(combined, beyond, 0.0)

    def deviation(self, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
        """Take the part of the prediction that is due to which entries are given: offsets and slopes."""
        z = in_spreads(self.singles)
        # slope_i * (sum of all z - z_i), summed over the parts i
        crossed = sum_over_interventions(self.slope, batch) * sum_over_interventions(z, batch)
        return crossed + sum_over_interventions(self.offset - self.slope * z, batch)


def additive_law(singles: Float[Tensor, "v g"], *, elsewhere: int) -> PairLaw:
    """Build the law that adds single effects up."""
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
    """Learn the law from some combinations."""
    law = additive_law(singles, elsewhere=elsewhere.shape[1])
    if len(batch) < FEWEST_COMBINATIONS:
        return law
    terms = _curve_terms(singles, batch)
    centre, spread = terms.mean(0), terms.std(0)
    # A term that does not vary is left alone; the first is constant and must stay the constant that it is.
    constant = spread <= 1e-9 * terms.abs().amax(0).clamp(min=_TINY)
    centre, spread = torch.where(constant, 0.0, centre), torch.where(constant, 1.0, spread)
    combined = torch.unique(batch.genes[batch.present])
    designs = _Designs(batch, (terms - centre) / spread, in_spreads(singles), combined, elsewhere)
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


def in_spreads(singles: Float[Tensor, "v g"]) -> Float[Tensor, "v g"]:
    """Bring the single effects of each readout to mean zero and mean square one."""
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
        design = scipy.sparse.csr_array((designs.of(rows, readout) * root).numpy())
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


_FROM_ELSEWHERE = 2  # the deviation and the residual


@dataclass(frozen=True)
class Elsewhere:
    """What the other contexts say of a combination."""

    laws: tuple[PairLaw, ...]  # that of each other context with combinations, learnt from it alone
    actions: Actions  # the combinations measured in any of them
    residuals: Float[Tensor, "a g"]  # mean over those that measured it of measured minus lawful effect

    def of(self, batch: PerturbationBatch) -> Float[Tensor, "b e g"]:
        """Look combinations up."""
        number = self.actions.find(batch)
        blank = self.residuals.new_zeros(len(batch), self.residuals.shape[1])
        if not self.laws:
            return torch.stack([blank, blank], dim=1)
        residual = torch.where((number >= 0)[:, None], self.residuals[number], blank)
        deviation = torch.stack([law.deviation(batch) for law in self.laws]).mean(0)
        return torch.stack([deviation, residual], dim=1)


@dataclass(frozen=True)
class TransferInContext:
    """The transfer model in one context."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry was measured alone, in any context
    law: PairLaw  # what combinations do here
    elsewhere: Elsewhere  # what the other contexts say of them

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        return isotropic(self.law.mean(batch, self.elsewhere.of(batch)), self.law.variance)


@dataclass(frozen=True)
class FittedTransfer:
    """The transfer model after it has seen a screen."""

    contexts: tuple[str, ...]  # the contexts of the training data
    views: tuple[TransferInContext, ...]  # the model in each of them

    def in_context(self, context: str) -> TransferInContext:
        """View the model in one context."""
        return self.views[context_number(context, self.contexts)]


@dataclass(frozen=True)
class Transfer:
    """Predicts combinations of a context from its single effects, few combinations, and those of other contexts.

    Each context first gets a law of its own, see :class:`PairLaw`: the sum of the single effects
    there, a curve, and an offset and a slope for each entry. Then the law is learnt again beside what the other
    contexts say: their offsets and slopes, and by how much each combination measured there departed from them.
    How much weight these get is learnt from the context's own combinations, so a context without 8 of its own is
    additive. Single effects not measured in a context are the mean of those in the others, or else the mean
    single effect. One regression per readout: meant for few readouts and up to 100,000s of pairs.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedTransfer:  # noqa: ARG002 - nothing is random
        """Learn the law of each context."""
        require_several_contexts(screen, what="learn from another")
        table = ActionTable.of(screen)
        singles = _singles_of_contexts(table)
        combined = table.batch.order > 1
        rows = [torch.nonzero(measured & combined).flatten() for measured in table.measured]
        nothing = Elsewhere(
            (), Actions(table.actions.genes[:0]), screen.effects.new_zeros(0, len(screen.readouts))
        )
        own = tuple(_law(table, number, rows[number], singles[number], nothing) for number in range(len(rows)))
        views = []
        for number, here in enumerate(rows):
            elsewhere = _elsewhere(table, own, rows, but=number)
            law = _law(table, number, here, singles[number], elsewhere)
            views.append(TransferInContext(screen.vocabulary, screen.readouts, table.alone >= 0, law, elsewhere))
        return FittedTransfer(table.contexts, tuple(views))


def _law(
    table: ActionTable, context: int, rows: Int[Tensor, "n"], singles: Float[Tensor, "v g"], elsewhere: Elsewhere
) -> PairLaw:
    batch = table.batch.rows(rows)
    return fit_pair_law(batch, table.effects[context, rows], singles, elsewhere.of(batch))


def _elsewhere(
    table: ActionTable, laws: tuple[PairLaw, ...], rows: list[Int[Tensor, "_"]], *, but: int
) -> Elsewhere:
    """Collect the residuals of all contexts but one."""
    others = [number for number in range(len(laws)) if number != but and len(rows[number])]
    total = torch.zeros_like(table.effects[0])
    for number in others:
        batch = table.batch.rows(rows[number])
        blank = total.new_zeros(len(batch), _FROM_ELSEWHERE, total.shape[1])
        total[rows[number]] += table.effects[number, rows[number]] - laws[number].mean(batch, blank)
    count = table.measured[others].sum(0)
    kept = torch.nonzero((count > 0) & (table.batch.order > 1)).flatten()
    residuals = total[kept] / count[kept, None]
    return Elsewhere(tuple(laws[each] for each in others), Actions(table.actions.genes[kept]), residuals)


def _singles_of_contexts(table: ActionTable) -> Float[Tensor, "c v g"]:
    """Single effects of each context, filled up from the other contexts, then with the mean single effect."""
    alone = table.alone
    if not bool((alone >= 0).any()):
        raise DataError(
            f"none of the {len(alone)} interventions was measured alone in any context; add single perturbations,"
            " or take a model that needs none, such as two_way"
        )
    measured = (table.measured[:, alone] & (alone >= 0))[:, :, None]
    values = torch.where(measured, table.effects[:, alone], 0.0)
    across = values.sum(0) / measured.sum(0).clamp(min=1)
    filled = torch.where(measured, values, across)
    known = (alone >= 0)[:, None]
    return torch.where(known, filled, (filled * known).sum(1, keepdim=True) / known.sum())
