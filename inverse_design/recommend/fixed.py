"""Recommenders that learn nothing (chance, and additive effects), and the names of all."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from inverse_design.recommend.environment import Choice, Known, Policy, Pool
from surrogates.registry import Registry


@dataclass(frozen=True)
class RandomChoice:
    """Draws candidates at random."""

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Draw."""
        free = known.open_rows(pool)
        return Choice(free[torch.randperm(len(free), generator=torch.Generator().manual_seed(seed))[:count]])


@dataclass(frozen=True)
class AdditiveRanking:
    """Ranks candidates once, by the sum of what their parts do alone, and goes down the list."""

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Take the next of the list."""
        free = known.open_rows(pool)
        utility = pool.worth(pool.additive[free], free)
        return Choice(free[utility.argsort(descending=True, stable=True)[:count]])


POLICIES: Registry[Callable[[], Policy]] = Registry(
    kind="policy",
    group="inverse_design.policies",
    shipped={
        "random": "inverse_design.recommend.fixed:RandomChoice",
        "additive": "inverse_design.recommend.fixed:AdditiveRanking",
        "greedy_ridge": "inverse_design.recommend.pairs:PairRidge",
        "optuna_tpe": "inverse_design.recommend.pairs:PairTrial",
        "botorch_gp": "inverse_design.recommend.pair_botorch:PairBotorch",
        "campaign": "inverse_design.recommend.planned:Planned",
        "pair_hits": "inverse_design.recommend.pair_hits:PairHits",
    },
)
