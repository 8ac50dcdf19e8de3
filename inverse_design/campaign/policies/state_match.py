"""A surrogate is fitted to all that is known, and candidates are compared with the target in its direction."""

from dataclasses import dataclass

from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.problem.objective import Correlation
from surrogates.models.base import Surrogate


@dataclass(frozen=True)
class StateMatch:
    """Takes the candidates of which the predicted profile correlates best with the target.

    Combinations fall short of the sum of their parts by an unknown factor, which differs between pairs; while no
    combination was measured nothing can be learnt of it, and a correlation does not depend on it.

    Attributes:
        surrogate: Learns from what was measured before and since, anew in each round.
    """

    surrogate: Surrogate

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Fit, and take the best.

        Args:
            pool: What is known from the start; a target that is no profile is refused.
            known: What was revealed since.
            count: How many experiments.
            seed: Fixes the fit.

        Returns:
            The choice.

        Raises:
            DataError: If the surrogate refuses what is known, see its ``fit``.
        """
        fitted = self.surrogate.fit(known.screen(pool), seed=seed)
        free = known.open_rows(pool)
        objective = Correlation(pool.target.on(pool.before.readouts), "pearson")
        worth = objective.predicted(fitted.predict(pool.candidates.rows(free))).mean
        return Choice(free[worth.argsort(descending=True, stable=True)[:count]])
