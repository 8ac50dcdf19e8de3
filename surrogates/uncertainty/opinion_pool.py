"""Weights of a linear opinion pool: how much each of several probabilities of the same thing should count.

The pool ``sum_m w_m p_m`` [Stone 1961] scores at least as well as the mean of its members whatever happens, and an
expert that is sure and wrong costs it ``-log`` of the weight of the others at most. The weights are those of a
mixture: they maximise the mean log probability of what came true, by expectation maximisation.
"""

import torch
from jaxtyping import Float
from torch import Tensor

_LEAST = 0.02  # an expert that counts less is left out
_PRIOR = 1.0  # as if so many cases had been seen that speak for all experts alike
_ROUNDS, _SETTLED = 1000, 1e-9


def pool_weights(log_probability: Float[Tensor, "m n"]) -> Float[Tensor, "m"]:
    """Weigh experts by the probabilities that they gave to what came true.

    Args:
        log_probability: Of each case (columns) by each expert (lines); cases that no expert had learnt from.

    Returns:
        Weights, not negative, of sum one; those below .02 are zero.
    """
    m, n = log_probability.shape
    weights = torch.full((m,), 1 / m, dtype=torch.float64)
    for _ in range(_ROUNDS):
        share = (weights.log()[:, None] + log_probability).softmax(0)
        better = (share.sum(1) + _PRIOR / m) / (n + _PRIOR)
        change = float((better - weights).abs().max())
        weights = better
        if change < _SETTLED:
            break
    kept = torch.where(weights < min(_LEAST, 1 / m), 0.0, weights)
    return kept / kept.sum()


def pooled(log_probability: Float[Tensor, "m n"], weights: Float[Tensor, "m"]) -> Float[Tensor, "n"]:
    """Average probabilities.

    Args:
        log_probability: Of each case by each expert.
        weights: Of the experts, of sum one.

    Returns:
        Logarithm of the pool's probability of each case.
    """
    return (weights.log()[:, None] + log_probability).logsumexp(0)
