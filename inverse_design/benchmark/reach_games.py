"""Games in which a state is to be reached: the profile of a measured combination, as if nobody knew which."""

import math

import pandas as pd
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from inverse_design.campaign.game import Game
from inverse_design.problem.target import ProfileTarget
from surrogates.data.catalogue import locate
from surrogates.data.screen import Screen
from surrogates.errors import DataError

_QUANTILE = 0.9


def profile_of(screen: Screen, row: int) -> ProfileTarget:
    """Want what was measured of one perturbation.

    Args:
        screen: Measured effects.
        row: Its number.

    Returns:
        The target, named after it.
    """
    return ProfileTarget(screen.labels[row], screen.readouts, screen.effects[row].clone())


def far_pairs(screen: Screen, share: float, count: int, *, seed: int) -> Int[Tensor, "t"]:
    """Draw combinations among those farthest from the control.

    Args:
        screen: Measured effects.
        share: Of the combinations that are far.
        count: How many are drawn.
        seed: Fixes which.

    Returns:
        Their rows, ascending.

    Raises:
        DataError: If there are not so many.
    """
    rows = _combinations(screen)
    size = round(share * len(rows))
    if count > size:
        raise DataError(f"{share:.0%} of {len(rows)} combinations are {size}, fewer than {count} targets")
    far = rows[screen.effects[rows].norm(dim=1).argsort(descending=True, stable=True)[:size]]
    drawn = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    return far[drawn].sort().values


def reach_games(
    screen: Screen, targets: Int[Tensor, "t"], *, rounds: int, count: int, start: int, seed: int
) -> list[Game]:
    """Make one game for each target; all combinations are candidates, the target's own among them.

    Args:
        screen: Measured effects; what was measured alone is known from the start.
        targets: Rows of combinations.
        rounds: How many rounds are played.
        count: How many experiments there are in a round.
        start: How many random combinations are revealed first.
        seed: Fixes the order of the candidates, hence the random start, of each game.

    Returns:
        Games named after their targets.
    """
    combinations, singles = _combinations(screen), torch.nonzero(screen.batch.order == 1).flatten()
    games = []
    for row in targets.tolist():
        generator = torch.Generator().manual_seed(seed * len(screen) + row)
        shuffled = combinations[torch.randperm(len(combinations), generator=generator)]
        target = profile_of(screen, row)
        games.append(Game(screen, target, shuffled, singles, start, rounds, count, target.name))
    return games


def without_singles(screen: Screen) -> Screen:
    """Leave out what was measured alone, or estimated from the combinations.

    Args:
        screen: Measured effects.

    Returns:
        The combinations.
    """
    return screen.rows(_combinations(screen))


def doubles_of_singles(screen: Screen) -> Int[Tensor, "t"]:
    """List the combinations of which each part was measured alone.

    Args:
        screen: Measured effects.

    Returns:
        Their rows.
    """
    genes = screen.batch.genes
    alone: Bool[Tensor, "n k"] = (screen.single_rows[genes.clamp(min=0)] >= 0) | (genes < 0)
    return torch.nonzero(alone.all(1) & (screen.batch.order > 1)).flatten()


def laufer_noise() -> float:
    """Measure how far two measurements of one pair of ``laufer2013`` are apart.

    Returns:
        See :func:`replicate_noise`.

    Raises:
        DataError: If its wells are not on this machine.
    """
    return replicate_noise(pd.read_parquet(locate("laufer2013") / "wells.parquet"))


def replicate_noise(wells: pd.DataFrame) -> float:
    """Measure how far two measurements of one pair are apart, as a root mean square over readouts.

    The mean over the wells of one biological replicate is compared with that of the other. Either is a half of
    the wells of a pair, so the distance between two whole measurements is smaller by the square root of two.

    Args:
        wells: Columns ``target``, ``query``, ``replicate`` (1 or 2) and their siRNA, all others are readouts.

    Returns:
        The 90 % quantile over pairs.
    """
    pairs = wells[(wells["target"] != "negctrl") & (wells["target"] != wells["query"])]
    labels = ["target", "query", "replicate"]
    readouts = pairs.columns.difference([*labels, "target_well", "target_sirna", "query_sirna"])
    means = pairs.groupby(labels)[list(readouts)].mean()
    first, second = (means.xs(half, level="replicate") for half in (1, 2))
    gap = torch.from_numpy((first - second).dropna().to_numpy(dtype=float))
    apart = gap.square().mean(1).sqrt()
    return float(apart.quantile(_QUANTILE)) / math.sqrt(2)


def _combinations(screen: Screen) -> Int[Tensor, "c"]:
    return torch.nonzero(screen.batch.order > 1).flatten()
