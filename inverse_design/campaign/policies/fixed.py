"""Policies that learn nothing: chance, and the prior."""

from dataclasses import dataclass

import torch

from inverse_design.campaign.game import Choice, Known, Pool


@dataclass(frozen=True)
class RandomChoice:
    """Draws candidates at random."""

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Draw.

        Args:
            pool: What is known from the start.
            known: What was revealed since.
            count: How many experiments.
            seed: Fixes the draw.

        Returns:
            The choice.
        """
        free = known.open_rows(pool)
        return Choice(free[torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))[:count]])


@dataclass(frozen=True)
class AdditiveRanking:
    """Ranks candidates once, by the sum of what their parts do alone, and goes down the list."""

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Take the next of the list.

        Args:
            pool: What is known from the start: the list is made of this.
            known: What was revealed since: it is only left out.
            count: How many experiments.
            seed: Not read.

        Returns:
            The choice.
        """
        free = known.open_rows(pool)
        utility = pool.worth(pool.additive[free], free)
        return Choice(free[utility.argsort(descending=True, stable=True)[:count]])
