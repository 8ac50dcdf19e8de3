"""Search over all pairs in two stages: a factorised proxy selects, an ensemble of networks scores the selection.

The proxy needs no training. The utility of a pair is a smooth symmetric function of two rows, so that the matrix
of all utilities is nearly of low rank; its columns ``C`` at some landmarks give it by Nyström's formula
``C W^+ C^T``, with ``W`` the rows of ``C`` at the landmarks [Williams 2001].
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Float32, Int64
from scipy.stats import beta
from torch import Tensor

from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.decoded import DecodedMember, DecodedScore
from inverse_design.search.scan import pipelined, search_pairs
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.errors import DataError

_LANDMARKS = 80  # one landmark for so many entries: a fortieth of the pairs
_FEWEST = 64
_ROWS, _FEW = 64, 8  # entries and landmarks that are scored at a time
_PART = 1 << 13  # chosen pairs that a thread scores at a time
_STRICTER = 10  # recall is measured on pairs so much rarer than those that the proxy lets pass


@dataclass(frozen=True)
class Plan:
    """How much a search in two stages looks at.

    Attributes:
        landmarks: How many entries are paired with all others to make the proxy; by default one in eighty, and at
            least 64.
    """

    keep: int = 100_000  # how many pairs the proxy selects
    landmarks: int | None = None
    probe: int = 200_000  # how many random pairs are scored to measure recall
    seed: int = 0  # fixes landmarks and random pairs

    def __post_init__(self) -> None:
        """Refuse counts that select nothing."""
        if min(self.keep, 1 if self.landmarks is None else self.landmarks) < 1 or self.probe < 0:
            raise DataError(
                f"{self!r} selects nothing; take positive keep and landmarks, and a probe of 0 or more"
            )


@dataclass(frozen=True)
class Recall:
    """How many of the best of some pairs, scored by the ensemble and unknown to the proxy, the proxy lets pass."""

    value: float  # the share; ``nan`` if no pair was judged
    low: float  # lower bound of its one-sided 95% Clopper-Pearson interval
    judged: int  # how many pairs were the best: a tenth of the share that the proxy lets pass, if they improve
    probed: int  # how many pairs they were the best of


@dataclass(frozen=True)
class TwoStageResult:
    """The answer of a search in two stages."""

    result: SearchResult  # the best of the selected pairs
    recall: Recall  # of the selection


def search_two_stage(
    members: Sequence[DecodedMember],
    target: Float[Tensor, "o"],
    k: int,
    *,
    space: CombinationSpace,
    weights: Float[Tensor, "o"] | None = None,
    incumbent: float | None = None,
    plan: Plan | None = None,
    progress: Progress | None = None,
) -> TwoStageResult:
    """Find most of the ``k`` best valid pairs of a space under an ensemble, by scoring few pairs.

    The proxy stands for the mean utility, also where improvements are asked for. Recall is that of pairs with no
    landmark in them; pairs as good as the answer are rarer than those it is measured on.

    Raises:
        SpaceError: If the space has no pairs, or a member has other entries.
        DataError: If there is no member, ``k`` is not positive or more than the plan keeps, or a number is
            not finite.
    """
    began, plan = time.perf_counter(), plan or Plan()
    if not 1 <= k <= plan.keep:
        raise DataError(f"the best {k} cannot be told among {plan.keep} selected pairs; take 1 <= k <= keep")
    score = DecodedScore.of(members, target, space=space, weights=weights, incumbent=incumbent)
    generator = torch.Generator().manual_seed(plan.seed)
    count = min(score.size, plan.landmarks or max(_FEWEST, score.size // _LANDMARKS))
    landmarks = torch.randperm(score.size, generator=generator)[:count]
    proxy = nystrom_proxy(score, landmarks)
    selected = search_pairs(proxy, plan.keep, space=space, progress=progress)
    total = selected.certificate.scanned
    top, rescored = _best(score, k, space, selected.top.index)
    probes = torch.randint(score.size, (plan.probe, 2), generator=generator)
    recall = _recall(score, proxy, selected.top, _unknown(probes, landmarks, space), len(selected.top) / total)
    certificate = Certificate(
        scanned=total,
        masked=selected.certificate.masked,
        rescored=rescored,
        error=score.error,
        seconds=time.perf_counter() - began,
        rank_error=total - selected.certificate.masked - len(selected.top),
        exact=len(selected.top) == total - selected.certificate.masked,
    )
    certificate = certificate if certificate.exact else replace(certificate, gap=torch.inf)
    return TwoStageResult(SearchResult(top, certificate), recall)


def nystrom_proxy(score: DecodedScore, landmarks: Int64[Tensor, "m"]) -> ProductScore:
    """Factorise the matrix of all mean utilities from its columns at some landmarks."""
    columns = _columns(score, landmarks).double()
    square = columns[landmarks]
    values, vectors = torch.linalg.eigh((square + square.T) / 2)
    largest = values.abs().argsort(descending=True)[: (len(values) + 1) // 2]
    largest = largest[values[largest].abs() > 1e-6 * values.abs().max()]
    right = columns @ vectors[:, largest]
    return ProductScore(right.new_zeros(len(right)), right / values[largest], right)


def _columns(score: DecodedScore, landmarks: Int64[Tensor, "m"]) -> Float32[Tensor, "v m"]:
    """Mean utility of all entries with the landmarks, also of a landmark with itself."""
    return -torch.cat(list(pipelined(partial(_few_columns, score, few) for few in landmarks.split(_FEW))), dim=1)


def _few_columns(score: DecodedScore, few: Int64[Tensor, "f"]) -> Float32[Tensor, "v f"]:
    scratch = score.members.scratch(_ROWS * _FEW)
    tiles = [
        score.members.quick((slice(low, low + _ROWS), None), (None, few), scratch).mean(0).view(-1, len(few))
        for low in range(0, score.size, _ROWS)
    ]
    return torch.cat(tiles)


def _quick(score: DecodedScore, first: Int64[Tensor, "m"], second: Int64[Tensor, "m"]) -> Float32[Tensor, "m"]:
    """Score chosen pairs in single precision, in threads."""
    parts = zip(first.split(_PART), second.split(_PART), strict=True)
    return torch.cat(list(pipelined(partial(score.quick, one, other) for one, other in parts)))


def _positions(
    space: CombinationSpace, index: Int64[Tensor, "m"]
) -> tuple[Int64[Tensor, "m"], Int64[Tensor, "m"]]:
    genes = space.take(index).genes[:, :2].contiguous()
    first, second = torch.searchsorted(space.entries, genes).unbind(1)
    return first, second


def _best(score: DecodedScore, k: int, space: CombinationSpace, index: Int64[Tensor, "m"]) -> tuple[TopK, int]:
    """Rank pairs as an exhaustive search would, and count those that were scored in double precision."""
    first, second = _positions(space, index)
    quick = _quick(score, first, second)
    cut = float(quick.topk(min(k, len(quick))).values[-1]) - 2 * score.error
    near = quick >= cut
    return TopK.empty(k).offer(index[near], score.exact(first[near], second[near])), int(near.sum())


def _unknown(
    pairs: Int64[Tensor, "n 2"], landmarks: Int64[Tensor, "m"], space: CombinationSpace
) -> Int64[Tensor, "p 2"]:
    """Keep the distinct valid pairs without a landmark."""
    low, high = pairs.sort(1).values.unbind(1)
    size = len(space.entries)
    one = torch.unique(low * size + high)  # rows would be sorted as such, which takes longer than to score them
    pairs = torch.stack([one // size, one % size], dim=1)
    pairs = pairs[(pairs[:, 0] < pairs[:, 1]) & ~torch.isin(pairs, landmarks).any(1)]
    return pairs[_valid(pairs, space)]


def _valid(pairs: Int64[Tensor, "n 2"], space: CombinationSpace) -> Bool[Tensor, "n"]:
    return space.valid(space.vocabulary.dosed(space.entries[pairs]))


def _recall(
    score: DecodedScore, proxy: ProductScore, selected: TopK, pairs: Int64[Tensor, "n 2"], share: float
) -> Recall:
    """Measure which share of the best pairs of a sample reaches the proxy's cut."""
    scores = _quick(score, *pairs.T)
    best = scores.topk(min(len(pairs), max(1, round(len(pairs) * share / _STRICTER))))
    improving = best.values > (-torch.inf if score.incumbent is None else 0)
    judged = pairs[best.indices[improving]]
    if not len(judged):
        return Recall(torch.nan, 0.0, 0, len(pairs))
    passed = int((proxy.exact(*judged.T) >= selected.threshold).sum())
    low = float(beta.ppf(0.05, passed, len(judged) - passed + 1)) if passed else 0.0
    return Recall(passed / len(judged), low, len(judged), len(pairs))
