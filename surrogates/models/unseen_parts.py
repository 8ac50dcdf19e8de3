"""Predictions and error laws of perturbations with parts that were never measured alone.

Such a perturbation is predicted by a convex combination of surrogates, with weights for each novelty class that
were learnt on held-out targets (see :mod:`surrogates.models.stacked`). So is its error law, from the residuals of
each fold under weights that the other folds chose.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.splits import splits_over_targets
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.base import Fitted, Surrogate, surrogate_name
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.cross_fitting import SplitFit, fit_splits, shares_of_targets
from surrogates.models.denoised import fit_together
from surrogates.models.held_out import HeldOutFit, HeldOutPredictions
from surrogates.models.singles import single_effects
from surrogates.models.stacked import FEWEST_HELD_OUT, ClassWeights, FittedStacked, convex_weights_of
from surrogates.uncertainty.covariance import FactorCovariance
from surrogates.uncertainty.residuals import ErrorLaw, LawChoice

# Fits without a fifth of few targets are much worse than the fit that they judge members for.
FOLDS, FOLDS_OF_FEW, FEW_TARGETS = 5, 10, 50
# Conditions of one target err alike, so factors are counted in targets; and few targets say little of variances.
_TARGETS_PER_FACTOR = 4
_SHRINKAGE = 0.5


def with_unseen(
    fitted: FittedCalibrated,
    surrogates: Sequence[Surrogate],
    screen: Screen,
    *,
    seed: int,
    at_hand: Sequence[Fitted] = (),
) -> FittedCalibrated:
    """Add predictions and error laws of perturbations with unseen parts; all others stay as they are.

    Weights and laws are learnt on held-out targets, of which each counts the same: five folds of them, ten where
    they are fewer than 50. Those of a cross-fit are learnt from what the other splits held out, and from nothing
    that contains a target which it holds out itself. The fits behind those errors did see its targets; that
    intervals hold all the same is measured by ``benchmarks/unseen_parts.py``.

    Args:
        fitted: A fitted surrogate with its laws.
        surrogates: What predicts unseen parts; weighed for each novelty class on held-out targets.
        screen: What the surrogate was fitted to.
        seed: Fixes folds and fits.
        at_hand: Fits of the last of the surrogates to the whole screen, which are not fitted again.

    Returns:
        The same surrogate if nothing can be held out: with fewer than 8 conditions in every class.
    """
    folds = FOLDS_OF_FEW if _targets_alone(screen) < FEW_TARGETS else FOLDS
    splits = fit_splits(surrogates, screen, splits_over_targets(screen, folds=folds, seed=seed), seed=seed)
    classes = _classes(splits)
    if not classes:
        return fitted
    known = fitted.law(SEEN_DOUBLE)
    learnt = {code: _Learnt.of(code, parts, known.temperature) for code, parts in classes.items()}
    missing = surrogates[: len(surrogates) - len(at_hand)]
    fits = (*fit_together(missing, screen, seed=seed), *at_hand)
    members = (fitted.base, *(each for each in fits if each is not fitted.base))
    places = torch.tensor([next(n for n, member in enumerate(members) if member is each) for each in fits])
    whole = torch.eye(len(members), dtype=torch.float64)[0]
    base = FittedStacked(
        members=members,
        alone=ClassWeights(SEEN_SINGLE, whole, fitted.law(SEEN_SINGLE).covariance.variance, 0),
        combined=ClassWeights(SEEN_DOUBLE, whole, known.covariance.variance, known.support),
        unseen=tuple(
            replace(each.weights, weights=torch.zeros_like(whole).index_add(0, places, each.weights.weights))
            for each in learnt.values()
        ),
    )
    chosen = next((n for n, each in enumerate(surrogates) if surrogate_name(each) == fitted.name), 0)
    cross = [
        _cross_fit(split, number, classes, chosen=chosen, fitted=fitted, screen=screen)
        for number, split in enumerate(splits)
    ]
    return replace(
        fitted,
        base=base,
        laws={**fitted.laws, **{code: each.law for code, each in learnt.items()}},
        evidence={**fitted.evidence, **{code: each.evidence for code, each in learnt.items()}},
        cross=fitted.cross + tuple(each for each in cross if each is not None),
    )


@dataclass(frozen=True)
class _Part:
    """What one split held out of a novelty class.

    Attributes:
        batch: The perturbations.
        effects: What was measured of each.
        hidden: Unseen targets of each.
        errors: Measured minus predicted effects of each surrogate.
        scales: Posterior scale of each prediction.
        products: Inner products of the surrogates' errors: weights of any selection of rows are cheap.
    """

    batch: PerturbationBatch
    effects: Float[Tensor, "b g"]
    hidden: tuple[frozenset[str], ...]
    errors: Float[Tensor, "m b g"]
    scales: Float[Tensor, "m b"]
    products: Float[Tensor, "b m m"]

    @classmethod
    def of(cls, split: SplitFit, code: int) -> "_Part":
        rows = torch.nonzero(split.codes == code).flatten()
        errors = split.errors[:, rows]
        return cls(
            batch=split.batch.rows(rows),
            effects=split.effects[rows],
            hidden=tuple(split.hidden[row] for row in rows.tolist()),
            errors=errors,
            scales=split.scales[:, rows],
            products=torch.einsum("mbg,nbg->bmn", errors, errors),
        )

    def without(self, batch: PerturbationBatch) -> "_Part":
        """Leave out perturbations: a double whose two parts are unseen in turn is held out twice."""
        left_out = {frozenset(ids) for ids in batch.genes.tolist()}
        rows = [row for row, ids in enumerate(self.batch.genes.tolist()) if frozenset(ids) not in left_out]
        if len(rows) == len(self.hidden):
            return self
        kept = torch.tensor(rows, dtype=torch.int64)
        return _Part(
            batch=self.batch.rows(kept),
            effects=self.effects[kept],
            hidden=tuple(self.hidden[row] for row in rows),
            errors=self.errors[:, kept],
            scales=self.scales[:, kept],
            products=self.products[kept],
        )


def _targets_alone(screen: Screen) -> int:
    """Count targets that were measured alone, at any dose."""
    alone = (screen.single_rows >= 0).tolist()
    return len({target for target, measured in zip(screen.vocabulary.targets, alone, strict=True) if measured})


def _classes(splits: Sequence[SplitFit]) -> dict[int, list[_Part]]:
    """List what each split held out of every class of which enough was; where nothing, its part is empty."""
    codes = torch.cat([split.codes for split in splits]) if splits else torch.empty(0, dtype=torch.int64)
    found, counts = codes.unique(return_counts=True)
    return {
        code: [_Part.of(split, code) for split in splits]
        for code, count in zip(found.tolist(), counts.tolist(), strict=True)
        if count >= FEWEST_HELD_OUT and code not in {SEEN_SINGLE, SEEN_DOUBLE}
    }


def _weights(parts: Sequence[_Part]) -> Float[Tensor, "m"]:
    """Choose the convex combination with the smallest squared error, every target counting the same."""
    shares = shares_of_targets([each for part in parts for each in part.hidden])
    return convex_weights_of(torch.tensordot(shares, torch.cat([part.products for part in parts]), 1))


@dataclass(frozen=True)
class _Learnt:
    """What was learnt of a novelty class from some parts.

    Attributes:
        weights: Of the surrogates.
        law: Of the errors that they leave.
        evidence: The held-out predictions behind the law: those of each part under weights of the others.
    """

    weights: ClassWeights
    law: ErrorLaw
    evidence: HeldOutPredictions

    @classmethod
    def of(cls, code: int, parts: Sequence[_Part], temperature: float) -> "_Learnt":
        parts = [part for part in parts if part.hidden]
        weights = _weights(parts)
        predicted = []
        for part in parts:
            others = [other.without(part.batch) for other in parts if other is not part]
            own = _weights(others) if any(other.hidden for other in others) else weights
            mean = part.effects - torch.tensordot(own, part.errors, 1)
            predicted.append(HeldOutPredictions(part.batch, part.effects, mean, own @ part.scales))
        evidence = HeldOutPredictions.pooled(predicted)
        form = _form(predicted, [part.hidden for part in parts])
        law = evidence.standardised.law(form, temperature=temperature, origin=novelty_name(code))
        law = _without_offset(law)
        return cls(ClassWeights(code, weights, law.covariance.variance, law.support), law, evidence)


def _form(predicted: Sequence[HeldOutPredictions], hidden: Sequence[Sequence[frozenset[str]]]) -> LawChoice:
    """Choose between independent readouts and a few factors by the density of each part under the others' law."""
    plain = LawChoice(rank=0, shrinkage=_SHRINKAGE)
    shares = shares_of_targets([each for part in hidden for each in part])
    rank = round(float(shares.sum())) // _TARGETS_PER_FACTOR
    if rank == 0 or len(predicted) < 2:
        return plain
    factors = replace(plain, rank=rank)
    gains = []
    for part in predicted:
        known = HeldOutPredictions.pooled([other for other in predicted if other is not part]).standardised
        rows = part.residuals / part.scale.sqrt()[:, None]
        gains.append(_log_density(known.law(factors), rows) - _log_density(known.law(plain), rows))
    return factors if float(shares @ torch.cat(gains)) > 0 else plain


def _log_density(law: ErrorLaw, rows: Float[Tensor, "n g"]) -> Float[Tensor, "n"]:
    covariance = _without_offset(law).covariance
    return -(covariance.whiten(rows).square().sum(1) + covariance.log_determinant) / 2


def _cross_fit(
    split: SplitFit,
    number: int,
    classes: Mapping[int, Sequence[_Part]],
    *,
    chosen: int,
    fitted: FittedCalibrated,
    screen: Screen,
) -> HeldOutFit | None:
    """Predict what a split held out with weights and laws that were learnt from the other splits."""
    known = fitted.law(SEEN_DOUBLE)
    learnt = {}
    for code, parts in classes.items():
        others = [part.without(split.batch) for n, part in enumerate(parts) if n != number]
        if any(part.hidden for part in others):
            learnt[code] = _Learnt.of(code, others, known.temperature)
    rows = torch.nonzero(torch.isin(split.codes, torch.tensor(sorted(learnt), dtype=torch.int64))).flatten()
    if not len(rows):
        return None
    seen = torch.eye(len(split.fits), dtype=torch.float64)[chosen]
    base = FittedStacked(
        members=split.fits,
        alone=ClassWeights(SEEN_SINGLE, seen, known.covariance.variance, 0),
        combined=ClassWeights(SEEN_DOUBLE, seen, known.covariance.variance, 0),
        unseen=tuple(each.weights for each in learnt.values()),
    )
    laws = {SEEN_DOUBLE: known, **{code: each.law for code, each in learnt.items()}}
    singles, _ = single_effects(screen.rows(split.training))
    view = FittedCalibrated(
        base=base,
        laws=laws,
        singles=singles,
        selection=None,
        held_out=fitted.held_out,
        name=fitted.name,
        evidence={code: each.evidence for code, each in learnt.items()},
    )
    return HeldOutFit(view, split.batch.rows(rows), split.effects[rows])


def _without_offset(law: ErrorLaw) -> ErrorLaw:
    """Count the mean residual as variance.

    Held-out conditions that share a target miss in the same direction: their mean is that of a few targets, and
    says nothing of another one.
    """
    covariance = FactorCovariance(law.covariance.diagonal + law.offset.square(), law.covariance.loadings)
    return replace(law, offset=torch.zeros_like(law.offset), covariance=covariance)
