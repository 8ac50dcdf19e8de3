"""A fitted descriptor model: measured effects where there are any, predictions elsewhere, and their sums."""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.additive import FittedScaledAdditive
from surrogates.models.base import PairFactors, PairScale
from surrogates.models.singles import sum_over_interventions
from surrogates.uncertainty.posterior import GaussianPosterior


@dataclass(frozen=True)
class FittedDescribed:
    """Measured effects where there are any, predictions from descriptors or the prior elsewhere, and their sums.

    Attributes:
        additive: Effect of each entry, measured or predicted, and the law of combinations of measured entries.
        measured: Whether each entry's effect is measured, alone or within combinations.
        described: Whether each entry has a descriptor. Without one, an unmeasured entry has the prior's effect.
        excess: What each entry adds to the scale of the posterior: zero where measured, more the less is known.
        trust: Factor on the departures of unmeasured entries from the prior, learned on held-out targets.
    """

    additive: FittedScaledAdditive
    measured: Bool[Tensor, "v"]
    described: Bool[Tensor, "v"]
    excess: Float[Tensor, "v"]
    trust: float

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.additive.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.additive.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.additive.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations.

        Args:
            batch: Ids of this model's vocabulary.

        Returns:
            Normal effects, wider for every entry that was not measured.
        """
        scale = 1 + sum_over_interventions(self.excess[:, None], batch)[:, 0]
        return replace(self.additive.predict(batch), scale=scale)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs.

        Returns:
            Factors without interactions.
        """
        return self.additive.pair_factors()

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs.

        Returns:
            Sums over both entries.
        """
        scale = self.additive.pair_scale()
        return replace(scale, side=scale.side + self.excess)


@dataclass(frozen=True)
class Learnt:
    """What a model predicts for each entry of a vocabulary.

    Attributes:
        departures: Of each entry's effect from the prior; zeros where nothing describes it.
        spread: Predictive variance of each entry, in any unit.
    """

    departures: Float[Tensor, "v g"]
    spread: Float[Tensor, "v"]

    @classmethod
    def nothing(cls, entries: int, departures: Float[Tensor, "m g"]) -> "Learnt":
        """Depart from the prior nowhere.

        Args:
            entries: Size ``v`` of the vocabulary.
            departures: Any departures, for their readouts.

        Returns:
            Zeros, equally spread.
        """
        return cls(departures.new_zeros(entries, departures.shape[1]), departures.new_ones(entries))


@runtime_checkable
class Learner(Protocol):
    """Learns departures from the prior for the entries of one vocabulary."""

    def __call__(self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]) -> Learnt:
        """Learn from some entries.

        Args:
            train: Vocabulary ids of the measured entries.
            departures: Their measured departures.

        Returns:
            Predictions for all entries.
        """
        ...
