"""The search by BayBE: a campaign over a table of all pairs."""

import pandas as pd
import torch
from baybe import Campaign  # type: ignore[import-not-found] # only the benchmark needs it
from baybe.parameters import CustomDiscreteParameter  # type: ignore[import-not-found]
from baybe.recommenders import BotorchRecommender  # type: ignore[import-not-found]
from baybe.searchspace import SearchSpace, SubspaceDiscrete  # type: ignore[import-not-found]
from baybe.targets import NumericalTarget  # type: ignore[import-not-found]
from jaxtyping import Int64
from torch import Tensor

from inverse_design.benchmark.peers_problem import PairProblem

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
