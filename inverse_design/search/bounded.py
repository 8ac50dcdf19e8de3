"""Exact search over triples and larger sets, with bounds that skip nearly all of them."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from inverse_design.errors import SpaceError
from inverse_design.problem.counting import LARGEST_INT64
from inverse_design.problem.set_score import PairBounds, PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.errors import DataError

_PENDING = 4096  # sets that wait for their double-precision score
_LOWEST = float(np.finfo(np.float32).min)

_Positions = NDArray[np.int64]


@dataclass
class BranchAndBound:
    """What a branch and bound search has found so far."""

    board: PairBounds  # bounds on the sets that hold a pair
    score: PairwiseSetScore  # of the sets
    space: CombinationSpace  # what may be proposed
    deadline: float  # when to stop, as :func:`time.perf_counter` tells the time
    top: TopK  # the best sets so far
    compared: int = 0  # sets whose quick score was compared
    rescored: int = 0  # sets that were scored in double precision
    masked: int = 0  # those among them that may not be proposed
    need: float = _LOWEST  # the quick score, less the constant, that a set of the answer reaches
    pending: list[_Positions] = field(default_factory=list)  # positions of sets that wait for their score
    waiting: int = 0  # how many those are

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() >= self.deadline

    def add(self, positions: _Positions) -> None:
        """Have some sets scored again, not later than when many of them wait."""
        self.pending.append(self.board.meeting(positions))
        self.waiting += len(self.pending[-1])
        if self.waiting >= _PENDING:
            self.settle()

    def settle(self) -> None:
        """Score what waits in double precision, and raise the threshold for quick scores."""
        if self.waiting:
            positions = torch.from_numpy(np.sort(np.concatenate(self.pending), axis=1))
            batch = self.space.vocabulary.dosed(self.space.entries[positions])
            valid = self.space.valid(batch)
            self.top = self.top.offer(self.space.indices(batch)[valid], self.score.exact(positions[valid]))
            self.rescored += len(positions)
            self.masked += int((~valid).sum())
            self.pending, self.waiting = [], 0
            self.need = max(_LOWEST, self.top.threshold - self.score.constant - self.score.error)


_TILE = 256  # pairs are bounded in squares of this side, which stay in cache
_LEADS = 2048  # entries that the first answer grows from
_ROUNDS, _POLISHED = 4, 32  # rounds that improve the first answer, and sets that each of them starts from
_CELLS = 1 << 20  # numbers held at a time

_Singles = NDArray[np.float32]
_Places = NDArray[np.int64]


def search_bounded(
    score: PairwiseSetScore,
    k: int,
    *,
    space: CombinationSpace,
    seconds: float | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the ``k`` best valid sets of one order, three or more, by best-first branch and bound.

    Let ``(i, j)`` be the pair of a set with the largest score ``P_ij``, and ``M_i`` the largest score of a pair
    with ``i``. Each of the ``k - 2`` other members adds at most ``min(M_i, P_ij) + min(M_j, P_ij)``, and each pair
    of those at most ``P_ij``. Pairs are taken in the order of this bound, square by square, until it falls below
    the k-th best valid set found so far, which starts from a greedy search. A second bound takes the maxima over
    groups of other members. What is left is looked at with all others, bounded again at each further member.
    If the space requires targets, ``i`` is a required entry and ``j`` its best partner in the set instead. Pairs
    that the rules of the space forbid, and branches that break a limit already, are left out unscored.

    Single-precision scores only decide what is looked at: bounds give way by ``score.error``, and every set that
    reaches the threshold is scored again in double precision. The answer is that of brute force, bit for bit,
    ties included. A matrix of all pairs is held, four bytes each; where very many sets tie, all are scored.

    The certificate counts as ``scanned`` the sets whose quick score was compared, as ``masked`` those that were
    rescored and may not be proposed, and as ``pruned`` those that a bound skipped (at least, when stopped early).
    """
    began = time.perf_counter()
    found = BoundedSearch.of(score, k, space=space)
    deadline = math.inf if seconds is None else began + seconds
    return found.part(space.span(score.order), deadline=deadline, began=began, progress=progress)


@dataclass(frozen=True)
class BoundedSearch:
    """A search that has begun: bounds on all pairs, and good sets to start from."""

    score: PairwiseSetScore  # of the sets
    space: CombinationSpace  # what may be proposed
    k: int
    board: PairBounds | None  # bounds on the sets that hold a pair; ``None`` where there are no sets
    begun: BranchAndBound | None  # what a greedy search has found

    @classmethod
    def of(cls, score: PairwiseSetScore, k: int, *, space: CombinationSpace) -> "BoundedSearch":
        """Score all pairs, and find good sets; see :func:`search_bounded`."""
        _refuse(score, space)
        top = TopK.empty(k)
        if math.comb(score.size, score.order) == 0:
            return cls(score, space, k, None, None)
        board = PairBounds.of(score, space)
        state = BranchAndBound(board, score, space, math.inf, top)
        _begin(board, state)
        return cls(score, space, k, board, state)

    def part(
        self,
        span: tuple[int, int],
        *,
        deadline: float = math.inf,
        began: float | None = None,
        progress: Progress | None = None,
    ) -> SearchResult:
        """Look at the sets whose leading pair begins with some of the leads, as many as stand for some numbers.

        Parts of the numbers of the order make up the whole, in any order. A part may name sets of other parts.
        """
        began = time.perf_counter() if began is None else began
        total, (first, stop) = span[1] - span[0], self.space.span(self.score.order)
        if self.board is None or self.begun is None or total == 0:
            return SearchResult(
                TopK.empty(self.k), Certificate(0, 0, 0, self.score.error, time.perf_counter() - began)
            )
        state = replace(self.begun, deadline=deadline, pending=[])
        if span[0] != first:  # what the greedy search looked at is counted once
            state = replace(state, compared=0, rescored=0, masked=0)
        every = len(self.board.leads)
        low, high = (-(-(number - first) * every // (stop - first)) for number in span)
        unseen, left = _scan(self.board, state, self.board.leads[low:high], progress)
        state.settle()
        left = left if unseen >= state.need else 0
        scanned = min(total, state.compared)
        open_sets = left * math.comb(self.score.size - 2, self.score.order - 2)
        gap = unseen - state.need if len(state.top) == self.k else math.inf
        certificate = Certificate(
            scanned=scanned,
            masked=state.masked,
            rescored=state.rescored,
            error=self.score.error,
            seconds=time.perf_counter() - began,
            exact=left == 0,
            pruned=max(0, total - scanned - open_sets),
            bound="largest pair",
            gap=gap if left else 0.0,
        )
        return SearchResult(state.top, certificate)


def _refuse(score: PairwiseSetScore, space: CombinationSpace) -> None:
    if score.order < 3:
        raise DataError(f"a set score of order {score.order} has no bound here; search pairs by their products")
    space.span(score.order)
    if score.size != len(space.entries):
        raise SpaceError(f"scores of {score.size} entries do not fit a space of {len(space.entries)}")
    if space.size > LARGEST_INT64:
        raise SpaceError(
            f"the numbers of {space.size} combinations do not fit 64 bits; allow fewer entries or lower the order"
        )


def _begin(board: PairBounds, state: BranchAndBound) -> None:
    """Find good sets: grow one from each of many starts, then exchange single members of the best."""
    order = board.order
    starts = board.starts(_LEADS)
    for at in range(0, len(starts), _TILE):
        sets = starts[at : at + _TILE]
        weights = board.pairs[sets].sum(axis=1)
        for _ in range(order - starts.shape[1]):
            weights = _masked(weights, board.open_to(sets))
            following = weights.argmax(axis=1)
            possible = weights[np.arange(len(sets)), following] > -np.inf
            sets = np.concatenate([sets, following[:, None]], axis=1)[possible]
            weights = weights[possible] + board.pairs[sets[:, -1]]
        state.add(sets)
    state.settle()
    for _ in range(_ROUNDS):
        before = state.top
        if not len(before):
            return
        genes = state.space.take(before.index[:_POLISHED]).genes[:, :order]
        sets = np.searchsorted(state.space.entries.numpy(), genes.numpy())
        for kept in np.unique(np.concatenate([np.delete(sets, at, axis=1) for at in range(order)]), axis=0):
            weights = _masked(board.pairs[kept].sum(axis=0)[None], board.open_to(kept[None]))[0]
            most = min(state.top.k, len(weights))
            following = np.argpartition(-weights, most - 1)[:most]
            following = following[weights[following] > -np.inf]
            state.add(np.column_stack([np.broadcast_to(kept, (len(following), order - 1)), following]))
        state.settle()
        if torch.equal(state.top.index, before.index):
            return


def _masked(weights: _Singles, allowed: NDArray[np.bool_] | None) -> _Singles:
    return weights if allowed is None else np.where(allowed, weights, np.float32(-np.inf))


def _scan(
    board: PairBounds, state: BranchAndBound, leads: _Places, progress: Progress | None
) -> tuple[float, int]:
    """Look at the pairs whose bound reaches the threshold; give the best bound not looked at, and how many."""
    squares = []
    for at in range(0, len(leads), _TILE):
        rows = leads[at : at + _TILE]
        for start in range(0 if board.required else int(rows[0]), len(board.pairs), _TILE):
            bounds = board.square(rows, start, start + _TILE)
            squares.append((float(bounds.max()), int((bounds >= state.need).sum()), rows, start))
    squares.sort(key=lambda each: -each[0])
    total = left = sum(count for _, count, _, _ in squares)
    for at, (bound, count, rows, start) in enumerate(squares):
        if bound < state.need:
            break
        left -= count
        for tight, rest, i, j in _led(board, state, rows, start):
            if tight < state.need:
                break
            if state.late or not _complete(board, state, i, j):
                following = squares[at + 1][0] if at + 1 < len(squares) else -math.inf
                return max(tight, following), left + rest
        if progress is not None:
            progress(total - left, total)
    return -math.inf, 0


def _led(
    board: PairBounds, state: BranchAndBound, rows: _Places, start: int
) -> Iterator[tuple[float, int, int, int]]:
    """Give the pairs of a square that may matter, the best bound first: it, how many are left, and both places."""
    row, column = np.nonzero(board.square(rows, start, start + _TILE) >= state.need)
    first, second = rows[row], column + start
    bound = board.tightened(first, second)
    order = np.argsort(-bound, kind="stable")
    order = order[bound[order] >= state.need]
    for done, at in enumerate(order.tolist()):
        yield float(bound[at]), len(order) - done, int(first[at]), int(second[at])


def _complete(board: PairBounds, state: BranchAndBound, i: int, j: int) -> bool:
    """Look at all sets of which a pair is the largest; tell whether there was time for it."""
    largest, weight = float(board.pairs[i, j]), board.pairs[i] + board.pairs[j]
    cap = max(largest, board.ceiling)
    if board.order == 3:
        state.compared += len(weight) - 2
        if weight.max() < state.need - largest:  # one pass in cache; the next ones are rare
            return True
        kept = (weight >= state.need - largest) & (board.pairs[i] <= largest) & (board.pairs[j] <= cap)
        rest = np.flatnonzero(kept)
        state.add(np.column_stack([np.broadcast_to([i, j], (len(rest), 2)), rest]))
        return True
    rest = np.flatnonzero((board.pairs[i] <= largest) & (board.pairs[j] <= cap) & (weight > -np.inf))
    return _extend(board, state, _Partial((i, j), largest, weight[rest], rest, cap))


@dataclass(frozen=True)
class _Partial:
    """Some members of a set, and what others would add to it."""

    members: tuple[int, ...]  # positions that are chosen
    base: float  # score of their pairs
    weight: _Singles  # what each further entry scores with all of them
    rest: _Places  # which entries those are
    cap: float  # the largest score of a pair of further members

    def having(self, kept: NDArray[np.bool_] | _Places) -> "_Partial":
        return _Partial(self.members, self.base, self.weight[kept], self.rest[kept], self.cap)

    def bounds(self, missing: int, best: _Singles) -> _Singles:
        """Bound the sets that hold each further entry."""
        others = missing - 1
        partners = self.weight.max(initial=-np.inf) + np.minimum(best[self.rest], self.cap)
        bound: _Singles = self.base + self.weight + others * partners + math.comb(others, 2) * self.cap
        return bound


def _extend(board: PairBounds, state: BranchAndBound, part: _Partial) -> bool:
    """Look at all ways to complete a set that lacks two members or more; tell whether there was time for it."""
    if state.late:
        return False
    allowed = board.open_to(np.array([part.members]))
    if allowed is not None:
        part = part.having(allowed[0, part.rest])
    missing, size = board.order - len(part.members), len(part.rest) + 1
    while len(part.rest) < size:  # a lower maximum may drop more
        size = len(part.rest)
        part = part.having(part.bounds(missing, board.best) >= state.need)
    if missing == 2:
        _add_pairs(board, state, part)
        return True
    part = part.having(np.argsort(-part.weight, kind="stable"))
    for at in range(size - missing + 1):
        weight, entry = part.weight[at:], int(part.rest[at])
        if part.base + missing * float(weight[0]) + math.comb(missing, 2) * part.cap < state.need:
            break
        later = part.rest[at + 1 :]
        grown = _Partial(
            (*part.members, entry),
            part.base + float(weight[0]),
            weight[1:] + board.pairs[entry, later],
            later,
            part.cap,
        )
        if not _extend(board, state, grown):
            return False
    return True


def _add_pairs(board: PairBounds, state: BranchAndBound, part: _Partial) -> None:
    """Have the sets scored that two further members complete to the threshold."""
    size = len(part.rest)
    step = max(1, _CELLS // max(1, size))
    state.compared += math.comb(size, 2)
    for at in range(0, size, step):
        cells = board.pairs[np.ix_(part.rest[at : at + step], part.rest[at:])]
        cells += part.base + part.weight[at : at + step, None] + part.weight[at:]
        row, column = np.nonzero(cells >= state.need)
        row, column = row[row < column], column[row < column]
        pair = np.column_stack([part.rest[row + at], part.rest[column + at]])
        state.add(np.column_stack([np.broadcast_to(part.members, (len(pair), len(part.members))), pair]))
