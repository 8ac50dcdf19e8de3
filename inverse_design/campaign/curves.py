"""Curves of a replayed game: how good, and how much of the best, after each round."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.campaign.game import Game
from inverse_design.campaign.replay import Trace
from surrogates.errors import DataError


def best_so_far(game: Game, trace: Trace) -> Float[Tensor, "t"]:
    """Follow the best measured utility.

    Args:
        game: What was played.
        trace: How.

    Returns:
        One value after the random start and after each round; minus infinity where nothing was measured.
    """
    reached = torch.cat([torch.tensor([-torch.inf]), game.utility[trace.rows]]).cummax(0).values
    return reached[_ends(trace)]


def simple_regret(game: Game, trace: Trace) -> Float[Tensor, "t"]:
    """Follow how far the best measured utility is below the best of all candidates.

    Args:
        game: What was played.
        trace: How.

    Returns:
        One value after the random start and after each round, zero once the best was measured.
    """
    return game.utility.max() - best_so_far(game, trace)


def share_found(game: Game, trace: Trace, *, top: int) -> Float[Tensor, "t"]:
    """Follow which share of the truly best candidates was measured.

    Args:
        game: What was played.
        trace: How.
        top: How many count as best; of equal ones, those of lower number.

    Returns:
        One value after the random start and after each round.

    Raises:
        DataError: If there are fewer candidates than that.
    """
    return best_found(game, trace, top=top).double().mean(1)


def best_found(game: Game, trace: Trace, *, top: int) -> Bool[Tensor, "t m"]:
    """Follow which of the truly best candidates were measured.

    Args:
        game: What was played.
        trace: How.
        top: How many count as best; see :func:`best_candidates`.

    Returns:
        One row after the random start and after each round, one column for each of the best.

    Raises:
        DataError: If there are fewer candidates than that.
    """
    best, never = best_candidates(game, top=top), len(trace.rows)
    when = torch.full((len(game.utility),), never)
    when[trace.rows] = torch.arange(never)
    return when[best] < _ends(trace)[:, None]


def best_candidates(game: Game, *, top: int) -> Int[Tensor, "m"]:
    """List the truly best candidates.

    Args:
        game: What was played.
        top: How many; of equal ones, those of lower number.

    Returns:
        Their numbers, the best first.

    Raises:
        DataError: If there are fewer candidates than that.
    """
    if not 1 <= top <= len(game.utility):
        raise DataError(f"the best {top} of {len(game.utility)} candidates; take between 1 and all of them")
    return game.utility.argsort(descending=True, stable=True)[:top]


def experiments_until(game: Game, trace: Trace, *, threshold: float) -> float:
    """Count the experiments until the first whose utility reaches a threshold.

    Args:
        game: What was played.
        trace: How.
        threshold: Utility that is enough.

    Returns:
        Their number, that one included; infinite if it was never reached.
    """
    enough = torch.nonzero(game.utility[trace.rows] >= threshold).flatten()
    return float(enough[0]) + 1 if len(enough) else float("inf")


def rounds_until(game: Game, trace: Trace, *, threshold: float) -> float:
    """Count the rounds until a utility reaches a threshold.

    Args:
        game: What was played.
        trace: How.
        threshold: Utility that is enough.

    Returns:
        The number of rounds, zero if the random start was enough; infinite if it was never reached.
    """
    enough = torch.nonzero(best_so_far(game, trace) >= threshold).flatten()
    return float(enough[0]) if len(enough) else float("inf")


def coverage(game: Game, trace: Trace) -> Float[Tensor, "t"]:
    """Say in which share of each round's experiments the utility was within the bounds that were stated before.

    Args:
        game: What was played.
        trace: How.

    Returns:
        One share for the random start and for each round; ``nan`` where no bounds were stated.
    """
    return torch.stack([part.nanmean() for part in within_bounds(game, trace).split(trace.sizes)])


def within_bounds(game: Game, trace: Trace) -> Float[Tensor, "m"]:
    """Say of each experiment whether its utility was within the bounds that were stated before.

    Args:
        game: What was played.
        trace: How.

    Returns:
        One or zero in the order of the experiments; ``nan`` where no bounds were stated.
    """
    utility = game.utility[trace.rows]
    within = ((trace.lower <= utility) & (utility <= trace.upper)).double()
    return torch.where(trace.lower.isnan() | trace.upper.isnan(), torch.nan, within)


def _ends(trace: Trace) -> Tensor:
    return torch.tensor(trace.sizes).cumsum(0)
