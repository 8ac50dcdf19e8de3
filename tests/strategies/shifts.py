"""Small worlds with shifts, for tests of whoever chooses them."""

import torch
from torch import Tensor

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from benchmarks.causal_matching.environment import ShiftGame, Tried, stream
from benchmarks.causal_matching.graphs import Family, StructuralWorld, acyclic_edges, edge_variance


def small_game(
    family: Family = "dense", *, genes: int = 5, rounds: int = 2, count: int = 2, seed: int = 0
) -> ShiftGame:
    edges = acyclic_edges(family, genes, seed=seed)
    world = StructuralWorld(edges, 0.3)
    aim = torch.linspace(-1, 1, genes, dtype=torch.float64)
    target = world.mean((aim / aim.norm())[None])[0]
    return ShiftGame(world, target, edge_variance(edges), rounds, count, seed, f"{family} {seed}")


def some_tried(game: ShiftGame, experiments: int, *, seed: int = 0) -> Tried:
    generator = torch.Generator().manual_seed(stream("policy", seed, 0))
    drawn = torch.randn(experiments, len(game.target), generator=generator, dtype=torch.float64)
    shifts = torch.nn.functional.normalize(drawn)
    return Tried(shifts, game.world.measure(shifts, seed=stream("noise", seed, 0)))


def believed(family: Family, *, experiments: int, seed: int = 0) -> tuple[EdgePosterior, Tensor]:
    game = small_game(family, seed=seed)
    return game.problem.believe(some_tried(game, experiments, seed=seed)), game.target
