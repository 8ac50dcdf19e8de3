"""How recommenders did in one environment, over many seeds: curves with intervals, and paired differences.

Two things could have been others: what a seed drew, and which genes the screen happens to hold; a few genes carry
most of the best pairs. Each is resampled alone, and as they are independent, their distances from the mean are
added in squares on either side.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.validate.environment import Environment
from inverse_design.validate.replay import Trace, best_candidates, best_found, simple_regret, within_bounds
from surrogates.errors import DataError
from surrogates.evaluation.metrics import RowStatistic, bootstrap_interval, ratio_of_sums
from surrogates.evaluation.node_intervals import NodeBootstrap, target_nodes
from surrogates.evaluation.row_metrics import mean
from surrogates.evaluation.rows import Row

FOUND, REGRET, COVERAGE, MORE, TIMES = "found", "regret", "coverage", "found_more", "found_ratio"


def replay_rows(
    environment: Environment, traces: Sequence[Trace], *, reference: str, top: int, level: float, seed: int
) -> list[Row]:
    """Average the curves of each recommender over seeds.

    Raises:
        DataError: If the seeds of two recommenders differ, or the reference was not played.
    """
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
