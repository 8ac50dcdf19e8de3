"""The best of many scores as a mergeable reduction, and search by scoring every candidate of a range in turn."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.space import CombinationSpace
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.summary import summary

Progress: TypeAlias = Callable[[int, int], None]  # called with how many are done, of how many


@dataclass(frozen=True)
class TopK:
    """The ``k`` best candidates seen so far, the best first; ties go to the smaller index.

    Merging is associative, commutative and idempotent, so any sharding of the same candidates, in any order,
    gives the same value bit for bit.
    """

    k: int  # how many are kept
    index: Int64[Tensor, "m"]  # numbers of the candidates in their space; fewer than ``k`` when fewer were offered
    score: Float64[Tensor, "m"]  # their scores, larger is better
    __repr__ = summary

    def __post_init__(self) -> None:
        """Refuse to keep nothing."""
        if self.k < 1:
            raise DataError(f"the best {self.k} are none; ask for at least one")

    @classmethod
    def empty(cls, k: int) -> "TopK":
        """Start a reduction."""
        return cls(k, torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def threshold(self) -> float:
        """The score that a candidate must reach to enter; minus infinity until ``k`` are there."""
        return float(self.score[-1]) if len(self) == self.k else -torch.inf

    def offer(self, index: Int64[Tensor, "n"], score: Float64[Tensor, "n"]) -> "TopK":
        """Add candidates."""
        if bool(score.isnan().any()):
            raise DataError(f"the score of candidate {int(index[int(score.isnan().int().argmax())])} is NaN")
        near = score >= self.threshold
        merged = torch.cat([self.index, index[near]])
        scores = torch.cat([self.score, score[near] + 0.0])  # adding zero makes -0.0 and 0.0 the same bits
        by_index = torch.argsort(merged, stable=True)
        order = by_index[torch.argsort(scores[by_index], descending=True, stable=True)]
        merged, scores = merged[order], scores[order]
        new = torch.ones(len(merged), dtype=torch.bool)
        new[1:] = merged[1:] != merged[:-1]
        return TopK(self.k, merged[new][: self.k], scores[new][: self.k])

    def merge(self, other: "TopK") -> "TopK":
        """Combine the reductions of two shards."""
        if other.k != self.k:
            raise DataError(f"the best {self.k} and the best {other.k} cannot be merged; use one k")
        return self.offer(other.index, other.score)


@dataclass(frozen=True)
class Certificate:
    """What a search looked at, and how far its answer can be from the true one."""

    scanned: int  # combinations whose score was compared
    masked: int  # those among them that may not be proposed
    rescored: int  # candidates that were scored in double precision before the last cut
    error: float  # bound on the error of the quick scores that the last cut allowed for; 0 if none were used
    seconds: float  # wall time; that of the parts added where a search was split
    rank_error: int = 0  # bound on how far any rank of the answer is off
    exact: bool = True  # whether the answer is the true one, given the bound on the error
    pruned: int = 0  # combinations that were not scored, because a bound shows that they are not in the answer
    bound: str = ""  # the name of that bound; empty if none was used
    # How much better than the last of the answer a combination that was not looked at could be: 0 for a finished
    # exact search, infinite where no bound is known.
    gap: float = 0.0
    # How many combinations of the whole space may not be proposed, by reason; empty for a part.
    ruled_out: Mapping[str, int] = field(default_factory=dict)

    def merge(self, other: "Certificate") -> "Certificate":
        """Certify the union of two disjoint searches."""
        return Certificate(
            scanned=self.scanned + other.scanned,
            masked=self.masked + other.masked,
            rescored=self.rescored + other.rescored,
            error=max(self.error, other.error),
            seconds=self.seconds + other.seconds,
            rank_error=self.rank_error + other.rank_error,
            exact=self.exact and other.exact,
            pruned=self.pruned + other.pruned,
            bound=", ".join(dict.fromkeys(each for each in (self.bound, other.bound) if each)),
            gap=max(self.gap, other.gap),
            ruled_out=dict(Counter(self.ruled_out) + Counter(other.ruled_out)),
        )


def certificate_line(certificate: Certificate, orders: Sequence[int]) -> str:
    """Say what a search looked at."""
    what = (
        "candidates" if len(orders) > 1 else {1: "singles", 2: "pairs", 3: "triples"}.get(orders[0], "candidates")
    )
    left_out = f", {certificate.masked:,} left out as measured or ruled out" if certificate.masked else ""
    if certificate.ruled_out.keys() - {"measured"}:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in certificate.ruled_out.items())
        left_out = f", left out: {reasons}"
    pruned = f", {certificate.pruned:,} shown to be worse unscored" if certificate.pruned else ""
    scored = f"{certificate.scanned:,} {what} scored{pruned}{left_out}, in {certificate.seconds:.2f} s"
    return f"{_guarantee(certificate)}: {scored}"


def _guarantee(certificate: Certificate) -> str:
    if certificate.exact:
        return "exact"
    if certificate.rank_error:
        return f"not exact: ranks may be off by up to {certificate.rank_error:,}"
    if math.isinf(certificate.gap):
        return "not proven: no bound is known, better candidates may have been missed"
    return f"stopped early: a candidate not looked at may be better by up to {certificate.gap:.3g}"


@dataclass(frozen=True)
class SearchResult:
    """The answer of a search."""

    top: TopK  # the best candidates
    certificate: Certificate  # what was looked at
    __repr__ = summary

    def merge(self, other: "SearchResult") -> "SearchResult":
        """Combine searches of disjoint parts of one space, such as its singles and its pairs."""
        return SearchResult(self.top.merge(other.top), self.certificate.merge(other.certificate))


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
    :func:`~inverse_design.search.scan.search_pairs`) are combined by :meth:`SearchResult.merge`.

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
            refuse_endless(scores, batch.rows(valid), space)
            top = top.offer(valid + start, scores)
        done, scored = done + end - start, scored + len(valid)
        if progress is not None:
            progress(done, total)
    seconds = time.perf_counter() - began
    certificate = Certificate(scanned=total, masked=total - scored, rescored=0, error=0.0, seconds=seconds)
    return SearchResult(top, certificate)


def refuse_endless(scores: Float[Tensor, "b"], batch: PerturbationBatch, space: CombinationSpace) -> None:
    """Refuse scores that are NaN or infinite, and name the first candidate."""
    wrong = ~(scores < torch.inf)
    if bool(wrong.any()):
        row = int(wrong.int().argmax())
        label = space.vocabulary.perturbation(batch.genes[row]).label
        raise DataError(f"the score of {label} is {float(scores[row])}; scores must be finite or -inf")
