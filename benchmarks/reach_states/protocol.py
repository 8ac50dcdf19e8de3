"""Replays in which a state is to be reached: whose profile, from what start, and by which recommenders.

The state is the profile of a measured combination, as if it were not known which. Measured are the rounds until it
is reached, the share that arrives, the distance that is left, and paired differences.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.reach_states.recommenders import StateGreedy, StateProcess, StateStatic, StateTrial
from inverse_design.problem.target import ProfileTarget
from inverse_design.recommend.protocol import RandomChoice, Recommender
from inverse_design.recommend.states import StateLikely, StateMatch
from inverse_design.validate.replay import Environment, PermutedFeedback, Trace, replay
from surrogates.data.catalogue import locate, open_dataset
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import NodeBootstrap, Row, target_nodes
from surrogates.models.baselines import ScaledAdditive
from surrogates.uncertainty.dyadic import dyadic_standard_error

_QUANTILE = 0.9


def measured_profile(screen: Screen, row: int) -> ProfileTarget:
    """Want what was measured of one perturbation."""
    return ProfileTarget(screen.labels[row], screen.readouts, screen.effects[row].clone())


def far_pairs(screen: Screen, share: float, count: int, *, seed: int) -> Int[Tensor, "t"]:
    """Draw combinations among those farthest from the control.

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


def reach_environments(
    screen: Screen, targets: Int[Tensor, "t"], *, rounds: int, count: int, start: int, seed: int
) -> list[Environment]:
    """Make one environment for each target; all combinations are candidates, the target's own among them."""
    combinations, singles = _combinations(screen), torch.nonzero(screen.batch.order == 1).flatten()
    made = []
    for row in targets.tolist():
        generator = torch.Generator().manual_seed(seed * len(screen) + row)
        shuffled = combinations[torch.randperm(len(combinations), generator=generator)]
        target = measured_profile(screen, row)
        made.append(Environment(screen, target, shuffled, singles, start, rounds, count, target.name))
    return made


def without_singles(screen: Screen) -> Screen:
    """Leave out what was measured alone, or estimated from the combinations."""
    return screen.rows(_combinations(screen))


def doubles_of_singles(screen: Screen) -> Int[Tensor, "t"]:
    """List the combinations of which each part was measured alone."""
    genes = screen.batch.genes
    alone: Bool[Tensor, "n k"] = (screen.single_rows[genes.clamp(min=0)] >= 0) | (genes < 0)
    return torch.nonzero(alone.all(1) & (screen.batch.order > 1)).flatten()


def laufer_noise() -> float:
    """Measure how far two measurements of one pair of ``laufer2013`` are apart.

    Raises:
        DataError: If its wells are not on this machine.
    """
    return replicate_noise(pd.read_parquet(locate("laufer2013") / "wells.parquet"))


def replicate_noise(wells: pd.DataFrame) -> float:
    """Measure how far two measurements of one pair are apart, as a root mean square over readouts.

    The mean over the wells of one biological replicate is compared with that of the other. Either is a half of
    the wells of a pair, so the distance between two whole measurements is smaller by the square root of two.
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


@dataclass(frozen=True)
class Reached:
    """How one recommender did, target by target.

    Attributes:
        rounds: Rounds until a candidate within the tolerance was measured: 0 if the start held one, one more than
            there are rounds if none did.
        regret: Distance to the target of the nearest measured candidate at the start and after each round, less
            that of the best candidate there is.
    """

    rounds: Float[Tensor, "t"]
    arrived: Bool[Tensor, "t"]  # whether one was measured at all
    regret: Float[Tensor, "t r"]
    covered: Float[Tensor, "t"]  # share of the bounds stated for each target that held, ``nan`` where none was
    nodes: Int[Tensor, "t k"]  # genes of the combination whose state was the target


def reached(traces: Sequence[Trace], environments: Mapping[str, Environment], tolerance: float) -> Reached:
    """Judge the replays of one recommender.

    Raises:
        DataError: If there is no replay, or a tolerance is negative.
        UnknownNameError: If an environment is not named after a condition of its screen.
    """
    if not traces or tolerance < 0:
        raise DataError(
            f"{len(traces)} replay(s) and a tolerance of {tolerance:g} tell nothing; take 1, and 0 or more"
        )
    rounds, arrived, regret, covered = [], [], [], []
    for trace in traces:
        environment = environments[trace.environment]
        utility = environment.utility[trace.rows]
        ends = list(itertools.accumulate(trace.sizes))
        best = torch.stack([_best(utility[:end]) for end in ends])
        near = (best >= -tolerance).tolist()
        rounds.append(float(near.index(True) if any(near) else len(near)))
        arrived.append(any(near))
        regret.append(environment.utility.max() - best)
        stated = trace.lower.isfinite()
        covered.append(((trace.lower <= utility) & (utility <= trace.upper))[stated].double().mean())
    return Reached(
        torch.tensor(rounds, dtype=torch.float64),
        torch.tensor(arrived),
        torch.stack(regret),
        torch.stack(covered),
        torch.cat([_acts_on(environments[trace.environment]) for trace in traces]),
    )


def reach_rows(results: Mapping[str, Reached], *, dataset: str, ours: str, level: float, seed: int) -> list[Row]:
    """Spell the results out, with intervals by a bootstrap of the genes that targets share."""
    rows = []
    draws = NodeBootstrap.of(results[ours].nodes, seed=seed)
    for name, one in results.items():
        row = partial(_row, dataset=dataset, recommender=name, draws=draws, nodes=one.nodes)
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
    recommender: str,
    draws: NodeBootstrap,
    nodes: Int[Tensor, "t k"],
    variant: str = "",
    unit: str = "rounds",
) -> Row:
    place = ("replay", dataset, recommender, "", variant, metric)
    error = dyadic_standard_error(values, nodes)
    return Row(*place, float(values.mean()), *draws.interval(values), len(values), unit, standard_error=error)


def _acts_on(environment: Environment) -> Int[Tensor, "1 k"]:
    screen = environment.screen
    row = torch.tensor([screen.row_of(screen.vocabulary.parse(environment.name))])
    return target_nodes(screen.batch.rows(row), screen.vocabulary)


def _best(utility: Float[Tensor, "m"]) -> Float[Tensor, ""]:
    return utility.max() if len(utility) else torch.tensor(-torch.inf, dtype=torch.float64)


BOUNDS = 0.9  # level of the bounds that recommenders state
_ITSELF = 1e-9  # a distance that only the target's own measurement has


@dataclass(frozen=True)
class ReachBenchmark:
    """Environments, who chooses in them, and when a target counts as reached."""

    dataset: str  # name of the screen
    environments: Sequence[Environment] = field(repr=False)  # one for each target
    recommenders: Mapping[str, Recommender]  # by their names
    ours: str  # the one that the others are compared with
    tolerance: float  # distance to the target that counts as reached
    known: str  # what is known from the start, for the reader

    def play(self, *, seed: int, workers: int = 1) -> tuple[list[Trace], dict[str, Reached]]:
        """Play all environments with all recommenders."""
        by_name = {each.name: each for each in self.environments}
        traces = list(replay(self.environments, self.recommenders, seeds=[seed], workers=workers))
        results = {
            name: reached([trace for trace in traces if trace.recommender == name], by_name, self.tolerance)
            for name in self.recommenders
        }
        return traces, results


def far_pairs_benchmark(
    *, seed: int, targets: int = 50, start: int = 60, rounds: int = 8, count: int = 16
) -> ReachBenchmark:
    """Reach far pairs of ``laufer2013`` from random ones.

    Raises:
        DataError: If the data are not on this machine.
    """
    screen = without_singles(open_dataset("laufer2013"))
    chosen = far_pairs(screen, 0.05, targets, seed=seed)
    ours = StateLikely()
    return ReachBenchmark(
        "laufer2013",
        reach_environments(screen, chosen, rounds=rounds, count=count, start=start, seed=seed),
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


def doubles_benchmark(*, seed: int, targets: int | None = None, rounds: int = 8, count: int = 8) -> ReachBenchmark:
    """Find each double of ``norman2019_expr`` by its profile, from the singles.

    Raises:
        DataError: If the data are not on this machine.
    """
    screen = open_dataset("norman2019_expr")
    chosen = doubles_of_singles(screen)[:targets]
    ours = StateMatch(ScaledAdditive())
    return ReachBenchmark(
        "norman2019_expr",
        reach_environments(screen, chosen, rounds=rounds, count=count, start=0, seed=seed),
        {"random": RandomChoice(), "match": ours},
        "match",
        _ITSELF,
        "all single effects; no combination",
    )
