"""A search cut into shards: ranges of numbers that are searched anywhere, in any order, with the same answer."""

import json
import math
import threading
from dataclasses import asdict, dataclass, replace
from functools import reduce
from itertools import pairwise

import numpy as np
import torch

from inverse_design.errors import SpaceError
from inverse_design.problem.ranking import pair_row
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.exhaustive import pair_score, search_span
from inverse_design.search.parcel import Parcel, identity
from inverse_design.search.topk import Certificate, SearchResult, TopK
from surrogates.errors import DataError

Shard = tuple[int, int]  # first number of the space and one past the last


def plan_shards(space: CombinationSpace, count: int) -> tuple[Shard, ...]:
    """Cut a space into ranges of about equal size; pairs are cut between first entries.

    Args:
        space: What may be proposed.
        count: About how many shards.

    Returns:
        The ranges, ascending, without gaps; none crosses from one order to the next.

    Raises:
        SpaceError: If fewer than one shard is asked for, or numbers do not fit 64 bits.
    """
    if count < 1:
        raise SpaceError(f"{count} shards cannot hold a space; ask for one or more")
    if space.size >= 2**63:
        raise SpaceError(f"a space of {space.size:,} combinations is too large to be searched one by one")
    shards: list[Shard] = []
    for order in space.orders:
        first, stop = space.span(order)
        parts = max(1, round(count * (stop - first) / max(1, space.size)))
        edges = {first, stop, *(first + (stop - first) * part // parts for part in range(1, parts))}
        if order == 2:
            items = len(space.entries)
            rows = {pair_row(items, edge - first) for edge in edges}
            edges = {stop - math.comb(items - row, 2) for row in rows} | {first, stop}
        ordered = sorted(edges)
        shards += list(pairwise(ordered))
    return tuple(shards)


@dataclass(frozen=True)
class ShardAnswer:
    """What a shard holds, as bytes and text: it travels between processes and is kept in a ledger.

    Attributes:
        shard: Its place in the plan.
        index: Numbers of the best candidates, little-endian 64-bit integers.
        score: Their scores, little-endian doubles.
        certificate: What was looked at, as JSON.
    """

    shard: int
    index: bytes
    score: bytes
    certificate: str

    @classmethod
    def of(cls, shard: int, result: SearchResult) -> "ShardAnswer":
        """Spell an answer out.

        Args:
            shard: Its place in the plan.
            result: What was found.

        Returns:
            The same as bytes.
        """
        return cls(
            shard,
            result.top.index.numpy().astype("<i8").tobytes(),
            result.top.score.numpy().astype("<f8").tobytes(),
            json.dumps(asdict(result.certificate)),
        )

    def result(self, k: int) -> SearchResult:
        """Read the answer.

        Args:
            k: How many candidates were asked for.

        Returns:
            What was found.
        """
        index = torch.from_numpy(np.frombuffer(self.index, dtype="<i8").astype(np.int64))
        score = torch.from_numpy(np.frombuffer(self.score, dtype="<f8").astype(np.float64))
        return SearchResult(TopK(k, index, score), Certificate(**json.loads(self.certificate)))


def merged(answers: list[ShardAnswer], k: int, space: CombinationSpace) -> SearchResult:
    """Put the answers of all shards together.

    Args:
        answers: One per shard, in any order.
        k: How many candidates were asked for.
        space: What was searched.

    Returns:
        The answer for the whole space; its seconds are those of all shards added.
    """
    results = [answer.result(k) for answer in sorted(answers, key=lambda each: each.shard)]
    whole = reduce(SearchResult.merge, results)
    masked = space.size - space.count_valid
    return SearchResult(whole.top, replace(whole.certificate, masked=masked, ruled_out=space.ruled_out))


@dataclass(frozen=True)
class ShardTask:
    """One shard of one search.

    Attributes:
        name: Identity of the parcel.
        shard: Its place in the plan.
        span: First number and one past the last.
        k: How many candidates are kept.
        threads: How many threads a worker may use; ``None`` for its own setting.
    """

    name: str
    shard: int
    span: Shard
    k: int
    threads: int | None = None


class _Desk:
    """The question that a worker has at hand: unpacked once, however many of its shards follow."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name = ""
        self.parcel: Parcel | None = None
        self.score: PairScore | None = None


_DESK = _Desk()


def answer_shard(task: ShardTask, content: bytes | None = None) -> ShardAnswer | None:
    """Search one shard; runs in a worker.

    Args:
        task: Which.
        content: The packed parcel; not needed if the worker had it before.

    Returns:
        The answer; ``None`` if the worker does not have the parcel.

    Raises:
        DataError: If the parcel is not intact, or a score is not finite.
    """
    with _DESK.lock:
        if _DESK.name != task.name:
            if content is None:
                return None
            if identity(content) != task.name:
                raise DataError("the parcel that came with a shard is not that of its search")
            parcel = Parcel.unpack(content)
            _DESK.score = pair_score(parcel.objective, parcel.fitted, parcel.space)
            _DESK.name, _DESK.parcel = task.name, parcel
        held, score = _DESK.parcel, _DESK.score
    if held is None:
        return None
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    found = search_span(held.objective, held.fitted, held.space, task.k, span=task.span, score=score)
    return ShardAnswer.of(task.shard, found)
