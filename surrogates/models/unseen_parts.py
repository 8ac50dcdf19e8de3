"""Predictions and error laws of perturbations with parts that were never measured alone."""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.splits import splits_over_targets
from surrogates.models.base import Surrogate
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.cross_fitting import HeldOutErrors, SplitFit, fit_splits, pooled_errors
from surrogates.models.held_out import HeldOutFit
from surrogates.models.singles import single_effects
from surrogates.models.stacked import FEWEST_HELD_OUT, ClassWeights, FittedStacked, weigh
from surrogates.uncertainty.covariance import FactorCovariance
from surrogates.uncertainty.residuals import ErrorLaw, LawChoice, StandardResiduals

FOLDS = 5


def with_unseen(
    fitted: FittedCalibrated, surrogates: tuple[Surrogate, ...], screen: Screen, *, seed: int
) -> FittedCalibrated:
    """Add predictions and error laws of perturbations with unseen parts; all others stay as they are.

    The laws have the form that was chosen for doubles of seen parts. Cross-fits learn from what the other splits
    held out, and from nothing of a combination that they hold out themselves.

    Args:
        fitted: A fitted surrogate with its laws.
        surrogates: What predicts unseen parts; weighed for each novelty class on held-out targets.
        screen: What the surrogate was fitted to.
        seed: Fixes folds and fits.

    Returns:
        The same surrogate if nothing can be held out: with fewer than 8 conditions in every class.
    """
    splits = splits_over_targets(screen, folds=FOLDS, seed=seed)
    fits = fit_splits(surrogates, screen, splits, seed=seed)
    held_out = [
        each
        for each in pooled_errors(fits)
        if each.support >= FEWEST_HELD_OUT and each.code not in {SEEN_SINGLE, SEEN_DOUBLE}
    ]
    if not held_out:
        return fitted
    known = fitted.law(SEEN_DOUBLE)
    choice = fitted.selection.choice if fitted.selection else LawChoice()
    shape = replace(choice, coefficient_variance=0.0, tails=math.inf)
    classes, laws = [], dict(fitted.laws)
    for each in held_out:
        weights, laws[each.code] = _learnt(each, shape, known.temperature)
        classes.append(replace(weights, weights=torch.nn.functional.pad(weights.weights, (1, 0))))
    members = (fitted.base, *(each.fit(screen, seed=seed) for each in surrogates))
    whole = torch.eye(len(members), dtype=torch.float64)[0]
    base = FittedStacked(
        members=members,
        alone=ClassWeights(SEEN_SINGLE, whole, fitted.law(SEEN_SINGLE).covariance.variance, 0),
        combined=ClassWeights(SEEN_DOUBLE, whole, known.covariance.variance, known.support),
        unseen=tuple(classes),
    )
    codes = {each.code for each in held_out}
    cross = []
    for fit in fits:
        others = pooled_errors([other.without(fit.batch) for other in fits if other is not fit])
        learnt = {
            errors.code: _learnt(errors, shape, known.temperature) for errors in others if errors.code in codes
        }
        cross.append(_held_out_fit(fit, learnt, fitted, screen))
    return replace(
        fitted, base=base, laws=laws, cross=fitted.cross + tuple(each for each in cross if each is not None)
    )


def _learnt(errors: HeldOutErrors, shape: LawChoice, temperature: float) -> tuple[ClassWeights, ErrorLaw]:
    """Learn weights and error law of a class with unseen parts."""
    weights = weigh(errors)
    residuals = StandardResiduals.of(
        torch.tensordot(weights.weights, errors.errors, 1), weights.weights @ errors.scales
    )
    law = residuals.law(shape, temperature=temperature, origin=novelty_name(errors.code))
    return weights, _without_offset(law)


def _held_out_fit(
    fit: SplitFit,
    learnt: Mapping[int, tuple[ClassWeights, ErrorLaw]],
    fitted: FittedCalibrated,
    screen: Screen,
) -> HeldOutFit | None:
    """Predict what a split held out with weights and laws that were learnt from the other splits."""
    rows = torch.nonzero(torch.isin(fit.codes, torch.tensor(sorted(learnt), dtype=torch.int64))).flatten()
    if not len(rows):
        return None
    first = torch.eye(len(fit.fits), dtype=torch.float64)[0]
    variance = fitted.law(SEEN_DOUBLE).covariance.variance
    base = FittedStacked(
        members=fit.fits,
        alone=ClassWeights(SEEN_SINGLE, first, variance, 0),
        combined=ClassWeights(SEEN_DOUBLE, first, variance, 0),
        unseen=tuple(weights for weights, _ in learnt.values()),
    )
    laws = {SEEN_DOUBLE: fitted.law(SEEN_DOUBLE)} | {code: law for code, (_, law) in learnt.items()}
    singles, _ = single_effects(screen.rows(fit.training))
    view = FittedCalibrated(base, laws, singles, None, fitted.held_out, fitted.name)
    return HeldOutFit(view, fit.batch.rows(rows), fit.effects[rows])


def _without_offset(law: ErrorLaw) -> ErrorLaw:
    """Count the mean residual as variance.

    Held-out conditions that share a target miss in the same direction: their mean is that of a few targets, and
    says nothing of another one.
    """
    covariance = FactorCovariance(law.covariance.diagonal + law.offset.square(), law.covariance.loadings)
    return replace(law, offset=torch.zeros_like(law.offset), covariance=covariance)
