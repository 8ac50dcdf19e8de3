"""Sizes that stand out: the unit of one readout, or one condition, may decide an answer alone."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target
from surrogates.data.screen import Screen
from surrogates.models.base import single_effects

STANDARD = "each readout in units of the root mean square of its single effects"
_MOST = 0.5  # share of all squared effects that one of several readouts has
_SEVERAL = 4
_OUTLYING = 6.0  # robust standard deviations of the logarithm of sizes
_TO_SIGMA = 1.4826  # from the median absolute deviation of a normal law


def in_own_units(screen: Screen) -> Screen:
    """State each readout in units of its usual single effect, so that its own unit does not matter."""
    size = _usual_sizes(screen)
    errors = None if screen.standard_errors is None else screen.standard_errors / size
    known = {**screen.provenance, "unit": STANDARD}
    return replace(screen, effects=screen.effects / size, standard_errors=errors, provenance=known)


def in_units_of(screen: Screen, target: str | Target) -> str | Target:
    """State a target, given in the unit of a screen, as :func:`in_own_units` states the screen."""
    if isinstance(target, str | SignatureTarget):
        return target
    unit = dict(zip(screen.readouts, _usual_sizes(screen).tolist(), strict=True))
    if isinstance(target, ScalarTarget):
        value = None if target.value is None else target.value / unit.get(target.readout, 1.0)
        return replace(target, value=value)
    sizes = torch.tensor([unit.get(name, 1.0) for name in target.readouts], dtype=torch.float64)
    spread = None if target.standard_errors is None else target.standard_errors / sizes
    return replace(target, values=target.values / sizes, standard_errors=spread)


def _usual_sizes(screen: Screen) -> Float[Tensor, "g"]:
    singles, alone = single_effects(screen)
    size = singles[alone].square().mean(0).sqrt()
    return torch.where(size > 0, size, screen.effects.square().mean(0).sqrt())


def readout_remark(screen: Screen, target: Target) -> tuple[str, ...]:
    """Say if one of the readouts that a state names outweighs all others together."""
    named = [column for column, name in enumerate(screen.readouts) if name in _readouts(target)]
    squares = screen.effects[:, named].square().sum(0)
    if len(named) < _SEVERAL or not float(squares.max()) > _MOST * float(squares.sum()):
        return ()
    share, name = float(squares.max() / squares.sum()), screen.readouts[named[int(squares.argmax())]]
    return (
        f"warning: readout {name!r} has {100 * share:.0f} % of all squared effects, so that it decides distances;"
        " is it in another unit? --standardise (standardise=True) gives each readout the same weight",
    )


def _readouts(target: Target) -> frozenset[str]:
    return frozenset(target.readouts) if isinstance(target, ProfileTarget) else frozenset()


def outlying(screen: Screen) -> tuple[int, float] | None:
    """Find the condition whose effects are much larger than those of all others, and how many times the usual."""
    sizes = screen.effects.square().mean(1).sqrt()
    logs = sizes.clamp(min=torch.finfo(sizes.dtype).tiny).log()
    row, middle = int(sizes.argmax()), logs.median()
    deviation = _TO_SIGMA * (logs - middle).abs().median()
    if not float(logs[row] - middle) > _OUTLYING * float(deviation):
        return None
    return row, float((logs[row] - middle).exp())
