"""Ways to reach a state by gene effects that are learnt as vectors: by draws, by their mean, and once for all."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.campaign.policies.state_effects import GeneEffects

_DRAWS = 200  # behind the stated bounds
_TAIL = 0.05  # on each side of them


@dataclass(frozen=True)
class StateThompson:
    """Draws what the genes do, and takes the candidate that would be best; each experiment by a draw of its own.

    The model is of whole profiles (:class:`GeneEffects`), so a measurement far from the target still says what its
    genes do, and with which others they would come near. A draw leaves out what genes do not explain, which would
    lead each draw to a candidate that is best by chance.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Learn, and draw [Thompson 1933].

        Args:
            pool: What is known from the start.
            known: What was revealed since.
            count: How many experiments.
            seed: Fixes the draws.

        Returns:
            The choice, with 90 % bounds on the utility of each.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        generator = torch.Generator().manual_seed(seed)
        fitted, free = learn_effects(pool, known), known.open_rows(pool)
        marks, taken = _marks(pool, free), torch.zeros(len(free), dtype=torch.bool)
        chosen = []
        for _ in range(count):
            worth = pool.worth(fitted.draw(marks, generator), free).masked_fill(taken, -torch.inf)
            chosen.append(int(worth.argmax()))
            taken[chosen[-1]] = True
        rows = free[chosen]
        return Choice(rows, *_bounds(fitted, pool, rows, generator))


@dataclass(frozen=True)
class StateGreedy:
    """Takes the candidates of which the expected profile is best: :class:`StateThompson` without uncertainty."""

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


def learn_effects(pool: Pool, known: Known) -> GeneEffects:
    """Learn what genes do from all that was measured, before the campaign and since.

    Args:
        pool: What is known from the start.
        known: What was revealed since.

    Returns:
        The posterior.

    Raises:
        DataError: If fewer than three perturbations were measured.
    """
    size = len(pool.before.vocabulary)
    since = _marks(pool, known.rows)
    marks = torch.cat([pool.before.batch.multi_hot(size), since])
    return GeneEffects.of(marks, torch.cat([pool.before.effects, known.effects]))


def _marks(pool: Pool, rows: Int[Tensor, "b"]) -> Float[Tensor, "b v"]:
    return pool.candidates.rows(rows).multi_hot(len(pool.before.vocabulary))


def _nearest(fitted: GeneEffects, pool: Pool, known: Known, count: int) -> Choice:
    free = known.open_rows(pool)
    worth = pool.worth(fitted.predict(_marks(pool, free)), free)
    return Choice(free[worth.argsort(descending=True, stable=True)[:count]])


def _bounds(
    fitted: GeneEffects, pool: Pool, rows: Int[Tensor, "q"], generator: torch.Generator
) -> tuple[Float[Tensor, "q"], Float[Tensor, "q"]]:
    """Bound utilities by draws of what would be measured."""
    drawn = fitted.sample(_marks(pool, rows), _DRAWS, generator)
    worth = pool.worth(drawn.flatten(0, 1), rows.repeat(_DRAWS)).reshape(_DRAWS, len(rows))
    lower, upper = worth.quantile(torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64), dim=0)
    return lower, upper
