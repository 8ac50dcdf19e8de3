"""The search as anybody would write it first: loops in NumPy, and in Python alone."""

import heapq
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from inverse_design.benchmark.peers_problem import PairProblem

_ROWS = 256


def numpy_loop(problem: PairProblem, k: int) -> Int64[Tensor, "m 2"]:
    """Score the full square in double precision, some rows at a time, and partition each block.

    Args:
        problem: What to search.
        k: How many pairs.

    Returns:
        The best pairs, the best first; where more of them tie than there is room for, any of those.
    """
    centred = (problem.rows - problem.target / 2).numpy()
    lengths = np.square(centred).sum(axis=2)
    scores, places = np.empty(0), np.empty((0, 2), dtype=np.int64)
    for start in range(0, problem.genes, _ROWS):
        block = _block(centred, lengths, problem.incumbent, start)
        most = min(k, block.size)
        at = np.argpartition(-block, most - 1, axis=None)[:most]
        row, column = np.unravel_index(at, block.shape)
        scores = np.concatenate([scores, block.ravel()[at]])
        places = np.concatenate([places, np.column_stack([row + start, column])])
        order = np.lexsort((places[:, 1], places[:, 0], -scores))[:k]
        scores, places = scores[order], places[order]
    return torch.from_numpy(places[scores > -np.inf])


def _block(
    centred: NDArray[np.float64], lengths: NDArray[np.float64], incumbent: float, start: int
) -> NDArray[np.float64]:
    rows = slice(start, start + _ROWS)
    improvement = np.zeros((len(lengths[0, rows]), len(lengths[0])))
    for effects, squares in zip(centred, lengths, strict=True):
        distance = squares[rows, None] + squares + 2 * effects[rows] @ effects.T
        improvement += np.maximum(-distance - incumbent, 0)
    improvement[np.tri(*improvement.shape, k=start, dtype=bool)] = -np.inf
    scores: NDArray[np.float64] = improvement / len(centred)
    return scores


def python_loop(problem: PairProblem, k: int) -> Int64[Tensor, "m 2"]:
    """Score one pair after the other without any library.

    Args:
        problem: What to search.
        k: How many pairs.

    Returns:
        The best pairs, the best first; ties go to the earlier pair.
    """
    members, target, incumbent = problem.rows.tolist(), problem.target.tolist(), problem.incumbent

    def worth(pair: tuple[int, int]) -> float:
        total = 0.0
        for rows in members:
            terms = zip(target, rows[pair[0]], rows[pair[1]], strict=True)
            total += max(0.0, -sum((goal - one - other) ** 2 for goal, one, other in terms) - incumbent)
        return total

    return torch.tensor(heapq.nlargest(k, combinations(range(problem.genes), 2), key=worth))
