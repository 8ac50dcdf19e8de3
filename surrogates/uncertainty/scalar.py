"""One number per perturbation: what is expected of it, and between which bounds it will be."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from surrogates.uncertainty.posterior import Posterior


@dataclass(frozen=True)
class ScalarPosterior:
    """A distribution over one number of some perturbations, such as their utility.

    Attributes:
        mean: Expected value; of a utility, larger is better.
        variance: Its variance.
    """

    mean: Float[Tensor, "b"]
    variance: Float[Tensor, "b"]


@dataclass(frozen=True)
class ScalarInterval:
    """Bounds on one number of some perturbations.

    Attributes:
        lower: Lower bounds.
        upper: Upper bounds.
        level: Nominal probability between them.
    """

    lower: Float[Tensor, "b"]
    upper: Float[Tensor, "b"]
    level: float


@runtime_checkable
class Outcome(Protocol):
    """A number that can be foretold from a predicted effect, and told from a measured one.

    The distance to a target is one, and so is the score of a signature.
    """

    @property
    def name(self) -> str:
        """What to call it."""
        ...

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the number.

        Args:
            posterior: Predicted effects.

        Returns:
            Its expectation and variance for each perturbation.
        """
        ...

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Tell the number of measured effects.

        Args:
            effects: One row per perturbation.

        Returns:
            One number each.
        """
        ...
