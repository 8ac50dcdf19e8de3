"""The best candidates of a space and their probabilities, by the fastest exact route."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Objective
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.normaliser import log_sum_pairs, log_sum_stream
from inverse_design.search.pairs import search_pairs
from inverse_design.search.stream import search_stream
from inverse_design.search.topk import Progress, SearchResult
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.calibrated import FittedCalibrated

_STREAMED_NUMBERS = 2**23  # effects held at a time when candidates are streamed, 64 MiB


def search(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the best candidates of a space: pairs by products where the objective factorises, else streamed.

    Args:
        objective: What candidates are worth.
        fitted: The surrogate.
        space: What may be proposed.
        top: How many.
        progress: Called with how many candidates were scored, of how many.

    Returns:
        The best, with the certificate.
    """
    score = objective.pair_score(fitted, space) if 2 in space.orders else None

    def value(batch: PerturbationBatch) -> Float[Tensor, "b"]:
        return objective.utility(fitted, batch).mean

    rank = fitted.law(SEEN_DOUBLE).covariance.loadings.shape[1]
    block = max(16, _STREAMED_NUMBERS // (len(fitted.readouts) * (1 + rank)))
    if score is None:
        return search_stream(space, value, top, block=block, progress=progress)
    pairs = search_pairs(score, top, space=space, progress=progress)
    if space.orders == (2,):
        return pairs
    return pairs.merge(search_stream(space, value, top, span=space.span(1), block=block))


def probabilities(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    batch: PerturbationBatch,
) -> Float[Tensor, "b"]:
    """Posterior probability of candidates given the target, over the whole space.

    Args:
        likelihood: Log density of the target, with the prior.
        fitted: The surrogate.
        space: All that could have made the target.
        batch: The candidates asked about.

    Returns:
        ``P(d | t)`` of each.
    """

    def value(some: PerturbationBatch) -> Float[Tensor, "b"]:
        return likelihood.utility(fitted, some).mean

    values = value(batch)
    peak = float(values.max())
    score = likelihood.pair_score(fitted, space) if 2 in space.orders else None
    sums = [
        # Blocks are in single precision, which is finest near zero: there the likely pairs have to be.
        log_sum_pairs(replace(score, constant=score.constant - peak), space) + peak
        if score is not None and order == 2
        else log_sum_stream(value, space, order=order)
        for order in space.orders
    ]
    total = torch.tensor(sums, dtype=torch.float64).logsumexp(0)
    return (values - total).exp()
