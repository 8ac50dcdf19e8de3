"""What a replay found and what its bounds held, round by round."""

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.validate.replay import Environment, Trace, best_found, within_bounds


def share_found(environment: Environment, trace: Trace, *, top: int) -> Float[Tensor, "t"]:
    """The share of the truly best candidates that was measured."""
    return best_found(environment, trace, top=top).double().mean(1)


def coverage(environment: Environment, trace: Trace) -> Float[Tensor, "t"]:
    """The share of each round's experiments whose utility was within the bounds that were stated before."""
    return torch.stack([part.nanmean() for part in within_bounds(environment, trace).split(trace.sizes)])
