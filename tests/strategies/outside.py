"""What a package of somebody else may add: a recommender."""

from dataclasses import dataclass

import torch

from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Perturbation


@dataclass(frozen=True)
class LastFirst:
    """Recommends the last candidates first."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        del seed
        left = state.open(pending)
        last = torch.arange(len(left)).flip(0)[:count]
        return Recommendation.of(state, left.rows(last), reason=["it is last"] * len(last))
