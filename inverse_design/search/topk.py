"""The best of many scores as a mergeable reduction, and the answer of a search."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from surrogates.errors import DataError

Progress: TypeAlias = Callable[[int, int], None]  # called with how many are done, of how many


@dataclass(frozen=True)
class TopK:
    """The ``k`` best candidates seen so far, the best first; ties go to the smaller index.

    Merging is associative, commutative and idempotent, so any sharding of the same candidates, in any order,
    gives the same value bit for bit.

    Attributes:
        k: How many are kept.
        index: Numbers of the candidates in their space; fewer than ``k`` when fewer were offered.
        score: Their scores, larger is better.
    """

    k: int
    index: Int64[Tensor, "m"]
    score: Float64[Tensor, "m"]

    def __post_init__(self) -> None:
        """Refuse to keep nothing."""
        if self.k < 1:
            raise DataError(f"the best {self.k} are none; ask for at least one")

    @classmethod
    def empty(cls, k: int) -> "TopK":
        """Start a reduction.

        Args:
            k: How many to keep.

        Returns:
            The neutral element of :meth:`merge`.
        """
        return cls(k, torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def threshold(self) -> float:
        """The score that a candidate must reach to enter; minus infinity until ``k`` are there."""
        return float(self.score[-1]) if len(self) == self.k else -torch.inf

    def offer(self, index: Int64[Tensor, "n"], score: Float64[Tensor, "n"]) -> "TopK":
        """Add candidates.

        Args:
            index: Their numbers; a number always comes with the same score.
            score: Their scores.

        Returns:
            The best of both.

        Raises:
            DataError: If a score is not a number.
        """
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
        """Combine the reductions of two shards.

        Args:
            other: Of the same ``k``.

        Returns:
            The best of both.

        Raises:
            DataError: If the other keeps another number.
        """
        if other.k != self.k:
            raise DataError(f"the best {self.k} and the best {other.k} cannot be merged; use one k")
        return self.offer(other.index, other.score)


@dataclass(frozen=True)
class Certificate:
    """What a search looked at, and how far its answer can be from the true one.

    Attributes:
        scanned: Combinations whose score was compared.
        masked: Those among them that may not be proposed.
        rescored: Candidates that were scored in double precision before the last cut.
        error: Bound on the error of the quick scores that the last cut allowed for; 0 if none were used.
        rank_error: Bound on how far any rank of the answer is off.
        exact: Whether the answer is the true one, given the bound on the error.
        seconds: Wall time; that of the parts added where a search was split.
        pruned: Combinations that were not scored, because a bound shows that they are not in the answer.
        bound: The name of that bound; empty if none was used.
        gap: How much better than the last of the answer a combination that was not looked at could be: 0 for a
            finished exact search, infinite where no bound is known.
        ruled_out: How many combinations of the whole space may not be proposed, by reason; empty for a part.
    """

    scanned: int
    masked: int
    rescored: int
    error: float
    seconds: float
    rank_error: int = 0
    exact: bool = True
    pruned: int = 0
    bound: str = ""
    gap: float = 0.0
    ruled_out: Mapping[str, int] = field(default_factory=dict)

    def merge(self, other: "Certificate") -> "Certificate":
        """Certify the union of two disjoint searches.

        Args:
            other: Of other combinations of the same space.

        Returns:
            Sums of what was done, and the worse of the guarantees.
        """
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


@dataclass(frozen=True)
class SearchResult:
    """The answer of a search.

    Attributes:
        top: The best candidates.
        certificate: What was looked at.
    """

    top: TopK
    certificate: Certificate

    def merge(self, other: "SearchResult") -> "SearchResult":
        """Combine searches of disjoint parts of one space, such as its singles and its pairs.

        Args:
            other: With the same ``k``.

        Returns:
            The answer for both parts.
        """
        return SearchResult(self.top.merge(other.top), self.certificate.merge(other.certificate))
