"""The surrogate that the data choose: the default."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.base import Surrogate
from surrogates.models.baselines import MatchingMean, NoChange
from surrogates.models.calibrated import Calibrated, Expert, FittedCalibrated
from surrogates.models.denoised import Denoised
from surrogates.models.held_out import HeldOutFit, HeldOutPredictions
from surrogates.models.interaction import Interaction
from surrogates.models.kernel import KernelRidge
from surrogates.models.public_law import BorrowedSum
from surrogates.models.unseen_parts import with_unseen
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.opinion_pool import pool_weights, pooled
from surrogates.uncertainty.selection import Promise

_INDIFFERENT = 0.02  # nats: a difference of two per cent in a probability decides nothing


@dataclass(frozen=True)
class Automatic:
    """Chooses the surrogate that predicts held-out doubles best, lets all name, and stacks others where it ends.

    Perturbations of entries measured alone are predicted by one of ``bases``, chosen by its squared error on
    held-out doubles; what made a target is named by all of them together, see :func:`best_identifying`. Those with
    unseen parts are predicted by the convex combination of ``unseen`` and all ``bases`` that fits held-out targets
    of the same novelty class best, and get an error law of their own. Where no doubles can be held out and there
    are several bases, sums shrunk as in public screens stand in for them.

    Attributes:
        bases: Surrogates of combinations, the simplest first.
        unseen: Further surrogates of perturbations with unseen parts, the simplest first.
    """

    bases: tuple[Surrogate, ...] = (
        Additive(),
        Denoised(ScaledAdditive()),
        Denoised(Interaction()),
    )
    unseen: tuple[Surrogate, ...] = (NoChange(), ScaledAdditive(), MatchingMean(), KernelRidge())

    def fit(self, screen: Screen, *, seed: int) -> FittedCalibrated:
        """Cross-fit every surrogate on the same folds, keep the best, and add what predicts unseen parts.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds and candidates.

        Returns:
            The fitted surrogate with its laws.

        Raises:
            DataError: If a surrogate refuses the screen.
        """
        fits = list(calibrated(self.bases, screen, seed=seed))
        best = best_identifying(fits)
        if best.promise is None and len(self.bases) > 1:
            # Nothing tells which of them is best, nor how sums shrink.
            best = Calibrated(BorrowedSum()).fit(screen, seed=seed)
        if bool((screen.single_rows >= 0).all()):
            return best  # no perturbation of this vocabulary has an unseen part
        whole = [each.base for each in fits]
        return with_unseen(best, (*self.unseen, *self.bases), screen, seed=seed, at_hand=whole)


def calibrated(bases: Iterable[Surrogate], screen: Screen, *, seed: int) -> Iterator[FittedCalibrated]:
    """Fit surrogates with their laws, one after the other.

    Those that are fitted to denoised effects, of the same strengths to choose from, share them: to choose is much
    of what their fits cost.

    Args:
        bases: The surrogates.
        screen: Measured effects in one context.
        seed: Fixes folds and candidates.

    Yields:
        What ``Calibrated(base).fit(screen, seed=seed)`` returns for each.
    """
    prepared: dict[tuple[tuple[int, ...], tuple[float, ...]], list[Screen]] = {}
    for base in bases:
        whole = Calibrated(base)
        if not isinstance(base, Denoised):
            yield whole.fit(screen, seed=seed)
            continue
        strengths = (base.components, base.noise)
        if strengths not in prepared:
            learnt_from = whole.learnt_from(screen, seed=seed)
            prepared[strengths] = [base.prepared(each, seed=seed) for each in learnt_from]
        fits = [base.base.fit(each, seed=seed) for each in prepared[strengths]]
        yield whole.learn(screen, fits, seed=seed)


def best_identifying(fits: Iterable[FittedCalibrated]) -> FittedCalibrated:
    """Choose the fit that predicts, and weigh all fits as experts that name what made a target.

    Going from the simplest to the last, the next takes the place of the one before if its squared error on
    held-out doubles is clearly smaller: by more than one standard error of the paired difference, which knows that
    doubles share genes.

    A model that predicts better may name worse, and the other way round, as its errors may look like the effects
    of other candidates. So targets are named by all fits together, each weighed by the probabilities that it gave
    to held-out truths (:mod:`surrogates.uncertainty.opinion_pool`); if that is not clearly better than the
    simplest fit by itself, in log probability and by at least 0.02 nats, the simplest names alone.

    All this is chosen once for the whole, and once for each cross-fit on the other folds only: so that what a
    cross-fit is calibrated by, and what is promised, has not seen the fold either.

    Args:
        fits: Fits to the same screen with the same seed, the simplest first.

    Returns:
        One of them, with experts, and with cross-fits and a promise of choices made without each fold. Without
        held-out doubles it is the simplest.

    Raises:
        DataError: If there are none.
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
        views = [_view(fit.cross[fold]) for fit in every]
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
    """Choose what predicts, and weigh what names, by some of the held-out doubles; the pool's scores of all."""
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


def _view(held_out: HeldOutFit) -> FittedCalibrated:
    if not isinstance(held_out.fitted, FittedCalibrated):
        raise TypeError(f"{type(held_out.fitted).__name__} has no error law, so that it identifies nothing")
    return held_out.fitted


def _promised(fit: FittedCalibrated) -> Promise:
    if fit.promise is None:
        raise DataError(
            f"{fit.name} was fitted to a screen of which nothing could be held out, and another was not"
        )
    return fit.promise
