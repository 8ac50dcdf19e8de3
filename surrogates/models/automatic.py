"""The surrogate that the data choose: the default."""

from collections.abc import Iterable
from dataclasses import dataclass

from surrogates.data.screen import Screen
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.base import Surrogate
from surrogates.models.calibrated import Calibrated, FittedCalibrated
from surrogates.models.interaction import Interaction


@dataclass(frozen=True)
class Automatic:
    """Fits several surrogates with their error laws and keeps the one that identifies held-out doubles best.

    Attributes:
        bases: The surrogates, the simplest first.
    """

    bases: tuple[Surrogate, ...] = (Additive(), ScaledAdditive(), Interaction())

    def fit(self, screen: Screen, *, seed: int) -> FittedCalibrated:
        """Cross-fit every surrogate on the same folds and keep the best.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds and candidates.

        Returns:
            The fitted surrogate with its laws.
        """
        return best_identifying(Calibrated(base).fit(screen, seed=seed) for base in self.bases)


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
