"""Protocols in which a state is to be reached: whose profile, from what start, and against which policies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inverse_design.benchmark.reach_games import (
    doubles_of_singles,
    far_pairs,
    laufer_noise,
    reach_games,
    without_singles,
)
from inverse_design.benchmark.reach_rows import Reached, reached
from inverse_design.campaign.game import Game, Policy
from inverse_design.campaign.policies.fixed import RandomChoice
from inverse_design.campaign.policies.state_greedy import StateGreedy, StateStatic
from inverse_design.campaign.policies.state_likely import StateLikely
from inverse_design.campaign.policies.state_match import StateMatch
from inverse_design.campaign.policies.state_process import StateProcess
from inverse_design.campaign.policies.state_trial import StateTrial
from inverse_design.campaign.replay import PermutedFeedback, Trace, replay
from surrogates.data.catalogue import open_dataset
from surrogates.models.additive import ScaledAdditive

BOUNDS = 0.9  # level of the bounds that policies state
_ITSELF = 1e-9  # a distance that only the target's own measurement has


@dataclass(frozen=True)
class ReachProtocol:
    """Games, who plays them, and when a target counts as reached.

    Attributes:
        dataset: Name of the screen.
        games: One for each target.
        policies: From names to policies.
        ours: The policy that the others are compared with.
        tolerance: Distance to the target that counts as reached.
        known: What is known from the start, for the reader.
    """

    dataset: str
    games: Sequence[Game] = field(repr=False)
    policies: Mapping[str, Policy]
    ours: str
    tolerance: float
    known: str

    def play(self, *, seed: int, workers: int = 1) -> tuple[list[Trace], dict[str, Reached]]:
        """Play all games with all policies.

        Args:
            seed: Fixes what policies draw.
            workers: Number of processes; the results do not depend on it.

        Returns:
            The traces, and how each policy did, in the order of the games.
        """
        by_name = {game.name: game for game in self.games}
        traces = list(replay(self.games, self.policies, seeds=[seed], workers=workers))
        results = {
            name: reached([trace for trace in traces if trace.policy == name], by_name, self.tolerance)
            for name in self.policies
        }
        return traces, results


def far_pairs_protocol(
    *, seed: int, targets: int = 50, start: int = 60, rounds: int = 8, count: int = 16
) -> ReachProtocol:
    """Reach far pairs of ``laufer2013`` from random ones.

    Args:
        seed: Fixes which targets, and the random starts.
        targets: How many pairs are drawn from the 5 % that are farthest from control.
        start: How many random pairs are revealed first.
        rounds: How many rounds are played.
        count: How many experiments there are in a round.

    Returns:
        The protocol. A target is reached by a pair within replicate noise of it. The authors' single effects are
        means over all pairs, so that they would tell of what is hidden: they are left out.

    Raises:
        DataError: If the data are not on this machine.
    """
    screen = without_singles(open_dataset("laufer2013"))
    chosen = far_pairs(screen, 0.05, targets, seed=seed)
    ours = StateLikely()
    return ReachProtocol(
        "laufer2013",
        reach_games(screen, chosen, rounds=rounds, count=count, start=start, seed=seed),
        {
            "random": RandomChoice(),
            "additive, static": StateStatic(start),
            "additive, greedy": StateGreedy(),
            "BoTorch GP, LogEI": StateProcess(),
            "Optuna TPE": StateTrial(),
            "likeliest and nearest": ours,
            "likeliest and nearest, permuted": PermutedFeedback(ours),
        },
        "likeliest and nearest",
        laufer_noise(),
        f"{start} random pairs of {len(screen)}; no single effects, descriptors or tolerance",
    )


def doubles_protocol(*, seed: int, targets: int | None = None, rounds: int = 8, count: int = 8) -> ReachProtocol:
    """Find each double of ``norman2019_expr`` by its profile, from the singles.

    Args:
        seed: Fixes the order of the candidates.
        targets: How many doubles of two measured singles are targets, the first ones; all by default.
        rounds: How many rounds are played.
        count: How many experiments there are in a round.

    Returns:
        The protocol. A target is reached when it is measured itself.

    Raises:
        DataError: If the data are not on this machine.
    """
    screen = open_dataset("norman2019_expr")
    chosen = doubles_of_singles(screen)[:targets]
    ours = StateMatch(ScaledAdditive())
    return ReachProtocol(
        "norman2019_expr",
        reach_games(screen, chosen, rounds=rounds, count=count, start=0, seed=seed),
        {"random": RandomChoice(), "match": ours},
        "match",
        _ITSELF,
        "all single effects; no combination",
    )
