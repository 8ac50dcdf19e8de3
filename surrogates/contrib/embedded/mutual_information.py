"""A lower bound on mutual information, which one network makes large and others small."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.models.training import Layers


def mutual_information(critic: Layers, one: Float[Tensor, "b r"], other: Float[Tensor, "b q"]) -> Tensor:
    """Bound the mutual information of two variables from below by a critic of pairs, in nats.

    ``E[T(x, y)] - log E[exp T(x, y')]``, with ``y'`` from other rows [Donsker and Varadhan 1983; Belghazi 2018].
    """
    shuffled = other[torch.randperm(len(other))]
    together = critic(torch.cat([one, other], dim=1)).mean()
    apart = critic(torch.cat([one, shuffled], dim=1)).flatten().logsumexp(0)
    return together - (apart - torch.tensor(float(len(one))).log())


def opposed(critic: Layers) -> Layers:
    """Reverse the gradients of a critic: what is minimised by all others is maximised by it [Ganin 2015]."""
    return replace(
        critic,
        weights=tuple(2 * each.detach() - each for each in critic.weights),
        biases=tuple(2 * each.detach() - each for each in critic.biases),
    )
