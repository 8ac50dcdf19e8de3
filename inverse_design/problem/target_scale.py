"""Does a target look as if it were in the unit of the screen? What does not fit gets no probability."""

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.target import AlignedProfile, ProfileTarget, Target
from surrogates.data.screen import Screen

REACH = 2.0  # times the largest measured effect: what a pair of the same signs may reach
_WEAK = 0.5  # times the size of the weakest measured effect
_MANY = 0.2  # share of the readouts that are wanted out of reach
_FEWEST = 8  # readouts from which signs and whole numbers tell
_WHOLE_STATE = 0.5  # share of the screen's readouts; fewer may be markers that are all to rise
_ONE_SIDED = 0.95  # share of readouts of one sign in a measured effect
_SMALL_WHOLE = 2.0  # codes such as 0 and 1 are no counts


def beyond_reach(aligned: AlignedProfile, screen: Screen) -> Float[Tensor, "m"]:
    """Say how far each readout is wanted, in largest measured effects.

    Args:
        aligned: The target in the coordinates of the screen.
        screen: Measured effects.

    Returns:
        The ratios; infinite where nothing moves a readout that should move, zero where it should not.
    """
    largest = screen.effects[:, aligned.columns].abs().amax(0)
    wanted = aligned.values.abs()
    return torch.where(wanted > 0, wanted / largest, torch.zeros_like(wanted))


def scale_misfit(target: Target, aligned: AlignedProfile, screen: Screen) -> tuple[str, ...]:
    """List what speaks against a target being a change against the control in the unit of the screen.

    Densities compare candidates only; of a target in another unit they make one candidate certain all the same,
    as squares of large numbers differ by large numbers.

    Args:
        target: Where the cells should go.
        aligned: The same in the coordinates of the screen.
        screen: Measured effects.

    Returns:
        The reasons in words, none if it fits; only profiles are judged, as directions have no size.
    """
    if not isinstance(target, ProfileTarget):
        return ()
    values, weights = aligned.values, aligned.weights
    measured = screen.effects[:, aligned.columns]
    share = weights / weights.sum()
    size, sizes = float((values.square() @ share).sqrt()), (measured.square() @ share).sqrt()
    found = []
    if size > REACH * float(sizes.max()):
        found.append(f"its size is {size:.3g}, that of the largest measured effect {float(sizes.max()):.3g}")
    if size < _WEAK * float(sizes.min()):
        found.append(f"its size is {size:.3g}, that of the weakest measured effect {float(sizes.min()):.3g}")
    far = float((beyond_reach(aligned, screen) > REACH).double().mean())
    if far >= _MANY:
        found.append(f"{100 * far:.0f} % of its readouts are wanted beyond twice the largest measured effect")
    if len(values) >= _FEWEST:
        found += _signs(values, measured, whole=len(values) >= _WHOLE_STATE * len(screen.readouts))
    return tuple(found)


def _signs(values: Float[Tensor, "m"], measured: Float[Tensor, "n m"], *, whole: bool) -> list[str]:
    """Recognise ratios and counts: neither is ever negative, and counts are whole numbers."""
    if bool((values < 0).any()):
        return []
    counts = bool((values == values.round()).all()) and not bool((measured == measured.round()).all())
    if counts and float(values.max()) > _SMALL_WHOLE:
        return [
            "all its values are whole numbers and none is negative, as counts are; measured effects are neither"
        ]
    positive = (measured > 0).double().mean(1)
    if whole and bool((values > 0).all()) and float(positive.max()) < _ONE_SIDED:
        return [
            "all its values are positive, as ratios (fold changes) are; of the measured effects the most one-sided"
            f" has {100 * float(positive.max()):.0f} % positive ones: take the logarithm"
        ]
    return []
