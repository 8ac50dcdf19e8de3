# ruff: noqa: PLC0415 - BayBE is no dependency of this package
"""The search as anybody would write it first: loops in NumPy, and in Python alone.

The search by BayBE: a campaign over a table of all pairs.

The search by Optuna: samplers that see genes as categories and try two hundred pairs.
"""

import heapq
from itertools import combinations

import numpy as np
import optuna
import pandas as pd
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from torch import Tensor

from benchmarks.peers.problem import PairProblem

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


_SIDES = ["first", "second"]


def baybe(problem: PairProblem, k: int) -> Int64[Tensor, "1 2"]:  # noqa: ARG001 - as all methods
    """Tell a campaign the measured pairs, and ask it for one more.

    Each gene of a pair is described by its mean effect. More than one recommendation would take as many passes.

    Args:
        problem: What to search.
        k: Not used.

    Returns:
        What it recommends.
    """
    from baybe import Campaign
    from baybe.parameters import CustomDiscreteParameter
    from baybe.recommenders import BotorchRecommender
    from baybe.searchspace import SearchSpace, SubspaceDiscrete
    from baybe.targets import NumericalTarget

    names = pd.Index([f"G{number:06d}" for number in range(problem.genes)])
    effects = pd.DataFrame(problem.rows.mean(0).numpy(), index=names).add_prefix("z")
    parameters = [CustomDiscreteParameter(name=side, data=effects, decorrelate=False) for side in _SIDES]
    pairs = torch.cat(list(problem.blocks(1 << 20)))
    space = SearchSpace(
        discrete=SubspaceDiscrete.from_dataframe(_named(pairs, names), parameters=parameters),
    )
    campaign = Campaign(space, NumericalTarget(name="utility").to_objective(), BotorchRecommender())
    campaign.add_measurements(_named(problem.measured, names).assign(utility=problem.utilities.numpy()))
    recommended = campaign.recommend(1)
    return torch.from_numpy(names.get_indexer(recommended[_SIDES].to_numpy().ravel())).view(1, 2)


def _named(pairs: Int64[Tensor, "m 2"], names: pd.Index) -> pd.DataFrame:
    return pd.DataFrame({side: names[pairs[:, place].numpy()] for place, side in enumerate(_SIDES)})


_TRIALS = 200


def optuna_tpe(problem: PairProblem, k: int) -> Int64[Tensor, "m 2"]:
    """Let a tree-structured Parzen estimator choose what is scored.

    Args:
        problem: What to search.
        k: How many pairs.

    Returns:
        The best of the pairs that were tried, the best first.
    """
    return _best_tried(problem, k, TPESampler(seed=0))


def optuna_random(problem: PairProblem, k: int) -> Int64[Tensor, "m 2"]:
    """Score random pairs.

    Args:
        problem: What to search.
        k: How many pairs.

    Returns:
        The best of the pairs that were tried, the best first.
    """
    return _best_tried(problem, k, RandomSampler(seed=0))


def _best_tried(problem: PairProblem, k: int, sampler: BaseSampler) -> Int64[Tensor, "m 2"]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    genes = [f"G{number:06d}" for number in range(problem.genes)]
    number = {name: place for place, name in enumerate(genes)}

    def pair(parameters: dict[str, str]) -> Int64[Tensor, "1 2"]:
        return torch.tensor([sorted(number[name] for name in parameters.values())])

    def worth(trial: optuna.Trial) -> float:
        chosen = pair({side: trial.suggest_categorical(side, genes) for side in ("first", "second")})
        # a gene with itself is no pair, and improves nothing
        return float(problem.worth(chosen)) if int(chosen[0, 0]) != int(chosen[0, 1]) else 0.0

    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(worth, n_trials=_TRIALS)
    tried = torch.unique(torch.cat([pair(trial.params) for trial in study.trials]), dim=0)
    tried = tried[tried[:, 0] < tried[:, 1]]
    best: Tensor = tried[problem.worth(tried).argsort(descending=True, stable=True)[:k]]
    return best
