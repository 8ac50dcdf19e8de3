"""Numbers of a replay: means over seeds, and paired differences."""

import math

import pytest
from strategies.screens import pairs_of, planted_screen

from inverse_design.benchmark.replay_rows import FOUND, MORE, REGRET, TIMES, replay_rows
from inverse_design.campaign.curves import share_found, simple_regret
from inverse_design.campaign.game import Game, pairs_game
from inverse_design.campaign.policies.fixed import AdditiveRanking, RandomChoice
from inverse_design.campaign.replay import Trace, replay
from inverse_design.problem.target import ScalarTarget
from surrogates.errors import DataError

POLICIES = {"random": RandomChoice(), "additive": AdditiveRanking()}


def played() -> tuple[Game, list[Trace]]:
    screen = planted_screen(alone=range(10), together=pairs_of(10, 40), readouts=2)
    target = ScalarTarget(screen.readouts[0], "minimise")
    game = pairs_game(screen, target, start=5, rounds=2, count=5, name="planted")
    return game, list(replay([game], POLICIES, seeds=range(4)))


def test_rows_are_means_over_seeds_and_differences_are_paired() -> None:
    game, traces = played()
    rows = replay_rows(game, traces, reference="random", top=8, level=0.9, seed=0)
    by_place = {(row.model, row.metric, row.variant): row for row in rows}
    found = {
        name: [float(share_found(game, t, top=8)[-1]) for t in traces if t.policy == name] for name in POLICIES
    }
    for name, values in found.items():
        row = by_place[name, FOUND, "round 2"]
        assert row.value == pytest.approx(sum(values) / 4)
        assert row.low <= row.value <= row.high
        assert row.n == 4
    more = by_place["additive", MORE, "than random"]
    apart = [one - other for one, other in zip(found["additive"], found["random"], strict=True)]
    assert more.value == pytest.approx(sum(apart) / 4)
    assert min(apart) <= more.low <= more.high <= max(apart)
    ratio = by_place["additive", TIMES, "to random"].value
    assert ratio == pytest.approx(sum(found["additive"]) / sum(found["random"]))
    regret = [float(simple_regret(game, t)[1]) for t in traces if t.policy == "random"]
    assert by_place["random", REGRET, "round 1"].value == pytest.approx(sum(regret) / 4)
    assert not any(row.metric == "coverage" for row in rows)
    assert all(math.isfinite(row.value) for row in rows)


def test_what_cannot_be_compared_is_refused() -> None:
    game, traces = played()
    with pytest.raises(DataError, match="'greedy' was not played"):
        replay_rows(game, traces, reference="greedy", top=8, level=0.9, seed=0)
    with pytest.raises(DataError, match="need the same"):
        replay_rows(game, traces[:-1], reference="random", top=8, level=0.9, seed=0)
