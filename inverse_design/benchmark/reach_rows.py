"""How soon policies reach a state: rounds, share that arrives, distance that is left, and paired differences."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.campaign.game import Game
from inverse_design.campaign.replay import Trace
from surrogates.errors import DataError
from surrogates.evaluation.node_intervals import NodeBootstrap, dyadic_standard_error, target_nodes
from surrogates.evaluation.rows import Row


@dataclass(frozen=True)
class Reached:
    """How one policy did, game by game.

    Attributes:
        rounds: Rounds until a candidate within the tolerance was measured: 0 if the start held one, one more than
            there are rounds if none did.
        arrived: Whether one was measured at all.
        regret: Distance to the target of the nearest measured candidate at the start and after each round, less
            that of the best candidate there is.
        covered: Share of the bounds stated in each game that held, ``nan`` where none was.
        nodes: Genes of the combination whose state was the target.
    """

    rounds: Float[Tensor, "t"]
    arrived: Bool[Tensor, "t"]
    regret: Float[Tensor, "t r"]
    covered: Float[Tensor, "t"]
    nodes: Int[Tensor, "t k"]


def reached(traces: Sequence[Trace], games: Mapping[str, Game], tolerance: float) -> Reached:
    """Judge the games of one policy.

    Args:
        traces: Its games, each with the same number of rounds.
        games: By name, which is the condition of the screen that is the target.
        tolerance: Distance to the target that counts as reached.

    Returns:
        How soon each target was reached.

    Raises:
        DataError: If there is no game, or a tolerance is negative.
        UnknownNameError: If a game is not named after a condition of its screen.
    """
    if not traces or tolerance < 0:
        raise DataError(
            f"{len(traces)} game(s) and a tolerance of {tolerance:g} tell nothing; take 1, and 0 or more"
        )
    rounds, arrived, regret, covered = [], [], [], []
    for trace in traces:
        game = games[trace.game]
        utility = game.utility[trace.rows]
        ends = list(itertools.accumulate(trace.sizes))
        best = torch.stack([_best(utility[:end]) for end in ends])
        near = (best >= -tolerance).tolist()
        rounds.append(float(near.index(True) if any(near) else len(near)))
        arrived.append(any(near))
        regret.append(game.utility.max() - best)
        stated = trace.lower.isfinite()
        covered.append(((trace.lower <= utility) & (utility <= trace.upper))[stated].double().mean())
    return Reached(
        torch.tensor(rounds, dtype=torch.float64),
        torch.tensor(arrived),
        torch.stack(regret),
        torch.stack(covered),
        torch.cat([_acts_on(games[trace.game]) for trace in traces]),
    )


def reach_rows(results: Mapping[str, Reached], *, dataset: str, ours: str, level: float, seed: int) -> list[Row]:
    """Spell the results out, with intervals by a bootstrap of the genes that targets share.

    Args:
        results: Of each policy on the same games in the same order.
        dataset: Name for the rows.
        ours: The policy that the others are compared with.
        level: Nominal probability of stated bounds.
        seed: Fixes the bootstrap.

    Returns:
        ``rounds``, ``arrived`` and ``regret`` (at each round) of each policy, ``coverage`` where bounds were
        stated, and ``rounds_more``: how many rounds more than ``ours`` each other needs, in pairs.
    """
    rows = []
    draws = NodeBootstrap.of(results[ours].nodes, seed=seed)
    for name, one in results.items():
        row = partial(_row, dataset=dataset, policy=name, draws=draws, nodes=one.nodes)
        rows += [row("rounds", one.rounds), row("arrived", one.arrived.double(), unit="share")]
        rows += [
            row("regret", values, variant=f"round {number}", unit="outcome")
            for number, values in enumerate(one.regret.unbind(1))
            if bool(values.isfinite().all())
        ]
        if bool(one.covered.isfinite().all()):
            rows.append(row("coverage", one.covered, variant=f"nominal {level:g}", unit="share"))
        if name != ours:
            rows.append(row("rounds_more", one.rounds - results[ours].rounds, variant=f"than {ours}"))
    return rows


def _row(
    metric: str,
    values: Float[Tensor, "t"],
    *,
    dataset: str,
    policy: str,
    draws: NodeBootstrap,
    nodes: Int[Tensor, "t k"],
    variant: str = "",
    unit: str = "rounds",
) -> Row:
    place = ("replay", dataset, policy, "", variant, metric)
    error = dyadic_standard_error(values, nodes)
    return Row(*place, float(values.mean()), *draws.interval(values), len(values), unit, standard_error=error)


def _acts_on(game: Game) -> Int[Tensor, "1 k"]:
    screen = game.screen
    row = torch.tensor([screen.row_of(screen.vocabulary.parse(game.name))])
    return target_nodes(screen.batch.rows(row), screen.vocabulary)


def _best(utility: Float[Tensor, "m"]) -> Float[Tensor, ""]:
    return utility.max() if len(utility) else torch.tensor(-torch.inf, dtype=torch.float64)
