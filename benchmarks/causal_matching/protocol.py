"""Causal target matching: simulated acyclic worlds, a target in each, and who plays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.causal_matching.environment import ShiftGame, ShiftPlayer, stream
from benchmarks.causal_matching.graphs import Family, StructuralWorld, acyclic_edges, edge_variance
from benchmarks.causal_matching.policies import (
    ForesightShift,
    GreedyShift,
    IntegratedVarianceShift,
    MaximalVarianceShift,
    RandomShift,
    UpperBoundShift,
)
from benchmarks.causal_matching.replay import ShiftTrace, replay_shifts
from surrogates.errors import DataError

BOUNDS = 0.9  # level of the bounds on the distance
OURS = "foresight"
PLAYERS: Mapping[str, ShiftPlayer] = {
    "random": ShiftPlayer(RandomShift()),
    "greedy": ShiftPlayer(GreedyShift()),
    "upper bound": ShiftPlayer(UpperBoundShift()),
    "maximal variance": ShiftPlayer(MaximalVarianceShift()),
    "integrated variance (CIV)": ShiftPlayer(IntegratedVarianceShift()),
    OURS: ShiftPlayer(ForesightShift()),
    f"{OURS}, choices permuted": ShiftPlayer(ForesightShift(), choosing="permuted"),
    f"{OURS}, all permuted": ShiftPlayer(ForesightShift(), choosing="permuted", recommending="permuted"),
}
_WEAKEST = 0.25  # part of the best shift, before it is scaled to the budget


@dataclass(frozen=True)
class CausalProtocol:
    """Games of several families of networks, and who plays them.

    Attributes:
        games: By family.
        players: From names to players.
        ours: The player that the others are compared with.
    """

    games: Mapping[str, Sequence[ShiftGame]] = field(repr=False)
    players: Mapping[str, ShiftPlayer] = field(repr=False)
    ours: str = OURS

    @property
    def settings(self) -> dict[str, object]:
        """Numbers of the protocol, for who wants to repeat it."""
        game = next(iter(self.games.values()))[0]
        return {
            "families": list(self.games),
            "worlds": len(next(iter(self.games.values()))),
            "genes": len(game.target),
            "noise": game.world.noise,
            "budget": game.budget,
            "rounds": game.rounds,
            "count": game.count,
            "level": BOUNDS,
        }

    def play(self, *, workers: int = 1) -> dict[str, dict[str, list[ShiftTrace]]]:
        """Play all games with all players.

        Args:
            workers: Number of processes; the results do not depend on it.

        Returns:
            By family and player, the traces in the order of the games.
        """
        games = [game for family in self.games.values() for game in family]
        traces = list(replay_shifts(games, self.players, level=BOUNDS, workers=workers))
        names = {family: {game.name for game in games} for family, games in self.games.items()}
        return {
            family: {
                player: [trace for trace in traces if trace.player == player and trace.game in known]
                for player in self.players
            }
            for family, known in names.items()
        }


def causal_protocol(
    *,
    seed: int,
    worlds: int = 20,
    genes: int = 30,
    shifted: int = 5,
    noise: float = 0.3,
    rounds: int = 12,
    count: int = 4,
) -> CausalProtocol:
    """Lay out the games.

    Args:
        seed: Of the first world; the others follow.
        worlds: How many worlds there are of each family, each with its own target.
        genes: How many genes a world has.
        shifted: How many genes the shift that makes the target acts on; nobody is told.
        noise: Standard deviation of each gene's own noise; a shift of one gene by the whole budget is 1.
        rounds: How many rounds are played.
        count: How many experiments there are in a round.

    Returns:
        The protocol.

    Raises:
        DataError: If there are fewer genes than the shift acts on, or no world.
    """
    if worlds < 1 or not 1 <= shifted <= genes:
        raise DataError(
            f"{worlds} world(s), and {shifted} of {genes} genes shifted: take one at least, and no more"
        )
    games: dict[str, list[ShiftGame]] = {}
    for place, family in enumerate(get_args(Family)):
        games[family] = []
        for number in range(seed, seed + worlds):
            edges = acyclic_edges(family, genes, seed=stream("world", number, place))
            world = StructuralWorld(edges, noise)
            hidden = hidden_shift(genes, shifted, seed=stream("target", number, place))
            target, variance = world.mean(hidden[None])[0], edge_variance(edges)
            own, name = stream("game", number, place), f"{family} {number}"
            games[family].append(ShiftGame(world, target, variance, rounds, count, own, name))
    return CausalProtocol(games, PLAYERS)


def hidden_shift(genes: int, shifted: int, *, seed: int) -> Float[Tensor, "g"]:
    """Draw the shift that makes a target.

    Args:
        genes: How many genes there are.
        shifted: How many of them it acts on.
        seed: Fixes it.

    Returns:
        Parts of random sign and size, of norm one together.
    """
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(genes, generator=generator)[:shifted]
    size = _WEAKEST + (1 - _WEAKEST) * torch.rand(shifted, generator=generator, dtype=torch.float64)
    sign = torch.where(torch.rand(shifted, generator=generator) < 0.5, -1.0, 1.0)
    shift = torch.zeros(genes, dtype=torch.float64)
    shift[rows] = sign * size
    return torch.div(shift, shift.norm())
