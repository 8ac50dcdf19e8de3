"""An objective that a user writes: a function of the predicted mean and variance of each candidate's effect."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.uncertainty.posterior import Outcome, Posterior, ScalarPosterior

# From mean and variance, both (b, g), readouts in the order of the screen's, to one number for each candidate.
OwnObjective: TypeAlias = Callable[[Tensor, Tensor], Any]
_BLOCKS, _DRAWS = 8, 32  # so many times so many draws: those of all readouts at once would fill the memory


@dataclass(frozen=True)
class FunctionObjective:
    """The utility of candidates by a user's function; larger is better.

    What an experiment will show of it is the same function of the measured effect, whose variance is zero. The
    function may be anything, so that pairs are scored one by one.
    """

    function: OwnObjective

    @property
    def name(self) -> str:
        """What to call the outcome."""
        return "objective"

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows of it: the function of the effect itself."""
        return self

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates; their variance, which takes draws, is left to the outcome."""
        posterior = fitted.predict(batch)
        mean = self._value(posterior.mean, posterior.variance)
        return ScalarPosterior(mean, torch.full_like(mean, math.nan))

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Predict the outcome, with the variance of draws of the effect."""
        blocks = (posterior.sample(_DRAWS, seed=seed) for seed in range(_BLOCKS))
        values = torch.cat([self.measured(drawn.flatten(0, 1)).reshape(drawn.shape[:2]) for drawn in blocks])
        return ScalarPosterior(self._value(posterior.mean, posterior.variance), values.var(0))

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Value measured effects."""
        return self._value(effects, torch.zeros_like(effects))

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:  # noqa: ARG002
        """Nothing is known of the function that would factorise it."""
        return None

    def _value(self, mean: Float[Tensor, "b g"], variance: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        found = torch.as_tensor(self.function(mean, variance), dtype=torch.float64)
        if found.shape != (len(mean),):
            raise DataError(
                f"the objective gave numbers of shape {tuple(found.shape)} for {len(mean)} candidates; give one"
                " number for each row of mean and variance"
            )
        if len(bad := torch.nonzero(~torch.isfinite(found)).flatten()):
            raise DataError(
                f"the objective is {float(found[bad[0]])} for {len(bad)} of {len(mean)} candidates; give finite"
                " numbers, also where the variance is zero"
            )
        return found
