"""A search as bytes that travel to other processes, and the ranges of candidates it is cut into.

The ranges are searched anywhere, in any order, with the same answer.
"""

import hashlib
import json
import math
import threading
from dataclasses import asdict, astuple, dataclass, replace
from functools import cached_property, reduce
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Limits
from inverse_design.problem.counting import pair_row
from inverse_design.problem.objective import Objective
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.bounded import BoundedSearch
from inverse_design.search.exhaustive import bounded_score, in_utility, pair_score, scores_of, search_span
from inverse_design.search.topk import Certificate, SearchResult, TopK
from surrogates.artefact_types import decode, encode
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError
from surrogates.models.wrappers.calibrated import FittedCalibrated

_KIND = "inverse-design search task"
_HEADER = 8  # bytes that say how long the header of a safetensors file is


@dataclass(frozen=True)
class SearchTask:
    """An objective, a fitted surrogate and a space, as tensors and plain values."""

    objective: Any  # the utility of candidates
    fitted: FittedCalibrated  # the surrogate, without cross-fits and held-out predictions, which no search needs
    vocabulary: Vocabulary  # of the space
    entries: Int[Tensor, "v"]  # vocabulary ids that may be used
    orders: tuple[int, ...]  # how many interventions are given together
    required: tuple[tuple[int, ...], ...]  # for each required target, the ids of which a candidate holds one
    excluded: Int[Tensor, "m"]  # numbers of the measured combinations that are left out
    further: tuple[Any, ...]  # constraints of other packages
    groups: tuple[tuple[int, ...], ...]  # ids of each group of which a candidate holds few
    at_most: tuple[int, ...]  # how many of each
    apart: tuple[tuple[int, int], ...]  # ids that may not stand together
    costs: tuple[int, ...]  # of each entry, in millionths, where there is a budget
    budget: int | None  # in millionths

    @classmethod
    def of(cls, objective: Objective, fitted: FittedCalibrated, space: CombinationSpace) -> "SearchTask":
        """Collect what a search needs."""
        if space.excluded.dtype == object:
            raise SpaceError(
                f"a space of {space.size:,} combinations cannot be sharded: its numbers do not fit 64 bits; take a"
                " lower order or fewer genes"
            )
        return cls(
            objective,
            replace(fitted, cross=(), evidence={}, promise=None),
            space.vocabulary,
            space.entries,
            space.orders,
            space.required,
            torch.from_numpy(space.excluded.astype("int64")),
            space.further,
            *astuple(space.limits),
        )

    @property
    def space(self) -> CombinationSpace:
        """What may be proposed."""
        return CombinationSpace(
            self.vocabulary,
            self.entries,
            self.orders,
            self.required,
            self.excluded.numpy().copy(),
            Limits(self.groups, self.at_most, self.apart, self.costs, self.budget),
            self.further,
        )

    def pack(self) -> bytes:
        """Spell the task out; equal tasks give equal bytes."""
        return self._packed

    @cached_property
    def _packed(self) -> bytes:
        tensors: dict[str, Tensor] = {}
        document = json.dumps(encode(self, tensors, where="search task"), allow_nan=False, sort_keys=True)
        # One entry: the order of several in the header of a safetensors file is left to chance.
        # Copies: safetensors refuses views of one storage.
        return to_bytes({name: each.clone() for name, each in tensors.items()}, {_KIND: document})

    @classmethod
    def unpack(cls, content: bytes) -> "SearchTask":
        """Read what :meth:`pack` has written; nothing of it is ever executed."""
        try:
            tensors = from_bytes(content)
            header = json.loads(content[_HEADER : _HEADER + int.from_bytes(content[:_HEADER], "little")])
            found = decode(json.loads(header["__metadata__"][_KIND]), tensors, where="search task")
        except (SafetensorError, ValueError, KeyError, RecursionError) as error:
            raise DataError(f"these {len(content)} bytes are not an intact {_KIND}: {error}") from error
        if not isinstance(found, cls):
            raise DataError(f"these bytes hold a {type(found).__name__}, not an {_KIND}")
        return found


def identity(content: bytes) -> str:
    """Name a search task by its content."""
    return hashlib.sha256(content).hexdigest()


Shard = tuple[int, int]  # first number of the space and one past the last


def plan_shards(space: CombinationSpace, count: int) -> tuple[Shard, ...]:
    """Cut a space into ranges of about equal size; pairs are cut between first entries."""
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
    """What a shard holds, as bytes and text: it travels between processes and is kept in a ledger."""

    shard: int  # its place in the plan
    index: bytes  # numbers of the best candidates, little-endian 64-bit integers
    score: bytes  # their scores, little-endian doubles
    certificate: str  # what was looked at, as JSON

    @classmethod
    def of(cls, shard: int, result: SearchResult) -> "ShardAnswer":
        """Spell an answer out."""
        return cls(
            shard,
            result.top.index.numpy().astype("<i8").tobytes(),
            result.top.score.numpy().astype("<f8").tobytes(),
            json.dumps(asdict(result.certificate)),
        )

    def result(self, k: int) -> SearchResult:
        """Read the answer."""
        index = torch.from_numpy(np.frombuffer(self.index, dtype="<i8").astype(np.int64))
        score = torch.from_numpy(np.frombuffer(self.score, dtype="<f8").astype(np.float64))
        return SearchResult(TopK(k, index, score), _certificate(self.certificate))


def _certificate(text: str) -> Certificate:
    """Read what came from another process."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - where answers come from elsewhere

    return TypeAdapter(Certificate).validate_json(text, strict=True)


_AGREEMENT = 1e-9  # relative; processors differ in the last bits of a score


def plausible(
    answers: list[ShardAnswer], search: SearchTask, shards: tuple[Shard, ...], k: int
) -> list[ShardAnswer]:
    """Choose those of some answers, read from a file, that can be the answers of their shards.

    Their candidates are of the shard, allowed, in order, and have these scores; the certificate counts all of the
    shard. That no better candidate is missing, only another search can tell.
    """
    if not answers:
        return []
    space = search.space
    score = pair_score(search.objective, search.fitted, space)
    bounded = {order: bounded_score(search.objective, search.fitted, space, order) for order in space.orders}

    def holds(answer: ShardAnswer) -> bool:
        first, stop = shards[answer.shard]
        sets = bounded[space.order_of(first)]
        try:
            found = answer.result(k)
        except (ValueError, RecursionError):
            return False
        index, scores, certificate = found.top.index, found.top.score, found.certificate
        low, high = (first, stop) if sets is None else space.span(sets.order)
        inside = bool(((index >= low) & (index < high)).all())
        whole = certificate.scanned + certificate.pruned == stop - first and certificate.exact
        if not inside or not whole or certificate.gap or len(index) != len(scores) or len(index) > k:
            return False
        if not bool(space.valid(space.take(index)).all()):
            return False
        if sets is None:
            fresh = scores_of(search.objective, search.fitted, space, index, score=score)
        else:
            genes = space.take(index).genes[:, : sets.order].contiguous()
            fresh = sets.exact(torch.searchsorted(space.entries, genes))
        near = torch.allclose(scores, fresh, rtol=_AGREEMENT, atol=0.0)
        return near and torch.equal(TopK.empty(k).offer(index, scores).index, index)

    return [answer for answer in answers if holds(answer)]


def merged(answers: list[ShardAnswer], k: int, space: CombinationSpace) -> SearchResult:
    """Put the answers of all shards together."""
    results = [answer.result(k) for answer in sorted(answers, key=lambda each: each.shard)]
    whole = reduce(SearchResult.merge, results)
    masked = space.size - space.count_valid
    return SearchResult(whole.top, replace(whole.certificate, masked=masked, ruled_out=space.ruled_out))


def answer_of(answers: list[ShardAnswer], k: int, search: SearchTask, shards: tuple[Shard, ...]) -> SearchResult:
    """Put the answers of all shards together, and give sets that were searched by bounds their utilities."""
    space, objective, fitted = search.space, search.objective, search.fitted
    parts = []
    for order in space.orders:
        low, high = space.span(order)
        mine = [answer for answer in answers if low <= shards[answer.shard][0] < high]
        if mine:
            found = merged(mine, k, space)
            sets = bounded_score(objective, fitted, space, order)
            parts.append(found if sets is None else in_utility(objective, fitted, space, found))
    whole = reduce(SearchResult.merge, parts)
    masked = space.size - space.count_valid
    return SearchResult(whole.top, replace(whole.certificate, masked=masked, ruled_out=space.ruled_out))


@dataclass(frozen=True)
class ShardTask:
    """One shard of one search."""

    name: str  # identity of the search
    shard: int  # its place in the plan
    span: Shard  # first number and one past the last
    k: int  # how many candidates are kept
    threads: int | None = None  # how many threads a worker may use; ``None`` for its own setting


class _Held:
    """The search that a worker holds: unpacked once, however many of its shards follow."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.name = ""
        self.search: SearchTask | None = None
        self.score: PairScore | None = None
        self.bounded: dict[tuple[int, int], BoundedSearch | None] = {}

    def begun(self, search: SearchTask, order: int, k: int) -> BoundedSearch | None:
        """Begin a search of the sets of an order by bounds, or go on with it; ``None`` where none bounds them."""
        with self.lock:
            if (order, k) not in self.bounded:
                score, space = bounded_score(search.objective, search.fitted, search.space, order), search.space
                self.bounded[order, k] = None if score is None else BoundedSearch.of(score, k, space=space)
            return self.bounded[order, k]


_HELD = _Held()


def answer_shard(task: ShardTask, content: bytes | None = None) -> ShardAnswer | None:
    """Search one shard; runs in a worker."""
    with _HELD.lock:
        if _HELD.name != task.name:
            if content is None:
                return None
            if identity(content) != task.name:
                raise DataError("the search task that came with a shard is another one")
            search = SearchTask.unpack(content)
            _HELD.score = pair_score(search.objective, search.fitted, search.space)
            _HELD.name, _HELD.search, _HELD.bounded = task.name, search, {}
        held, score = _HELD.search, _HELD.score
    if held is None:
        return None
    if task.threads is not None:
        torch.set_num_threads(task.threads)
    space = held.space
    sets = _HELD.begun(held, space.order_of(task.span[0]), task.k)
    if sets is not None:
        found = sets.part(task.span)
    else:
        found = search_span(held.objective, held.fitted, space, task.k, span=task.span, score=score)
    return ShardAnswer.of(task.shard, found)
