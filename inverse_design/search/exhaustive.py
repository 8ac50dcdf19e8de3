"""The best candidates of a space, and its log evidence for a target, by the fastest exact route.

The evidence is the sum over the whole space that turns log densities into probabilities.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from inverse_design.problem.counting import pair_row
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Objective
from inverse_design.problem.score import LikelihoodScore, PairScore, PooledScore
from inverse_design.problem.set_score import PairwiseSetScore, set_score
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.beam import search_beam
from inverse_design.search.bounded import search_bounded
from inverse_design.search.device.pairs import search_pairs_on
from inverse_design.search.device.tiles import device_tiles
from inverse_design.search.device.triples import search_triples_on
from inverse_design.search.one_pass import pass_over_pairs
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import Progress, SearchResult, TopK, search_stream
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import FittedCalibrated

_BATCH = 4096


@dataclass(frozen=True)
class Evidence:
    """The scores of all valid candidates, summed up."""

    log_sum: float  # logarithm of the sum of their exponentials
    reached: int  # how many of them are at least as large as the cut

    @classmethod
    def empty(cls) -> "Evidence":
        """Start with no candidate."""
        return cls(-math.inf, 0)

    def merge(self, other: "Evidence") -> "Evidence":
        """Add that of other candidates."""
        both = torch.tensor([self.log_sum, other.log_sum], dtype=torch.float64)
        return Evidence(float(both.logsumexp(0)), self.reached + other.reached)


def evidence_of_pairs(score: PairScore, space: CombinationSpace, *, cut: float = math.inf) -> Evidence:
    """Sum the exponentials of the scores of all valid pairs, and count those that reach a cut.

    What bounds leave out of the sum is less than a share of :data:`~inverse_design.search.one_pass.LEFT_OUT`.
    """
    found = pass_over_pairs(score, 0, space=space, cut=cut)
    return Evidence(found.log_sum, found.reached)


def evidence_of_stream(
    score: Callable[[PerturbationBatch], Float[Tensor, "b"]],
    space: CombinationSpace,
    *,
    order: int,
    cut: float = math.inf,
) -> Evidence:
    """Sum the exponentials of the scores of all valid combinations of an order; count those above a cut."""
    first, last = space.span(order)
    total = Evidence.empty()
    for start in range(first, last, _BATCH):
        batch = space.batch(start, min(last, start + _BATCH))
        batch = batch.rows(torch.nonzero(space.valid(batch)).flatten())
        total = total.merge(_of(score(batch), cut))
    return total


def _of(scores: Float[Tensor, "m"], cut: float) -> Evidence:
    return Evidence(float(scores.logsumexp(0)), int((scores >= cut).sum()))


LISTABLE = 1 << 19  # so many larger sets are scored one by one where nothing bounds them
_TRIPLE = 3  # the order that devices look through whole
_PAIRS = 2  # the largest order that is always searched as a whole
_STREAMED_NUMBERS = 2**23  # effects held at a time when candidates are streamed, 64 MiB


def pair_score(objective: Objective, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:
    """Factorise an objective over the pairs of a space, where it has pairs."""
    return objective.pair_score(fitted, space) if 2 in space.orders else None


def search(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    score: PairScore | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> SearchResult:
    """Find the best candidates of a space by the fastest route that is exact, or by a beam where there is none.

    Singles are streamed, and pairs searched by products where the objective factorises. Larger sets are searched
    by bounds where the objective is a sum over pairs; else they are streamed if they are not more than
    :data:`LISTABLE`, and searched by a beam otherwise, which the certificate tells.
    """
    score = score or pair_score(objective, fitted, space)
    parts = []
    for order in space.orders:
        tick = progress if order == space.orders[-1] else None
        if order == _PAIRS and score is not None:
            parts.append(_search_pairs(score, top, space, device=device, progress=tick))
        elif order <= _PAIRS:
            parts.append(_stream(objective, fitted, space, top, span=space.span(order), progress=tick))
        else:
            parts.append(_search_sets(objective, fitted, space, top, order=order, device=device, progress=tick))
    found = reduce(SearchResult.merge, parts)
    return replace(found, certificate=replace(found.certificate, ruled_out=space.ruled_out))


def _search_pairs(
    score: PairScore, top: int, space: CombinationSpace, *, device: str, progress: Progress | None
) -> SearchResult:
    if device == "cpu":
        return search_pairs(score, top, space=space, progress=progress)
    return search_pairs_on(device_tiles(score, device), score, top, space=space, progress=progress)


def listable(space: CombinationSpace, order: int) -> bool:
    """Tell whether the combinations of an order are few enough to be scored one by one."""
    first, stop = space.span(order)
    return order <= _PAIRS or stop - first <= LISTABLE


def in_ranges(objective: Objective, fitted: FittedCalibrated, space: CombinationSpace) -> bool:
    """Tell whether a search can be cut into shards: where it ends with a proof, no beam looks for large sets."""
    larger = [order for order in space.orders if order > _PAIRS]
    return all(listable(space, each) or set_score(objective, fitted, space, each) is not None for each in larger)


def bounded_score(
    objective: Objective, fitted: FittedCalibrated, space: CombinationSpace, order: int
) -> PairwiseSetScore | None:
    """Find the score by which the sets of an order are searched by bounds; ``None`` where they are not."""
    return set_score(objective, fitted, space, order) if order > _PAIRS else None


def _search_sets(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    order: int,
    device: str,
    progress: Progress | None,
) -> SearchResult:
    score = set_score(objective, fitted, space, order)
    if score is not None:
        return _bounded(objective, fitted, space, top, score=score, device=device, progress=progress)
    if listable(space, order):
        return _stream(objective, fitted, space, top, span=space.span(order), progress=progress)
    worth = _worth(objective, fitted)
    return search_beam(space, worth, top, order, block=streamed_block(fitted), progress=progress)


def _bounded(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    score: PairwiseSetScore,
    device: str,
    progress: Progress | None,
) -> SearchResult:
    """Search by bounds or on a device; the answer gets the scores of the objective."""
    if device == "cpu" or score.order != _TRIPLE:
        found = search_bounded(score, top, space=space, progress=progress)
    else:
        found = search_triples_on(score, top, space=space, device=device, progress=progress)
    return in_utility(objective, fitted, space, found)


def in_utility(
    objective: Objective, fitted: FittedCalibrated, space: CombinationSpace, found: SearchResult
) -> SearchResult:
    """Give sets that were searched by bounds the scores of the objective, which ranks them the same."""
    if not len(found.top):
        return found
    worth = objective.utility(fitted, space.take(found.top.index)).mean
    return SearchResult(TopK.empty(found.top.k).offer(found.top.index, worth), found.certificate)


def search_span(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    span: tuple[int, int],
    score: PairScore | None,
) -> SearchResult:
    """Find the best candidates of a shard; shards of pairs hold whole rows where the objective factorises."""
    if score is not None:
        first, stop = space.span(2)
        if first <= span[0] and span[1] <= stop:
            rows = tuple(pair_row(len(space.entries), number - first) for number in span)
            return search_pairs(score, top, space=space, rows=(rows[0], rows[1]))
    return _stream(objective, fitted, space, top, span=span, progress=None)


def scores_of(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    index: Int[Tensor, "m"],
    *,
    score: PairScore | None,
) -> Float64[Tensor, "m"]:
    """Score some candidates by their numbers, as :func:`search_span` does."""
    scores = torch.empty(len(index), dtype=torch.float64)
    pairs = torch.zeros(len(index), dtype=torch.bool)
    if score is not None:
        first, stop = space.span(2)
        pairs = (index >= first) & (index < stop)
        places = torch.searchsorted(space.entries, space.take(index[pairs]).genes[:, :2].contiguous())
        scores[pairs] = score.exact(*places.unbind(1))
    worth = _worth(objective, fitted)
    for rows in torch.nonzero(~pairs).flatten().split(streamed_block(fitted)):
        if len(rows):
            scores[rows] = worth(space.take(index[rows])).double()
    return scores


def _stream(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    span: tuple[int, int],
    progress: Progress | None,
) -> SearchResult:
    worth = _worth(objective, fitted)
    return search_stream(space, worth, top, span=span, block=streamed_block(fitted), progress=progress)


def _worth(objective: Objective, fitted: FittedCalibrated) -> Callable[[PerturbationBatch], Float[Tensor, "b"]]:
    def worth(batch: PerturbationBatch) -> Float[Tensor, "b"]:
        return objective.utility(fitted, batch).mean

    return worth


def streamed_block(fitted: FittedCalibrated) -> int:
    """Choose how many candidates are predicted at a time."""
    rank = fitted.law(SEEN_DOUBLE).covariance.loadings.shape[1]
    return max(16, _STREAMED_NUMBERS // (len(fitted.readouts) * (1 + rank)))


def evidence(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    *,
    peak: float,
    cut: float = math.inf,
    score: PairScore | None = None,
) -> Evidence:
    """Sum the densities of a target under all candidates, and count the candidates that reach a cut."""

    def value(some: PerturbationBatch) -> Float[Tensor, "b"]:
        return likelihood.utility(fitted, some).mean - peak

    score = score or pair_score(likelihood, fitted, space)
    total = Evidence.empty()
    for order in space.orders:
        if isinstance(score, LikelihoodScore | PooledScore) and order == 2:
            total = total.merge(evidence_of_pairs(score.shifted(-peak), space, cut=cut - peak))
        else:
            total = total.merge(evidence_of_stream(value, space, order=order, cut=cut - peak))
    return replace(total, log_sum=total.log_sum + peak)
