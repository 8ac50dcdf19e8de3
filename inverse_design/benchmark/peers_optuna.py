"""The search by Optuna: samplers that see genes as categories and try two hundred pairs."""

import optuna
import torch
from jaxtyping import Int64
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from torch import Tensor

from inverse_design.benchmark.peers_problem import PairProblem

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
