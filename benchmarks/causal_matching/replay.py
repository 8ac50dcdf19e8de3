"""Games of shifts as they are played: what is recommended after each round, and how far it is from the target."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from benchmarks.causal_matching.environment import ShiftGame, ShiftPlayer, ShiftProblem, Tried, stream
from inverse_design.errors import PlanError
from surrogates.evaluation.workers import in_order

_DRAWS = 200
_SLACK = 1e-6


@dataclass(frozen=True)
class ShiftTrace:
    """One game as it was played; squared distances are shares of that without a shift.

    Attributes:
        game: Name of the game.
        player: Name of the player.
        tried: All experiments.
        distance: True squared distance under the recommended shift, at the start and after each round.
        plug_in: The same under the shift that would be best if the expected edges were true.
        nearest: The same under the shift of which the measured state is nearest the target; one, that of no shift,
            at the start.
        expected: What the posterior expects of ``distance``.
        lower: What it bounds ``distance`` by from below.
        upper: From above.
        seconds: How long the policy thought, in all rounds; not compared.
    """

    game: str
    player: str
    tried: Tried = field(repr=False)
    distance: Float[Tensor, "r"]
    plug_in: Float[Tensor, "r"]
    nearest: Float[Tensor, "r"]
    expected: Float[Tensor, "r"]
    lower: Float[Tensor, "r"]
    upper: Float[Tensor, "r"]
    seconds: float = field(compare=False)


def play_shifts(game: ShiftGame, player: ShiftPlayer, *, level: float = 0.9, name: str = "") -> ShiftTrace:
    """Play one game.

    Args:
        game: The world, the target and the rules.
        player: Who chooses, and what it is told.
        level: Nominal probability of the bounds on the distance.
        name: What to call the player.

    Returns:
        What was tried, and how good the recommendation was after each round.

    Raises:
        PlanError: If the policy chooses too many shifts, too few, too long ones, or numbers that are not finite.
    """
    problem, genes = game.problem, len(game.target)
    tried = Tried(*(torch.zeros(0, genes, dtype=torch.float64) for _ in range(2)))
    judged, seconds = [], 0.0
    for number in range(game.rounds + 1):
        lied = tried.permuted(seed=stream("shuffle", game.seed, number))
        told = {"true": tried, "permuted": lied}
        judge = stream("judge", game.seed, number)
        judged.append(_judge(game, problem, tried, problem.believe(told[player.recommending]), level, judge))
        if number == game.rounds:
            break
        begun = perf_counter()
        policy = stream("policy", game.seed, number)
        shifts = player.policy.choose(problem, told[player.choosing], game.count, seed=policy)
        seconds += perf_counter() - begun
        _require_allowed(shifts, game, name)
        states = game.world.measure(shifts, seed=stream("noise", game.seed, number))
        tried = Tried(torch.cat([tried.shifts, shifts]), torch.cat([tried.states, states]))
    distance, plug_in, nearest, expected, lower, upper = torch.stack(judged, dim=1).unbind()
    return ShiftTrace(game.name, name, tried, distance, plug_in, nearest, expected, lower, upper, seconds)


def replay_shifts(
    games: Sequence[ShiftGame], players: Mapping[str, ShiftPlayer], *, level: float = 0.9, workers: int = 1
) -> Iterator[ShiftTrace]:
    """Play every game with every player.

    Args:
        games: Worlds, targets and rules, with distinct names.
        players: From names to players.
        level: Nominal probability of the bounds on the distance.
        workers: Number of processes, each with one thread; the traces do not depend on it.

    Returns:
        Traces, as soon as each is known, in the order of games and players.
    """
    tasks = [(game, player, level, name) for game in games for name, player in players.items()]
    return in_order(_play, tasks, workers=workers)


def _play(task: tuple[ShiftGame, ShiftPlayer, float, str]) -> ShiftTrace:
    game, player, level, name = task
    return play_shifts(game, player, level=level, name=name)


def _judge(  # noqa: PLR0917 - one call, the parts of one judgement
    game: ShiftGame, problem: ShiftProblem, tried: Tried, belief: EdgePosterior, level: float, seed: int
) -> Float[Tensor, "6"]:
    shift, plug_in = problem.recommend(belief), problem.plug_in(belief)
    nothing = game.target.square().sum()
    unit = torch.eye(len(shift), dtype=torch.float64)
    outcomes = torch.linalg.solve((unit - belief.draw(_DRAWS, seed=seed)).mT, shift.expand(_DRAWS, -1))
    drawn = (outcomes - game.target).square().sum(1) / nothing
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)
    nearest = torch.zeros_like(shift)
    if len(tried):
        nearest = tried.shifts[(tried.states - game.target).square().sum(1).argmin()]
    truth = game.distance(torch.stack([shift, plug_in, nearest]))
    return torch.cat([truth, problem.expected(belief, shift)[None] / nothing, drawn.quantile(tails)])


def _require_allowed(shifts: Float[Tensor, "q g"], game: ShiftGame, name: str) -> None:
    said = f"policy {name!r} chose"
    if len(shifts) != game.count:
        raise PlanError(f"{said} {len(shifts)} experiments where {game.count} were wanted")
    if not bool(shifts.isfinite().all()):
        raise PlanError(f"{said} a shift that is not finite; give real numbers")
    if float(shifts.norm(dim=1).max()) > game.budget * (1 + _SLACK):
        longest = float(shifts.norm(dim=1).max())
        raise PlanError(f"{said} a shift of norm {longest:g}, longer than the budget of {game.budget:g}")
