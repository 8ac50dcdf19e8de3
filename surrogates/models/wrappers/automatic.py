"""The default surrogate: the data choose among several, and mix them for perturbations with unseen parts.

The latter are predicted by a convex combination of surrogates, with weights for each novelty class that were
learnt on held-out targets (:mod:`surrogates.models.wrappers.ensemble`). Their error model comes from the residuals
of each fold under weights that the other folds chose.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, novelty_name, splits_over_targets
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.base import Fitted, Surrogate, single_effects, surrogate_name
from surrogates.models.baselines import Additive, MatchingMean, NoChange, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.kernel import KernelRidge
from surrogates.models.wrappers.calibrated import Calibrated, Expert, FittedCalibrated, fit_calibrated, judge_of
from surrogates.models.wrappers.cross_fitting import (
    HeldOutFit,
    HeldOutPredictions,
    SplitFit,
    fit_splits,
    shares_of_targets,
)
from surrogates.models.wrappers.denoised import Denoised, fit_together
from surrogates.models.wrappers.public_law import BorrowedSum
from surrogates.models.wrappers.stacked import FEWEST_HELD_OUT, ClassWeights, FittedStacked, convex_weights_of
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance, LawChoice
from surrogates.uncertainty.posterior import pool_weights, pooled
from surrogates.uncertainty.selection import Promise

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
    """Add predictions and error models of perturbations with unseen parts; all others stay as they are.

    Weights and error models are learnt on held-out targets, of which each counts the same: five folds of them, ten
    where they are fewer than 50. Those of a cross-fit are learnt from what the other splits held out, and from
    nothing that contains a target which it holds out itself. The fits behind those errors did see its targets;
    that intervals hold all the same is measured by ``python -m benchmarks unseen_parts``.
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
    """What one split held out of a novelty class."""

    batch: PerturbationBatch  # the perturbations
    effects: Float[Tensor, "b g"]  # what was measured of each
    hidden: tuple[frozenset[str], ...]  # unseen targets of each
    errors: Float[Tensor, "m b g"]  # measured minus predicted effects of each surrogate
    scales: Float[Tensor, "m b"]  # posterior scale of each prediction
    # Inner products of the surrogates' errors: weights of any selection of rows are cheap.
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
    """What was learnt of a novelty class from some parts."""

    weights: ClassWeights  # of the surrogates
    law: ErrorLaw  # of the errors that they leave
    # The held-out predictions behind the error model: those of each part under weights of the others.
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
        law = evidence.standardised(most=form.rank).law(form, temperature=temperature, origin=novelty_name(code))
        law = _without_offset(law)
        return cls(ClassWeights(code, weights, law.covariance.variance, law.support), law, evidence)


def _form(predicted: Sequence[HeldOutPredictions], hidden: Sequence[Sequence[frozenset[str]]]) -> LawChoice:
    """Choose between independent readouts and a few factors by densities under the others' error model."""
    plain = LawChoice(rank=0, shrinkage=_SHRINKAGE)
    shares = shares_of_targets([each for part in hidden for each in part])
    rank = round(float(shares.sum())) // _TARGETS_PER_FACTOR
    if rank == 0 or len(predicted) < 2:
        return plain
    factors = replace(plain, rank=rank)
    gains = []
    for part in predicted:
        known = HeldOutPredictions.pooled([other for other in predicted if other is not part])
        standard = known.standardised(most=rank)
        rows = part.residuals / part.scale.sqrt()[:, None]
        gains.append(_log_density(standard.law(factors), rows) - _log_density(standard.law(plain), rows))
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
    """Predict what a split held out with weights and error models that were learnt from the other splits."""
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


_INDIFFERENT = 0.02  # nats: a difference of two per cent in a probability decides nothing


@dataclass(frozen=True)
class Automatic:
    """Chooses the surrogate that predicts held-out doubles best, lets all name, and stacks others where it ends.

    Perturbations of entries measured alone are predicted by one of ``bases``, chosen by its squared error on
    held-out doubles; what made a target is named by all of them together, see :func:`best_with_experts`. Those
    with unseen parts are predicted by the convex combination of ``unseen`` and all ``bases`` that fits held-out
    targets of the same novelty class best, and get an error model of their own. Where no doubles can be held out
    and there are several bases, sums shrunk as in public screens stand in for them.

    Attributes:
        bases: Surrogates of combinations, the simplest first.
        unseen: Further surrogates of perturbations with unseen parts, the simplest first; ``None`` where none will
            be asked for. To learn them takes several times as long as all the rest.
    """

    bases: tuple[Surrogate, ...] = (
        Additive(),
        Denoised(ScaledAdditive()),
        Denoised(Interaction()),
    )
    unseen: tuple[Surrogate, ...] | None = (NoChange(), ScaledAdditive(), MatchingMean(), KernelRidge())

    def fit(
        self, screen: Screen, *, seed: int, known: Mapping[Surrogate, FittedCalibrated] = MappingProxyType({})
    ) -> FittedCalibrated:
        """Cross-fit every surrogate on the same folds, keep the best, and add what predicts unseen parts.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds and fits.
            known: Configurations that were fitted to the same screen and seed: they are not fitted again.

        Returns:
            The fitted surrogate with its error models.
        """
        # No perturbation of a vocabulary that was all measured alone has an unseen part.
        unseen = None if bool((screen.single_rows >= 0).all()) else self.unseen
        borrowed = len(self.bases) > 1 and not Calibrated(self.bases[0]).holds_out(screen, seed=seed)
        fits: list[FittedCalibrated] = []
        if not borrowed or unseen is not None:
            found = [
                next((fit for of, fit in known.items() if of == Calibrated(each)), None) for each in self.bases
            ]
            missing = [each for each, fit in zip(self.bases, found, strict=True) if fit is None]
            made = calibrated(missing, screen, seed=seed)
            fits = [next(made) if fit is None else fit for fit in found]
        # Where nothing is held out, nothing says which of them is best, nor how sums shrink.
        best = Calibrated(BorrowedSum()).fit(screen, seed=seed) if borrowed else best_with_experts(fits)
        if unseen is None:
            return best
        return with_unseen(best, (*unseen, *self.bases), screen, seed=seed, at_hand=[each.base for each in fits])


def calibrated(bases: Iterable[Surrogate], screen: Screen, *, seed: int) -> Iterator[FittedCalibrated]:
    """Fit surrogates with their error models; see :func:`fit_calibrated`."""
    every = [Calibrated(base) for base in bases]
    return fit_calibrated(every, screen, seed=seed) if every else iter(())


def best_with_experts(fits: Iterable[FittedCalibrated]) -> FittedCalibrated:
    """Choose the fit that predicts, and weigh all fits as experts that name what made a target.

    Going from the simplest to the last, the next takes the place of the one before if its squared error on
    held-out doubles is clearly smaller: by more than one standard error of the paired difference, which knows that
    doubles share genes.

    A model that predicts better may name worse, and the other way round, as its errors may look like the effects
    of other candidates. So targets are named by all fits together, each weighed by the probabilities that it gave
    to held-out truths (:mod:`surrogates.uncertainty.posterior`); if that is not clearly better than the
    simplest fit by itself, in log probability and by at least 0.02 nats, the simplest names alone.

    All this is chosen once for the whole, and once for each cross-fit on the other folds only: so that what a
    cross-fit is calibrated by, and what is promised, has not seen the fold either.
    """
    every = list(fits)
    if not every:
        raise DataError("there is no surrogate to choose from; name one or more")
    if every[0].promise is None:
        return every[0]
    promises = [_promised(fit) for fit in every]
    parts, folds = promises[0].parts, promises[0].fold
    scores = torch.stack([each.chosen for each in promises])
    chosen, rows = _appointed(every, scores, parts, folds >= 0)
    cross, without = [], []
    for fold, held_out in enumerate(chosen.cross):
        views = [judge_of(fit.cross[fold]) for fit in every]
        scores = torch.stack([each.without[fold] for each in promises])
        view, pool = _appointed(views, scores, parts, folds != fold)
        cross.append(replace(held_out, fitted=view))
        without.append(pool)
    return replace(chosen, cross=tuple(cross), promise=Promise(parts, folds, rows, torch.stack(without)))


def _appointed(
    fits: Sequence[FittedCalibrated],
    scores: Float[Tensor, "m p"],
    parts: Int[Tensor, "p 2"],
    used: Bool[Tensor, "p"],
) -> tuple[FittedCalibrated, Float[Tensor, "p"]]:
    """Choose what predicts, and weigh what names, by some held-out doubles; score the mixture on all."""
    best = 0
    for number in range(1, len(fits)):
        if _predicts_clearly_better(fits[number].evidence[SEEN_DOUBLE], fits[best].evidence[SEEN_DOUBLE]):
            best = number
    weights = pool_weights(scores[:, used])
    gain = (pooled(scores, weights) - scores[0])[used]
    if not float(gain.mean()) > max(_INDIFFERENT, _finite(dyadic_standard_error(gain, parts[used]))):
        weights = torch.eye(len(fits), dtype=torch.float64)[0]
    experts = tuple(
        Expert(weight, replace(fit, cross=(), evidence={}, promise=None))
        for weight, fit in zip(weights.tolist(), fits, strict=True)
        if weight > 0
    )
    alone = len(experts) == 1 and float(weights[best]) > 0
    return replace(fits[best], experts=() if alone else experts), pooled(scores, weights)


def _predicts_clearly_better(one: HeldOutPredictions, other: HeldOutPredictions) -> bool:
    lower = (other.residuals.square() - one.residuals.square()).sum(1)
    return float(lower.mean()) > _finite(dyadic_standard_error(lower, one.batch.genes))


def _finite(error: float) -> float:
    """With one or two doubles nothing is clear."""
    return math.inf if math.isnan(error) else error


def _promised(fit: FittedCalibrated) -> Promise:
    if fit.promise is None:
        raise DataError(
            f"{fit.name} was fitted to a screen of which nothing could be held out, and another was not"
        )
    return fit.promise
