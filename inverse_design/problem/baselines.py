"""What a candidate has to beat: doing nothing, and the best condition that was measured."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.outcome import DISTANCE
from surrogates.data.screen import Screen
from surrogates.uncertainty.scalar import Outcome


@dataclass(frozen=True)
class Baselines:
    """The outcome of doing nothing, and that of the best measured condition.

    Attributes:
        name: What is compared: ``"distance"`` to the target, of which less is better; of a score more is.
        nothing: Of doing nothing: of a distance, the root mean square of the target over its readouts.
        best: Of the best measured condition, as it was measured.
        best_label: Which condition that is.
    """

    name: str
    nothing: float
    best: float
    best_label: str

    def beaten(self, outcome: Float[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Tell which outcomes are better than that of doing nothing.

        Args:
            outcome: Expected or measured ones.

        Returns:
            False where they are no better.
        """
        return outcome < self.nothing if self.name == DISTANCE else outcome > self.nothing

    @property
    def line(self) -> str:
        """Both in words, such as ``doing nothing 0.563; best measured, CEBPA+KLF1, 0.402``."""
        return f"doing nothing {self.nothing:.3g}; best measured, {self.best_label}, {self.best:.3g}"


def baselines(outcome: Outcome, screen: Screen) -> Baselines:
    """Find what candidates have to beat.

    Args:
        outcome: What an experiment shows.
        screen: Measured effects, without the condition that is the target.

    Returns:
        Both outcomes. No effect is that of doing nothing: effects are changes against the control.
    """
    measured = outcome.measured(screen.effects)
    at = int(measured.argmin() if outcome.name == DISTANCE else measured.argmax())
    nothing = float(outcome.measured(torch.zeros_like(screen.effects[:1]))[0])
    return Baselines(outcome.name, nothing, float(measured[at]), screen.labels[at])
