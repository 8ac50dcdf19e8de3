"""Numbers of a replay: means over seeds, and paired differences."""

import math
from dataclasses import replace

import pytest
import torch
from strategies.replays import coverage, share_found
from strategies.screens import pairs_of, planted_screen

from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.protocol import AdditiveRanking, RandomChoice
from inverse_design.validate.replay import (
    FOUND,
    MORE,
    REGRET,
    TIMES,
    Environment,
    Trace,
    pairs_environment,
    replay,
    replay_rows,
    simple_regret,
)
from surrogates.errors import DataError
from surrogates.evaluation.intervals import bootstrap_interval, node_bootstrap_interval

RECOMMENDERS = {"random": RandomChoice(), "additive": AdditiveRanking()}


def played() -> tuple[Environment, list[Trace]]:
    screen = planted_screen(alone=range(10), together=pairs_of(10, 40), readouts=2)
    target = ScalarTarget(screen.readouts[0], "minimise")
    environment = pairs_environment(screen, target, start=5, rounds=2, count=5, name="planted")
    return environment, list(replay([environment], RECOMMENDERS, seeds=range(4)))


def test_rows_are_means_over_seeds_and_differences_are_paired() -> None:
    environment, traces = played()
    rows = replay_rows(environment, traces, reference="random", top=8, level=0.9, seed=0)
    by_place = {(row.model, row.metric, row.variant): row for row in rows}
    found = {
        name: [float(share_found(environment, t, top=8)[-1]) for t in traces if t.recommender == name]
        for name in RECOMMENDERS
    }
    for name, values in found.items():
        row = by_place[name, FOUND, "round 2"]
        assert row.value == pytest.approx(sum(values) / 4)
        assert row.low <= row.value <= row.high
        assert row.n == 4
    more = by_place["additive", MORE, "than random"]
    apart = [one - other for one, other in zip(found["additive"], found["random"], strict=True)]
    assert more.value == pytest.approx(sum(apart) / 4)
    assert more.low < more.value < more.high
    ratio = by_place["additive", TIMES, "to random"].value
    assert ratio == pytest.approx(sum(found["additive"]) / sum(found["random"]))
    regret = [float(simple_regret(environment, t)[1]) for t in traces if t.recommender == "random"]
    assert by_place["random", REGRET, "round 1"].value == pytest.approx(sum(regret) / 4)
    assert not any(row.metric == "coverage" for row in rows)
    assert all(math.isfinite(row.value) for row in rows)


def test_the_interval_holds_what_seeds_and_what_genes_could_have_changed() -> None:
    environment, traces = played()
    rows = replay_rows(environment, traces, reference="random", top=8, level=0.9, seed=0)
    (row,) = (row for row in rows if (row.model, row.metric, row.variant) == ("random", FOUND, "round 2"))
    best = environment.utility.argsort(descending=True)[:8]
    hits = torch.stack(
        [torch.isin(best, trace.rows) for trace in traces if trace.recommender == "random"]
    ).double()
    nodes = environment.screen.batch.genes[environment.candidates[best]]
    of_seeds = bootstrap_interval(lambda drawn: hits.mean(1)[drawn].mean(1), 4, seed=0)
    of_genes = node_bootstrap_interval(hits.mean(0), nodes, seed=0)
    mean = float(hits.mean())
    for side, bound in enumerate((row.low, row.high)):
        apart = [abs(each[side] - mean) for each in (of_seeds, of_genes)]
        assert all(each > 0 for each in apart)
        assert abs(bound - mean) == pytest.approx((apart[0] ** 2 + apart[1] ** 2) ** 0.5)


def test_coverage_is_that_of_the_curves_and_stays_a_share() -> None:
    environment, traces = played()
    half = [
        replace(
            trace,
            lower=torch.full((15,), -10.0).double(),
            upper=environment.utility[trace.rows] - 1.0 * (trace.rows < 9),
        )
        for trace in traces
    ]
    for trace in half:
        trace.lower[:5] = torch.nan
    rows = replay_rows(environment, half, reference="random", top=8, level=0.9, seed=0)
    (row,) = (row for row in rows if (row.model, row.variant) == ("random", "round 1, nominal 0.9"))
    wanted = [float(coverage(environment, trace)[1]) for trace in half if trace.recommender == "random"]
    assert row.value == pytest.approx(sum(wanted) / 4)
    assert 0 <= row.low < row.value < row.high <= 1


def test_what_cannot_be_compared_is_refused() -> None:
    environment, traces = played()
    with pytest.raises(DataError, match="'greedy' was not played"):
        replay_rows(environment, traces, reference="greedy", top=8, level=0.9, seed=0)
    with pytest.raises(DataError, match="need the same"):
        replay_rows(environment, traces[:-1], reference="random", top=8, level=0.9, seed=0)
