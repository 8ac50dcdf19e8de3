"""The search of this package: all pairs by the products of the members, exactly."""

import torch
from jaxtyping import Int64
from torch import Tensor

from benchmarks.peers.problem import PairProblem
from benchmarks.scale.ensembles import EnsembleImprovement
from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.scan import search_pairs
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary


def exact_scan(problem: PairProblem, k: int) -> Int64[Tensor, "m 2"]:
    """Find the best pairs by expected improvement over the members.

    Args:
        problem: What to search.
        k: How many pairs.

    Returns:
        The best pairs, the best first; ties go to the earlier pair.
    """
    names = tuple(Intervention(f"G{number:06d}") for number in range(problem.genes))
    space = CombinationSpace.of(Vocabulary(names), orders=(2,))
    members = tuple(ProductScore.of_distance(rows, problem.target) for rows in problem.rows)
    result = search_pairs(EnsembleImprovement(members, problem.incumbent), k, space=space)
    found: Tensor = space.take(result.top.index).genes[:, :2]
    return torch.searchsorted(space.entries, found.contiguous())
