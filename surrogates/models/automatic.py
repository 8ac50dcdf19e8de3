"""The surrogate that the data choose: the default."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.base import Surrogate
from surrogates.models.baselines import MatchingMean, NoChange
from surrogates.models.calibrated import Calibrated, FittedCalibrated
from surrogates.models.denoised import Denoised
from surrogates.models.interaction import Interaction
from surrogates.models.kernel import KernelRidge
from surrogates.models.stacked import Stacked
from surrogates.models.unseen_parts import with_unseen
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.selection import Promise

_INDIFFERENT = 0.02  # nats: a difference of two per cent in a probability decides nothing


@dataclass(frozen=True)
class Automatic:
    """Chooses the surrogate that identifies held-out doubles best, and stacks others where it ends.

    Perturbations of entries measured alone are predicted by one of ``bases``, chosen by the probability that it
    gives held-out doubles. Those with unseen parts are predicted by the convex combination of ``unseen`` that fits
    held-out targets of the same novelty class best, and get an error law of their own.

    Attributes:
        bases: Surrogates of combinations, the simplest first.
        unseen: Surrogates of perturbations with unseen parts, the simplest first.
    """

    bases: tuple[Surrogate, ...] = (
        Additive(),
        Denoised(ScaledAdditive()),
        Denoised(Interaction()),
        Denoised(Stacked((ScaledAdditive(), MatchingMean(), Interaction()), unseen=False)),
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
        best = best_identifying(calibrated(self.bases, screen, seed=seed))
        return with_unseen(best, self.unseen, screen, seed=seed)


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
    """Take the simplest fit that no other clearly surpasses on held-out doubles.

    Going from the simplest to the last, the next takes the place of the one before if it names the truths clearly
    better, or predicts clearly better and names them no worse. Clearly is by more than one standard error of the
    paired difference, which knows that doubles share genes, and by more than 0.02 nats of log probability.

    The choice is made once for the whole, and once for each cross-fit on the other folds only: so that what a
    cross-fit is calibrated by, and what is promised, has not seen the fold either.

    Args:
        fits: Fits to the same screen with the same seed, the simplest first.

    Returns:
        One of them, with the cross-fits and the promise of the choices made without each fold. Without held-out
        doubles it is the simplest.

    Raises:
        DataError: If there are none.
    """
    every = list(fits)
    if not every:
        raise DataError("there is no surrogate to choose from; name one or more")
    if every[0].promise is None:
        return every[0]
    chosen = every[_choose([_Contender.whole(fit) for fit in every])]
    folds = range(len(chosen.cross))
    without = [every[_choose([_Contender.without(fit, fold) for fit in every])] for fold in folds]
    promises = [_promised(fit).without[fold] for fold, fit in zip(folds, without, strict=True)]
    return replace(
        chosen,
        cross=tuple(fit.cross[fold] for fold, fit in zip(folds, without, strict=True)),
        promise=replace(_promised(chosen), without=torch.stack(promises)),
    )


@dataclass(frozen=True)
class _Contender:
    """How well a fit names and predicts some held-out doubles.

    Attributes:
        score: Log posterior probability of each truth that was looked for.
        sought: Entries of those.
        error: Squared error of each held-out prediction, summed over readouts.
        predicted: Entries of those.
    """

    score: Float[Tensor, "p"]
    sought: Int[Tensor, "p 2"]
    error: Float[Tensor, "n"]
    predicted: Int[Tensor, "n k"]

    @classmethod
    def whole(cls, fit: FittedCalibrated) -> "_Contender":
        promise, evidence = _promised(fit), fit.evidence[SEEN_DOUBLE]
        return cls(promise.chosen, promise.parts, evidence.residuals.square().sum(1), evidence.batch.genes)

    @classmethod
    def without(cls, fit: FittedCalibrated, fold: int) -> "_Contender":
        promise, view = _promised(fit), fit.cross[fold].fitted
        kept = promise.fold != fold
        assert isinstance(view, FittedCalibrated)  # noqa: S101 - cross-fits of doubles are views of the same kind
        evidence = view.evidence[SEEN_DOUBLE]
        return cls(
            promise.without[fold][kept],
            promise.parts[kept],
            evidence.residuals.square().sum(1),
            evidence.batch.genes,
        )

    def surpasses(self, other: "_Contender") -> bool:
        named, lower = self.score - other.score, other.error - self.error
        margin = max(_INDIFFERENT, _finite(dyadic_standard_error(named, self.sought)))
        clearly = float(lower.mean()) > _finite(dyadic_standard_error(lower, self.predicted))
        gain = float(named.mean())
        return gain > margin or (clearly and gain > -margin)


def _choose(contenders: Sequence[_Contender]) -> int:
    best = 0
    for number in range(1, len(contenders)):
        if contenders[number].surpasses(contenders[best]):
            best = number
    return best


def _finite(error: float) -> float:
    """With one or two doubles nothing is clear."""
    return math.inf if math.isnan(error) else error


def _promised(fit: FittedCalibrated) -> Promise:
    if fit.promise is None:
        raise DataError(
            f"{fit.name} was fitted to a screen of which nothing could be held out, and another was not"
        )
    return fit.promise
