"""Recommenders that learn nothing from results: chance, and the sum of single effects."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch


@dataclass(frozen=True)
class RandomChoice:
    """Draws candidates at random."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Draw."""
        left = state.open(pending)
        drawn = torch.randperm(len(left), generator=torch.Generator().manual_seed(seed))[:count]
        return Recommendation.of(state, left.rows(drawn))


@dataclass(frozen=True)
class AdditiveRanking:
    """Ranks candidates by the sum of what their parts do alone, and goes down the list."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take the next of the list."""
        del seed
        left = state.open(pending)
        utility = state.worth(sum_of_parts(state.measured, left))
        return Recommendation.of(state, left.rows(best_first(utility, count)))


def sum_of_parts(screen: Screen, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
    """Add the effects of parts; one that was not measured alone counts as the mean of those that were."""
    rows = screen.single_rows
    alone = screen.effects[rows[rows >= 0]]
    usual = alone.mean(0) if len(alone) else torch.zeros(screen.effects.shape[1], dtype=torch.float64)
    effects = usual.expand(len(rows), -1).clone()
    effects[rows >= 0] = alone
    return (effects[batch.genes.clamp(min=0)] * batch.present[..., None]).sum(1)


def best_first(score: Float[Tensor, "b"], count: int) -> Tensor:
    """Take the numbers of the largest scores; of equal ones the first comes first."""
    return score.argsort(descending=True, stable=True)[:count]
