"""Replay of a campaign on a fully measured screen: recommenders, seeds, in parallel, and their regret."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from time import perf_counter
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.errors import PlanError
from inverse_design.recommend.environment import Choice, Game, Known, Policy, Pool
from surrogates.errors import DataError

NEXT_ROUND = 1_000_003  # more than anybody's number of seeds, so that no two rounds draw alike
Task = TypeVar("Task")
Played = TypeVar("Played")


@dataclass(frozen=True)
class Trace:
    """One game as it was played.

    Attributes:
        lower: Lower bound on the utility that was stated before each measurement, ``nan`` where none was.
    """

    game: str  # name of the game
    policy: str  # name of the policy
    seed: int  # what fixed the random start and the policy
    rows: Int[Tensor, "m"]  # candidates in the order in which they were measured, the random start first
    sizes: tuple[int, ...]  # how many were measured at the start and in each round
    lower: Float[Tensor, "m"]
    upper: Float[Tensor, "m"]  # upper bound
    seconds: float = field(compare=False)  # how long the policy thought, in all rounds; not compared


@dataclass(frozen=True)
class PermutedFeedback:
    """A policy that is lied to: what was revealed is shuffled among the revealed candidates in every round.

    A policy that does not do worse under this than without has learnt nothing from its experiments.
    """

    policy: Policy  # who is lied to

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Shuffle, and let the policy choose."""
        order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
        shuffled = Known(known.rows, known.effects[order], known.utility[order])
        return self.policy.choose(pool, shuffled, count, seed=seed)


def play(game: Game, policy: Policy, *, seed: int, name: str = "") -> Trace:
    """Play one game.

    Raises:
        PlanError: If the policy chooses what it may not.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(game.pool), generator=generator)[: game.start]
    sizes, seconds = [len(rows)], 0.0
    lower, upper = ([torch.full((game.start,), torch.nan, dtype=torch.float64)] for _ in range(2))
    for number in range(game.rounds):
        count = min(game.count, len(game.pool) - len(rows))
        if count == 0:
            break
        begun = perf_counter()
        choice = policy.choose(game.pool, game.reveal(rows), count, seed=seed + NEXT_ROUND * (number + 1))
        seconds += perf_counter() - begun
        _require_fair(choice, rows, count, len(game.pool), name)
        rows = torch.cat([rows, choice.rows])
        sizes.append(count)
        lower.append(_stated(choice.lower, count))
        upper.append(_stated(choice.upper, count))
    return Trace(game.name, name, seed, rows, tuple(sizes), torch.cat(lower), torch.cat(upper), seconds)


def replay(
    games: Sequence[Game], policies: Mapping[str, Policy], *, seeds: Sequence[int], workers: int = 1
) -> Iterator[Trace]:
    """Play every game with every policy and every seed."""
    tasks = [(game, policies[name], seed, name) for game in games for name in policies for seed in seeds]
    return in_order(_play, tasks, workers=workers)


def in_order(play_one: Callable[[Task], Played], tasks: Sequence[Task], *, workers: int) -> Iterator[Played]:
    """Play games in processes of one thread each."""
    if workers == 1:
        with _one_thread():
            yield from map(play_one, tasks)
        return
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as crew:
        yield from crew.map(play_one, tasks)


def _play(task: tuple[Game, Policy, int, str]) -> Trace:
    game, policy, seed, name = task
    return play(game, policy, seed=seed, name=name)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums depend in their last digits on the number of threads, and choices may depend on those."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _stated(bound: Float[Tensor, "q"] | None, count: int) -> Float[Tensor, "q"]:
    return torch.full((count,), torch.nan, dtype=torch.float64) if bound is None else bound.double()


def _require_fair(choice: Choice, measured: Int[Tensor, "m"], count: int, size: int, name: str) -> None:
    rows = choice.rows
    said = f"policy {name!r} chose"
    if len(rows) != count:
        raise PlanError(f"{said} {len(rows)} experiments where {count} were wanted")
    if len(rows.unique()) < count:
        raise PlanError(f"{said} an experiment twice; each can be chosen once")
    if bool(((rows < 0) | (rows >= size)).any()):
        raise PlanError(f"{said} candidate {int(rows[(rows < 0) | (rows >= size)][0])} of {size}; count from zero")
    if bool(torch.isin(rows, measured).any()):
        raise PlanError(f"{said} candidate {int(rows[torch.isin(rows, measured)][0])}, which is measured already")


def best_so_far(game: Game, trace: Trace) -> Float[Tensor, "t"]:
    """Follow the best measured utility."""
    reached = torch.cat([torch.tensor([-torch.inf]), game.utility[trace.rows]]).cummax(0).values
    return reached[_ends(trace)]


def simple_regret(game: Game, trace: Trace) -> Float[Tensor, "t"]:
    """Follow how far the best measured utility is below the best of all candidates."""
    return game.utility.max() - best_so_far(game, trace)


def share_found(game: Game, trace: Trace, *, top: int) -> Float[Tensor, "t"]:
    """Follow which share of the truly best candidates was measured.

    Raises:
        DataError: If there are fewer candidates than that.
    """
    return best_found(game, trace, top=top).double().mean(1)


def best_found(game: Game, trace: Trace, *, top: int) -> Bool[Tensor, "t m"]:
    """Follow which of the truly best candidates were measured.

    Raises:
        DataError: If there are fewer candidates than that.
    """
    best, never = best_candidates(game, top=top), len(trace.rows)
    when = torch.full((len(game.utility),), never)
    when[trace.rows] = torch.arange(never)
    return when[best] < _ends(trace)[:, None]


def best_candidates(game: Game, *, top: int) -> Int[Tensor, "m"]:
    """List the truly best candidates.

    Raises:
        DataError: If there are fewer candidates than that.
    """
    if not 1 <= top <= len(game.utility):
        raise DataError(f"the best {top} of {len(game.utility)} candidates; take between 1 and all of them")
    return game.utility.argsort(descending=True, stable=True)[:top]


def experiments_until(game: Game, trace: Trace, *, threshold: float) -> float:
    """Count the experiments until the first whose utility reaches a threshold."""
    enough = torch.nonzero(game.utility[trace.rows] >= threshold).flatten()
    return float(enough[0]) + 1 if len(enough) else float("inf")


def rounds_until(game: Game, trace: Trace, *, threshold: float) -> float:
    """Count the rounds until a utility reaches a threshold."""
    enough = torch.nonzero(best_so_far(game, trace) >= threshold).flatten()
    return float(enough[0]) if len(enough) else float("inf")


def coverage(game: Game, trace: Trace) -> Float[Tensor, "t"]:
    """Say in which share of each round's experiments the utility was within the bounds that were stated before."""
    return torch.stack([part.nanmean() for part in within_bounds(game, trace).split(trace.sizes)])


def within_bounds(game: Game, trace: Trace) -> Float[Tensor, "m"]:
    """Say of each experiment whether its utility was within the bounds that were stated before."""
    utility = game.utility[trace.rows]
    within = ((trace.lower <= utility) & (utility <= trace.upper)).double()
    return torch.where(trace.lower.isnan() | trace.upper.isnan(), torch.nan, within)


def _ends(trace: Trace) -> Tensor:
    return torch.tensor(trace.sizes).cumsum(0)
