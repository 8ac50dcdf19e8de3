"""What a distance is compared with: replicates, no treatment, and the best measured condition."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.objective import DISTANCE, Distance
from inverse_design.problem.target import AlignedProfile
from surrogates.data.screen import Screen
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.cross_fitting import HeldOutPredictions
from surrogates.uncertainty.posterior import Outcome

_DRAWS = 256
_FEWEST = 20  # held-out doubles whose errors stand for noise


@dataclass(frozen=True)
class Replicates:
    """Distances between a target and a new measurement of the perturbation that made it."""

    distances: Float[Tensor, "s"]  # draws of it, ascending, one at least
    source: str  # what they are drawn from, in words

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.distances.mean())


def replicates(
    target: AlignedProfile,
    screen: Screen,
    held_out: HeldOutPredictions | None,
    *,
    variance: Float[Tensor, "m"] | None,
    seed: int,
) -> Replicates:
    """Draw how far a new measurement is from a target that the same perturbation made.

    Both measurements are noisy: their difference has the sum of two squared standard errors as its variance. That
    of the new one is taken from a combination of the screen, drawn at random. Without standard errors the noise
    cannot be separated from the error of a prediction, and differences are drawn from the errors of held-out
    doubles, of the third whose effects are nearest in size to the target, as errors grow with effects. Those hold
    the noise of one measurement, that of the measurements which were learnt from, and what the model misses: where
    it misses little, about the noise of two or three measurements.

    Raises:
        CalibrationError: If there are neither standard errors nor held-out doubles.
    """
    generator = torch.Generator().manual_seed(seed)
    at_zero = Distance(replace(target, values=torch.zeros_like(target.values)))
    if screen.standard_errors is None:
        if held_out is None:
            raise CalibrationError("nothing tells how far two measurements are apart: no double was held out")
        sizes = at_zero.measured(held_out.measured)
        size = float((target.values.square() @ target.weights / target.weights.sum()).sqrt())
        nearest = (sizes - size).abs().argsort()[: max(_FEWEST, len(held_out) // 3)]
        differences = held_out.residuals[nearest]
        source = (
            f"the errors of {len(differences)} held-out doubles with effects of about that size, as the screen has"
            " no standard errors"
        )
    else:
        combinations = torch.nonzero(screen.batch.order > 1).flatten()
        pool = screen.standard_errors[combinations if len(combinations) else slice(None)].square()
        first, second = torch.randint(len(pool), (2, _DRAWS), generator=generator)
        both = pool[first].clone()
        both[:, target.columns] += pool[second][:, target.columns] if variance is None else variance
        noise = torch.randn(both.shape, generator=generator, dtype=torch.float64)
        differences = both.sqrt() * noise
        source = "the standard errors of two measurements"
    return Replicates(at_zero.measured(differences).sort().values, source)


@dataclass(frozen=True)
class Baselines:
    """The outcome of doing nothing, and that of the best measured condition."""

    name: str  # what is compared: ``"distance"`` to the target, of which less is better; of a score more is
    nothing: float  # of doing nothing: of a distance, the root mean square of the target over its readouts
    best: float  # of the best measured condition, as it was measured
    best_label: str  # which condition that is

    def beaten(self, outcome: Float[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Tell which outcomes are better than that of doing nothing."""
        return outcome < self.nothing if self.name == DISTANCE else outcome > self.nothing

    @property
    def line(self) -> str:
        """Both in words, such as ``doing nothing 0.563; best measured, CEBPA+KLF1, 0.402``."""
        return f"doing nothing {self.nothing:.3g}; best measured, {self.best_label}, {self.best:.3g}"


def baselines(outcome: Outcome, screen: Screen) -> Baselines:
    """Find what candidates have to beat."""
    measured = outcome.measured(screen.effects)
    at = int(measured.argmin() if outcome.name == DISTANCE else measured.argmax())
    nothing = float(outcome.measured(torch.zeros_like(screen.effects[:1]))[0])
    return Baselines(outcome.name, nothing, float(measured[at]), screen.labels[at])
