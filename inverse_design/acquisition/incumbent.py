"""The incumbent: the best that was measured, as far as its noise lets one say so."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.worth import Worth
from inverse_design.problem.target import AlignedProfile
from surrogates.data.screen import Screen
from surrogates.errors import DataError


@dataclass(frozen=True)
class Incumbent:
    """The best measured condition.

    Attributes:
        label: Its name.
        measured: Its utility as measured.
        utility: Posterior mean of the utility of its true state: what candidates have to improve upon.
    """

    label: str
    measured: float
    utility: float


def best_measured(worth: Worth, target: AlignedProfile, screen: Screen) -> Incumbent:
    """Find the condition whose true state is best, given its measurement and that of all others.

    The best of many noisy readings is partly lucky. With standard errors every utility is drawn towards the mean
    of all, ``u_i + s_i² / (tau² + s_i²) (mean - u_i)``, with ``tau²`` the scatter that noise does not explain
    [empirical Bayes; Morris 1983]; without them, a reading is taken as it is.

    Args:
        worth: What effects are worth.
        target: In the coordinates of the screen.
        screen: Everything that was measured.

    Returns:
        The incumbent.

    Raises:
        DataError: If nothing was measured.
    """
    if not len(screen):
        raise DataError("nothing was measured, so there is nothing to improve upon; begin with a few experiments")
    effects = screen.effects[:, target.columns]
    measured = worth.utility(effects)
    utilities = measured
    if screen.standard_errors is not None:
        noise = screen.standard_errors[:, target.columns].square()
        utilities = shrunk(worth.without_noise(effects, noise), worth.variance(effects, noise))
    best = int(utilities.argmax())
    return Incumbent(screen.labels[best], float(measured[best]), float(utilities[best]))


def shrunk(values: Float[Tensor, "n"], variance: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
    """Draw noisy numbers towards their mean, by as much as noise explains their scatter.

    Args:
        values: As measured.
        variance: Of the noise of each.

    Returns:
        Posterior means.
    """
    if len(values) < 2:
        return values
    centre = values.mean()
    scatter = (values.var() - variance.mean()).clamp(min=0)
    kept = torch.where(variance > 0, scatter / (scatter + variance).clamp(min=torch.finfo(values.dtype).tiny), 1.0)
    return centre + kept * (values - centre)
