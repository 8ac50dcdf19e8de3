"""A game of shifts: a simulated world, a target mean, and policies that see only what they have measured.

Seeds for what is random in a simulated campaign: a stream of its own for each purpose.
"""

from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.causal_matching.edge_posterior import EdgePosterior
from benchmarks.causal_matching.gain import best_shift, expected_distance, plug_in_shift
from benchmarks.causal_matching.graphs import StructuralWorld
from surrogates.errors import DataError


@dataclass(frozen=True)
class ShiftProblem:
    """What a policy knows from the start.

    Attributes:
        parents: Which gene (row) acts on which (column).
        variance: Prior variance of each edge into a gene.
        noise: Standard deviation of each gene's own noise.
        target: Wanted mean state.
        budget: Largest Euclidean norm of a shift, in experiments and in what is recommended.
    """

    parents: Bool[Tensor, "g g"] = field(repr=False)
    variance: Float[Tensor, "g"] = field(repr=False)
    noise: float
    target: Float[Tensor, "g"] = field(repr=False)
    budget: float = 1.0

    def believe(self, tried: "Tried") -> EdgePosterior:
        """Learn from all experiments.

        Args:
            tried: What was measured.

        Returns:
            The posterior.
        """
        prior = EdgePosterior.prior(self.parents, self.variance, noise=self.noise)
        return prior.learn(tried.shifts, tried.states)

    def recommend(self, posterior: EdgePosterior) -> Float[Tensor, "g"]:
        """Say which shift to take for good: that of the least expected squared distance.

        Args:
            posterior: What is believed.

        Returns:
            The shift.
        """
        return best_shift(posterior, self.target, budget=self.budget)

    def plug_in(self, posterior: EdgePosterior) -> Float[Tensor, "g"]:
        """Say which shift would be best if the expected edges were true.

        Args:
            posterior: What is believed.

        Returns:
            The shift.
        """
        return plug_in_shift(posterior, self.target, budget=self.budget)

    def expected(self, posterior: EdgePosterior, shift: Float[Tensor, "g"]) -> Float[Tensor, ""]:
        """Say how far a shift is expected to leave the mean from the target.

        Args:
            posterior: What is believed.
            shift: What is added to each gene.

        Returns:
            The expected squared distance.
        """
        return expected_distance(posterior, shift[None], self.target)[0]


@dataclass(frozen=True)
class Tried:
    """Experiments in the order in which they were done.

    Attributes:
        shifts: What was added to each gene.
        states: What was measured, one sample each.
    """

    shifts: Float[Tensor, "m g"]
    states: Float[Tensor, "m g"]

    def __len__(self) -> int:
        return len(self.shifts)

    def permuted(self, *, seed: int) -> "Tried":
        """Shuffle the states among the experiments.

        Args:
            seed: Fixes how.

        Returns:
            The same shifts, with other experiments' states.
        """
        return Tried(
            self.shifts, self.states[torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))]
        )


@runtime_checkable
class ShiftPolicy(Protocol):
    """A way to choose shifts: a function of what is known, and of nothing else."""

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> Float[Tensor, "q g"]:
        """Choose the experiments of a round.

        Args:
            problem: What is known from the start.
            tried: What was measured since.
            count: How many experiments.
            seed: Fixes everything that is random; another one in each round.

        Returns:
            One shift for each experiment, none longer than the budget.
        """
        ...


Feedback = Literal["true", "permuted"]


@dataclass(frozen=True)
class ShiftPlayer:
    """A policy, and whether it is told the truth.

    Attributes:
        policy: Who chooses.
        choosing: Whether the states from which it chooses are shuffled among the experiments, in each round anew.
        recommending: Whether those from which its recommendation is made are.
    """

    policy: ShiftPolicy
    choosing: Feedback = "true"
    recommending: Feedback = "true"


@dataclass(frozen=True)
class ShiftGame:
    """A world, a target in it, and the rules.

    Attributes:
        world: What is measured; hidden.
        target: Wanted mean state, not zero.
        variance: Prior variance of each edge into a gene.
        rounds: How many rounds are played.
        count: How many experiments there are in a round.
        seed: Fixes all that is random in the game; the noise of measurements is the same for every policy.
        name: What to call the game.
        budget: Largest Euclidean norm of a shift.
    """

    world: StructuralWorld
    target: Float[Tensor, "g"] = field(repr=False)
    variance: Float[Tensor, "g"] = field(repr=False)
    rounds: int
    count: int
    seed: int
    name: str = ""
    budget: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a target that is reached already, and rules without play."""
        if self.rounds < 1 or self.count < 1 or float(self.target.norm()) == 0:
            raise DataError(
                f"{self.rounds} rounds of {self.count} towards a target of norm {float(self.target.norm()):g} are"
                " no game; take at least one round of one experiment, and a target that is not zero"
            )

    @property
    def problem(self) -> ShiftProblem:
        """What a policy may see from the start."""
        return ShiftProblem(
            self.world.edges != 0, self.variance, self.world.noise, self.target.clone(), self.budget
        )

    def distance(self, shifts: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Judge shifts by the truth.

        Args:
            shifts: What is added to each gene.

        Returns:
            Squared distance of the true mean to the target, as a share of that without a shift.
        """
        return (self.world.mean(shifts) - self.target).square().sum(1) / self.target.square().sum()


Purpose = Literal["world", "target", "game", "noise", "policy", "shuffle", "judge"]


def stream(purpose: Purpose, seed: int, number: int) -> int:
    """Give one purpose a seed of its own, so that nothing is drawn twice under two names.

    With one seed for all, random shifts would be the very noise of the genes that they are measured with.

    Args:
        purpose: What is drawn.
        seed: Of the protocol or the game.
        number: Of the family or the round.

    Returns:
        A seed of 32 bits: others for other purposes, seeds or numbers, and not one next to theirs.
    """
    key = (get_args(Purpose).index(purpose), number)
    return int(np.random.SeedSequence(seed % 2**64, spawn_key=key).generate_state(1)[0])
