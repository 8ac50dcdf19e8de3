"""The surrogate that the data choose: the default."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from surrogates.data.screen import Screen
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.base import Surrogate
from surrogates.models.baselines import MatchingMean, NoChange
from surrogates.models.calibrated import Calibrated, FittedCalibrated
from surrogates.models.denoised import Denoised
from surrogates.models.interaction import Interaction
from surrogates.models.kernel import KernelRidge
from surrogates.models.stacked import Stacked
from surrogates.models.unseen_parts import with_unseen


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
    """Take the fit whose held-out probabilities of the truth score best.

    The score is computed inside the training data, on the same held-out doubles and candidates for all.

    Args:
        fits: Fits to the same screen with the same seed, the simplest first.

    Returns:
        One of them: where scores agree to three digits (identification is easy, say) the one with the smallest
        held-out error, and without held-out doubles the simplest.
    """

    def merit(fit: FittedCalibrated) -> tuple[float, float]:
        if fit.selection is None:
            return 0.0, 0.0
        return round(fit.selection.log_score, 3), -fit.held_out.model

    return max(fits, key=merit)
