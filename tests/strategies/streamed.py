"""Surrogates that predict by a rule of the test, and one whose pairs have to be predicted one by one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Bool
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.baselines import MatchingMean
from surrogates.uncertainty.posterior import Posterior


@dataclass(frozen=True)
class Predicting:
    """Knows what another fit knows, predicts by a rule, and has no factors."""

    held: Fitted
    rule: Callable[[PerturbationBatch], Posterior]

    @property
    def vocabulary(self) -> Vocabulary:
        return self.held.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        return self.held.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        return self.held.measured_alone

    def predict(self, batch: PerturbationBatch) -> Posterior:
        return self.rule(batch)


@dataclass(frozen=True)
class Streamed:
    """Hides that a surrogate factorises."""

    base: Surrogate = field(default_factory=MatchingMean)

    def fit(self, screen: Screen, *, seed: int) -> Predicting:
        held = self.base.fit(screen, seed=seed)
        return Predicting(held, held.predict)
