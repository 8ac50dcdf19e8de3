"""Replay of a campaign on a fully measured screen, of which a recommender sees what it has paid for."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from time import perf_counter

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.utility import measured_utility
from inverse_design.errors import PlanError
from inverse_design.problem.target import Target, is_state
from inverse_design.recommend.protocol import PERTURBATION, DecisionState, Recommendation, Recommender
from surrogates.data.descriptors import Descriptors
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import (
    NodeBootstrap,
    Row,
    RowStatistic,
    bootstrap_interval,
    mean,
    ratio_of_sums,
    target_nodes,
)
from surrogates.evaluation.workers import in_order


@dataclass(frozen=True)
class Environment:
    """A screen in which everything is measured, and the rules by which it is revealed."""

    screen: Screen = field(repr=False)  # all measured effects, in one context
    target: Target  # where the cells should go
    candidates: Int[Tensor, "c"] = field(repr=False)  # rows of the screen that may be chosen
    before: Int[Tensor, "k"] = field(repr=False)  # rows that are known from the start
    start: int  # how many candidates, drawn at random, are revealed before the first round
    rounds: int  # how many rounds are played; fewer if the candidates run out
    count: int  # how many experiments there are in a round
    name: str = ""  # what to call it
    descriptors: tuple[Descriptors, ...] = field(default=(), repr=False)  # what is known of the genes beside it

    def __post_init__(self) -> None:
        """Refuse candidates that occur twice or are known already, too few of them, and rules without rounds."""
        if len(self.candidates.unique()) < len(self.candidates):
            raise DataError("a candidate is named twice; name each row once")
        if bool(torch.isin(self.candidates, self.before).any()):
            raise DataError("a row is both known from the start and a candidate; make it one of the two")
        if self.rounds < 1 or self.count < 1 or self.start < 0:
            raise DataError(
                f"{self.rounds} rounds of {self.count} after {self.start} random ones are no replay; take at"
                " least one round of one experiment"
            )
        if self.start + self.count > len(self.candidates):
            raise DataError(
                f"{self.start} random experiments and a round of {self.count} need more than the"
                f" {len(self.candidates)} candidates; take fewer"
            )

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def utility(self) -> Float[Tensor, "c"]:
        """What each candidate is worth: the hidden truth."""
        return measured_utility(self.target, self.screen.rows(self.candidates))

    def state(self, rows: Int[Tensor, "m"]) -> DecisionState:
        """Show what was measured of some candidates, in their order, behind what was known from the start."""
        known = self.screen.rows(torch.cat([self.before, self.candidates[rows]]))
        return DecisionState(
            measured=replace(
                known, standard_errors=None, annotations=pd.DataFrame(index=range(len(known))), provenance={}
            ),
            target=self.target,
            candidates=self.screen.batch.rows(self.candidates),
            started=len(self.before),
            describe=partial(tuple, self.descriptors),
        )

    def numbers(self, answer: Recommendation) -> Int[Tensor, "q"]:
        """Find the numbers of recommended candidates."""
        found = []
        for label in map(str, answer.table[PERTURBATION]):
            if label not in self._number:
                raise PlanError(f"{label!r} is recommended, which is none of the {len(self)} candidates")
            found.append(self._number[label])
        return torch.tensor(found, dtype=torch.int64)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {self.screen.labels[row]: number for number, row in enumerate(self.candidates.tolist())}


def pairs_environment(
    screen: Screen,
    target: Target,
    *,
    start: int,
    rounds: int,
    count: int,
    name: str = "",
    descriptors: tuple[Descriptors, ...] = (),
) -> Environment:
    """Take the combinations of a screen as candidates; what was measured alone is known."""
    order = screen.batch.order
    return Environment(
        screen,
        target,
        torch.nonzero(order > 1).flatten(),
        torch.nonzero(order == 1).flatten(),
        start,
        rounds,
        count,
        name,
        descriptors,
    )


NEXT_ROUND = 1_000_003  # more than anybody's number of seeds, so that no two rounds draw alike
FOUND, REGRET, COVERAGE, MORE, TIMES = "found", "regret", "coverage", "found_more", "found_ratio"


@dataclass(frozen=True)
class Trace:
    """One replay as it was played."""

    environment: str  # its name
    recommender: str  # its name
    seed: int  # what fixed the random start and the recommender
    rows: Int[Tensor, "m"]  # candidates in the order in which they were measured, the random start first
    sizes: tuple[int, ...]  # how many were measured at the start and in each round
    lower: Float[Tensor, "m"]  # lower bound on the utility, stated before; ``nan`` where none was
    upper: Float[Tensor, "m"]  # upper bound
    seconds: float = field(compare=False)  # how long the recommender took, in all rounds; not compared


@dataclass(frozen=True)
class PermutedFeedback:
    """A recommender that is misled: the results are shuffled among the experiments in every round.

    One that does not do worse under this than without has learnt nothing from its experiments.
    """

    recommender: Recommender  # which is misled

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Shuffle, and let the recommender choose."""
        known, effects = state.started, state.measured.effects
        order = torch.randperm(len(effects) - known, generator=torch.Generator().manual_seed(seed))
        shuffled = torch.cat([effects[:known], effects[known:][order]])
        misled = replace(state, measured=replace(state.measured, effects=shuffled))
        return self.recommender.recommend(misled, count, pending=pending, seed=seed)


def play(environment: Environment, recommender: Recommender, *, seed: int, name: str = "") -> Trace:
    """Replay one campaign."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(environment), generator=generator)[: environment.start]
    sizes, seconds = [len(rows)], 0.0
    bounds = [torch.full((2, environment.start), torch.nan, dtype=torch.float64)]
    for number in range(environment.rounds):
        count = min(environment.count, len(environment) - len(rows))
        if count == 0:
            break
        state, seed_now = environment.state(rows), seed + NEXT_ROUND * (number + 1)
        begun = perf_counter()
        answer = recommender.recommend(state, count, pending=(), seed=seed_now)
        seconds += perf_counter() - begun
        rows = torch.cat([rows, _fair(environment, answer, rows, count, name)])
        sizes.append(count)
        bounds.append(_stated(environment, answer))
    lower, upper = torch.cat(bounds, 1)
    return Trace(environment.name, name, seed, rows, tuple(sizes), lower, upper, seconds)


def replay(
    environments: Sequence[Environment],
    recommenders: Mapping[str, Recommender],
    *,
    seeds: Sequence[int],
    workers: int = 1,
) -> Iterator[Trace]:
    """Play every environment with every recommender and every seed."""
    tasks = [
        (environment, recommenders[name], seed, name)
        for environment in environments
        for name in recommenders
        for seed in seeds
    ]
    return in_order(_play, tasks, workers=workers)


def _play(task: tuple[Environment, Recommender, int, str]) -> Trace:
    environment, recommender, seed, name = task
    return play(environment, recommender, seed=seed, name=name)


def _stated(environment: Environment, answer: Recommendation) -> Float[Tensor, "2 q"]:
    """Bounds on utilities: those of outcomes, and with the sign turned where a distance is to be small."""
    table = answer.table.reindex(columns=["lower", "upper"])
    lower, upper = (torch.tensor(table[name].to_numpy(dtype=float)) for name in table)
    return torch.stack([-upper, -lower] if is_state(environment.target) else [lower, upper])


def _fair(
    environment: Environment, answer: Recommendation, measured: Int[Tensor, "m"], count: int, name: str
) -> Int[Tensor, "q"]:
    rows = environment.numbers(answer)
    said = f"recommender {name!r} named"
    if len(rows) != count:
        raise PlanError(f"{said} {len(rows)} experiments where {count} were wanted")
    if bool(torch.isin(rows, measured).any()):
        first = int(torch.isin(rows, measured).nonzero()[0])
        raise PlanError(f"{said} {answer.table[PERTURBATION].iloc[first]!r}, which is measured already")
    return rows


def best_so_far(environment: Environment, trace: Trace) -> Float[Tensor, "t"]:
    """Follow the best measured utility."""
    reached = torch.cat([torch.tensor([-torch.inf]), environment.utility[trace.rows]]).cummax(0).values
    return reached[_ends(trace)]


def simple_regret(environment: Environment, trace: Trace) -> Float[Tensor, "t"]:
    """Follow how far the best measured utility is below the best of all candidates."""
    return environment.utility.max() - best_so_far(environment, trace)


def best_found(environment: Environment, trace: Trace, *, top: int) -> Bool[Tensor, "t m"]:
    """Follow which of the truly best candidates were measured."""
    best, never = best_candidates(environment, top=top), len(trace.rows)
    when = torch.full((len(environment.utility),), never)
    when[trace.rows] = torch.arange(never)
    return when[best] < _ends(trace)[:, None]


def best_candidates(environment: Environment, *, top: int) -> Int[Tensor, "m"]:
    """List the truly best candidates."""
    if not 1 <= top <= len(environment.utility):
        raise DataError(f"the best {top} of {len(environment.utility)} candidates; take between 1 and all of them")
    return environment.utility.argsort(descending=True, stable=True)[:top]


def within_bounds(environment: Environment, trace: Trace) -> Float[Tensor, "m"]:
    """Say of each experiment whether its utility was within the bounds that were stated before."""
    utility = environment.utility[trace.rows]
    within = ((trace.lower <= utility) & (utility <= trace.upper)).double()
    return torch.where(trace.lower.isnan() | trace.upper.isnan(), torch.nan, within)


def _ends(trace: Trace) -> Tensor:
    return torch.tensor(trace.sizes).cumsum(0)


def replay_rows(
    environment: Environment, traces: Sequence[Trace], *, reference: str, top: int, level: float, seed: int
) -> list[Row]:
    """Average the curves of each recommender over seeds."""
    by_name = _by_name(traces, reference)
    best = _Resampled.of(environment, best_candidates(environment, top=top), seed)
    last: dict[str, Float[Tensor, "s m"]] = {}
    rows = []
    for name, played in by_name.items():
        row = partial(Row, "replay", environment.name, name, "")
        found = torch.stack([best_found(environment, trace, top=top) for trace in played]).double()
        last[name] = found[:, -1]
        for number, one in enumerate(found.unbind(1)):
            value, bounds = best.mean(one, lowest=0.0)
            rows.append(row(f"round {number}", FOUND, value, *bounds, len(played), "share"))
        regret = torch.stack([simple_regret(environment, trace) for trace in played])
        for number, one in enumerate(regret.unbind(1)):
            if bool(one.isfinite().all()):
                bounds = _over_seeds(mean(one), len(one), seed)
                rows.append(row(f"round {number}", REGRET, float(one.mean()), *bounds, len(one), "utility"))
        rows += _coverage_rows(environment, played, level, row, seed)
    for name in by_name:
        if name != reference:
            row = partial(Row, "replay", environment.name, name, "")
            value, bounds = best.mean(last[name] - last[reference], lowest=-1.0)
            rows.append(row(f"than {reference}", MORE, value, *bounds, len(last[name]), "share"))
            value, bounds = best.ratio(last[name], last[reference])
            rows.append(row(f"to {reference}", TIMES, value, *bounds, len(last[name]), "ratio"))
    return rows


def _by_name(traces: Sequence[Trace], reference: str) -> dict[str, list[Trace]]:
    by_name: dict[str, list[Trace]] = {}
    for trace in traces:
        by_name.setdefault(trace.recommender, []).append(trace)
    if reference not in by_name:
        raise DataError(f"the recommender {reference!r} was not played, only {', '.join(by_name)}")
    seeds = {name: [trace.seed for trace in played] for name, played in by_name.items()}
    if odd := [name for name in seeds if seeds[name] != seeds[reference]]:
        raise DataError(
            f"{odd[0]!r} was played with the seeds {seeds[odd[0]]}, {reference!r} with {seeds[reference]}; paired"
            " differences need the same"
        )
    return by_name


def _coverage_rows(
    environment: Environment, played: Sequence[Trace], level: float, row: partial[Row], seed: int
) -> Iterator[Row]:
    """Coverage of each round in which every seed stated bounds."""
    ends = torch.tensor(played[0].sizes).cumsum(0).tolist()
    within = torch.stack([within_bounds(environment, trace) for trace in played])
    rows = torch.stack([trace.rows for trace in played])
    for number, (start, stop) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
        held = within[:, start:stop]
        if stop == start or bool(held.isnan().all(1).any()):
            continue
        stated, place = rows[:, start:stop][~held.isnan()].unique(return_inverse=True)
        some = _Resampled.of(environment, stated, seed)
        at = torch.nonzero(~held.isnan())[:, 0]
        hits = torch.zeros(len(played), len(stated), dtype=torch.float64)
        hits[at, place] = held[~held.isnan()]
        asked = torch.zeros_like(hits)
        asked[at, place] = 1.0
        value, bounds = some.ratio(hits, asked)
        bounds = (max(0.0, bounds[0]), min(1.0, bounds[1]))
        yield row(f"round {number}, nominal {level:g}", COVERAGE, value, *bounds, len(played), "share")


@dataclass(frozen=True)
class _Resampled:
    """Some candidates of an environment, with draws of their genes."""

    genes: NodeBootstrap
    seed: int

    @classmethod
    def of(cls, environment: Environment, candidates: Int[Tensor, "m"], seed: int) -> "_Resampled":
        nodes = target_nodes(
            environment.screen.batch.rows(environment.candidates[candidates]), environment.screen.vocabulary
        )
        return cls(NodeBootstrap.of(nodes, seed=seed), seed)

    def mean(self, values: Float[Tensor, "s m"], *, lowest: float) -> tuple[float, tuple[float, float]]:
        """Average over seeds and candidates; no value is below ``lowest`` or above one."""
        value, by_seed = float(values.mean()), values.mean(1)
        over_seeds = _over_seeds(mean(by_seed), len(values), self.seed)
        low, high = _both(value, over_seeds, self.genes.interval(values.mean(0)))
        return value, (max(lowest, low), min(1.0, high))

    def ratio(
        self, numerator: Float[Tensor, "s m"], denominator: Float[Tensor, "s m"]
    ) -> tuple[float, tuple[float, float]]:
        """Divide sums: seeds and candidates in which the denominator is zero do no harm."""
        value = float(numerator.sum() / denominator.sum())
        over_seeds = _over_seeds(ratio_of_sums(numerator.sum(1), denominator.sum(1)), len(numerator), self.seed)
        return value, _both(
            value, over_seeds, self.genes.interval(ratio_of_sums(numerator.sum(0), denominator.sum(0)))
        )


def _over_seeds(statistic: RowStatistic, n: int, seed: int) -> tuple[float, float]:
    return bootstrap_interval(statistic, n, seed=seed)


def _both(value: float, *bounds: tuple[float, float]) -> tuple[float, float]:
    """Add the distances of independent bounds from the value in squares."""
    below, above = (math.hypot(*(each[side] - value for each in bounds)) for side in (0, 1))
    return value - below, value + above
