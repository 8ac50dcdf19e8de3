"""The state of a branch and bound search: the best sets so far, and what waits to be scored."""

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from inverse_design.problem.pair_bounds import PairBounds
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import TopK

_PENDING = 4096  # sets that wait for their double-precision score
_LOWEST = float(np.finfo(np.float32).min)

_Positions = NDArray[np.int64]


@dataclass
class Hunt:
    """What a branch and bound search has found so far.

    Attributes:
        board: Bounds on the sets that hold a pair.
        score: Of the sets.
        space: What may be proposed.
        deadline: When to stop, as :func:`time.perf_counter` tells the time.
        top: The best sets so far.
        compared: Sets whose quick score was compared.
        rescored: Sets that were scored in double precision.
        masked: Those among them that may not be proposed.
        need: The quick score, less the constant, that a set of the answer reaches.
        pending: Positions of sets that wait for their score.
        waiting: How many those are.
    """

    board: PairBounds
    score: PairwiseSetScore
    space: CombinationSpace
    deadline: float
    top: TopK
    compared: int = 0
    rescored: int = 0
    masked: int = 0
    need: float = _LOWEST
    pending: list[_Positions] = field(default_factory=list)
    waiting: int = 0

    @property
    def late(self) -> bool:
        """Whether the time is over."""
        return time.perf_counter() >= self.deadline

    def add(self, positions: _Positions) -> None:
        """Have some sets scored again, not later than when many of them wait.

        Args:
            positions: One set per row.
        """
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
