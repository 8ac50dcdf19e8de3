"""Exact search by scoring every combination of a range in turn, for any score."""

import time
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError


def search_stream(
    space: CombinationSpace,
    score: Callable[[PerturbationBatch], Float[Tensor, "b"]],
    k: int,
    *,
    orders: tuple[int, ...] | None = None,
    span: tuple[int, int] | None = None,
    block: int = 65536,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the ``k`` best valid combinations of a space, or of a part of it, exactly.

    Answers for disjoint parts (shards, or the singles found here and the pairs found by
    :func:`~inverse_design.search.pairs.search_pairs`) are combined by :meth:`SearchResult.merge`.

    Args:
        space: What may be proposed.
        score: Scores a batch, larger is better; never called with an invalid combination or none.
        k: How many combinations.
        orders: Which orders of the space; by default all.
        span: First number and one past the last of a shard; by default the whole space.
        block: How many combinations are spelled out at a time.
        progress: Called after each block with the combinations done and those in all.

    Returns:
        The best combinations, fewer than ``k`` if the range has fewer, and the certificate.

    Raises:
        SpaceError: If the space has no such order, or the shard is not within it or does not fit 64 bits.
        DataError: If a score is NaN or infinite (the candidate is named), or ``k`` is not positive.
    """
    began = time.perf_counter()
    first, stop = span or (0, space.size)
    if not 0 <= first <= stop <= min(space.size, 2**63 - 1):
        raise SpaceError(f"numbers {first} to {stop} are not within a space of {space.size}, or too large")
    spans = [space.span(order) for order in orders or space.orders]
    parts = [(max(low, first), max(low, first, min(high, stop))) for low, high in spans]
    top, done, scored, total = TopK.empty(k), 0, 0, sum(high - low for low, high in parts)
    for start, end in ((at, min(at + block, high)) for low, high in parts for at in range(low, high, block)):
        batch = space.batch(start, end)
        valid = torch.nonzero(space.valid(batch)).flatten()
        if len(valid):
            scores = score(batch.rows(valid)).to(torch.float64)
            _refuse_endless(scores, batch.rows(valid), space)
            top = top.offer(valid + start, scores)
        done, scored = done + end - start, scored + len(valid)
        if progress is not None:
            progress(done, total)
    seconds = time.perf_counter() - began
    certificate = Certificate(scanned=total, masked=total - scored, rescored=0, error=0.0, seconds=seconds)
    return SearchResult(top, certificate)


def _refuse_endless(scores: Float[Tensor, "b"], batch: PerturbationBatch, space: CombinationSpace) -> None:
    wrong = ~(scores < torch.inf)
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        label = space.vocabulary.perturbation(batch.genes[row]).label
        raise DataError(f"the score of {label} is {float(scores[row])}; scores must be finite or -inf")
