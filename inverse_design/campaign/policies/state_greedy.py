"""Ways to reach a state by what genes are expected to do: anew in each round, and once for all."""

from dataclasses import dataclass

from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.campaign.policies.state_effects import GeneEffects, learn_effects, marks_of


@dataclass(frozen=True)
class StateGreedy:
    """Takes the candidates of which the expected profile is best: uncertainty does not count."""

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Learn, and take the best.

        Args:
            pool: What is known from the start.
            known: What was revealed since.
            count: How many experiments.
            seed: Not read.

        Returns:
            The choice.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        return _nearest(learn_effects(pool, known), pool, known, count)


@dataclass(frozen=True)
class StateStatic:
    """Learns once, from what was revealed first, and goes down the list.

    Attributes:
        learnt: How many of the first revealed candidates it learns from.
    """

    learnt: int

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Take the next of the list.

        Args:
            pool: What is known from the start.
            known: What was revealed since, in order.
            count: How many experiments.
            seed: Not read.

        Returns:
            The choice.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        first = slice(self.learnt)
        start = Known(known.rows[first], known.effects[first], known.utility[first])
        return _nearest(learn_effects(pool, start), pool, known, count)


def _nearest(fitted: GeneEffects, pool: Pool, known: Known, count: int) -> Choice:
    free = known.open_rows(pool)
    worth = pool.worth(fitted.predict(marks_of(pool, free)), free)
    return Choice(free[worth.argsort(descending=True, stable=True)[:count]])
