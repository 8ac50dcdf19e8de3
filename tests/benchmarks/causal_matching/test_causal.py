"""Worlds, targets and rows of causal target matching."""

from dataclasses import replace

import pytest
import torch
from strategies.shifts import small_game

from benchmarks.causal_matching.environment import ShiftPlayer
from benchmarks.causal_matching.policies import RandomShift
from benchmarks.causal_matching.protocol import OURS, PLAYERS, causal_protocol, hidden_shift
from benchmarks.causal_matching.replay import ShiftTrace, play_shifts
from benchmarks.causal_matching.rows import causal_rows
from surrogates.errors import DataError


def by_hand(distance: list[float], upper: list[float], *, player: str) -> ShiftTrace:
    trace = play_shifts(small_game(rounds=2, count=3), ShiftPlayer(RandomShift()), name=player)
    numbers = torch.tensor(distance, dtype=torch.float64)
    bound = torch.tensor(upper, dtype=torch.float64)
    return replace(
        trace,
        distance=numbers,
        plug_in=2 * numbers,
        nearest=3 * numbers,
        expected=numbers,
        lower=0 * bound,
        upper=bound,
    )


def test_rows_say_how_near_how_much_farther_and_which_bounds_held() -> None:
    slow = [
        by_hand([1.0, 0.8, 0.6], [2, 2, 2], player="slow"),
        by_hand([1.0, 0.4, 0.2], [2, 2, 0.1], player="slow"),
    ]
    quick = [
        by_hand([1.0, 0.2, 0.1], [2, 0.1, 0.2], player="quick"),
        by_hand([1.0, 0.2, 0.3], [2, 2, 2], player="quick"),
    ]
    rows = causal_rows({"path": {"slow": slow, "quick": quick}}, ours="quick", level=0.9, seed=0)
    assert {(row.benchmark, row.dataset, row.n) for row in rows} == {("replay", "causal path", 2)}
    found = {(row.model, row.metric, row.variant): row for row in rows}
    assert found["slow", "distance", "0 experiments"].value == 1
    assert found["slow", "distance", "6 experiments"].value == pytest.approx(0.4)
    assert found["slow", "distance_plug_in", "6 experiments"].value == pytest.approx(0.8)
    assert found["slow", "distance_nearest", "3 experiments"].value == pytest.approx(1.8)
    assert found["slow", "distance_more", "at the end, than quick"].value == pytest.approx(0.2)
    assert found["slow", "distance_ratio", "at the end, than quick"].value == pytest.approx(2)
    assert found["slow", "distance_ratio", "mean of all rounds, than quick"].value == pytest.approx(0.5 / 0.2)
    more = found["slow", "distance_more", "at the end, than quick"]
    assert more.low == pytest.approx(-0.1)
    assert more.high == pytest.approx(0.5)
    assert found["slow", "coverage", "nominal 0.9, after 3 experiments"].value == 1
    assert found["slow", "coverage", "nominal 0.9, after 6 experiments"].value == 0.5
    assert found["quick", "coverage", "nominal 0.9, after every round"].value == 0.75
    assert not [row for row in rows if row.model == "quick" and row.metric in {"distance_more", "distance_ratio"}]


def test_a_target_is_the_mean_of_a_shift_that_is_allowed() -> None:
    protocol = causal_protocol(seed=3, worlds=2, genes=6, shifted=2, rounds=1, count=1)
    assert list(protocol.games) == ["path", "scale-free", "dense"]
    names = [game.name for games in protocol.games.values() for game in games]
    assert len(set(names)) == 6
    for games in protocol.games.values():
        for game in games:
            shift = torch.linalg.solve(game.world.total.T, game.target)
            assert int((shift.abs() > 1e-9).sum()) == 2
            assert float(shift.norm()) == pytest.approx(game.budget)
            assert float(game.distance(shift[None])) == pytest.approx(0, abs=1e-12)
            assert float(game.distance(0 * shift[None])) == pytest.approx(1)
    one, two = protocol.games["path"]
    assert not torch.equal(one.world.edges, two.world.edges)
    other = causal_protocol(seed=4, worlds=1, genes=6, shifted=2, rounds=1, count=1)
    assert torch.equal(two.world.edges, other.games["path"][0].world.edges)


def test_the_protocol_is_played_by_all() -> None:
    protocol = causal_protocol(seed=0, worlds=1, genes=4, shifted=2, rounds=1, count=1)
    played = protocol.play()
    assert set(played) == set(protocol.games)
    for family, players in played.items():
        assert list(players) == list(PLAYERS)
        for traces in players.values():
            assert [trace.game for trace in traces] == [game.name for game in protocol.games[family]]


def test_whoever_is_lied_to_is_farther_from_the_target() -> None:
    told, lied = OURS, f"{OURS}, all permuted"
    protocol = replace(
        causal_protocol(seed=0, worlds=2, genes=5, shifted=2, noise=0.05, rounds=3, count=2),
        players={name: PLAYERS[name] for name in (told, lied)},
    )
    end = dict.fromkeys(protocol.players, 0.0)
    for players in protocol.play().values():
        for name, traces in players.items():
            end[name] += sum(float(trace.distance[-1]) for trace in traces)
    assert end[told] < 0.2 * end[lied]


def test_the_hidden_shift_has_norm_one() -> None:
    shift = hidden_shift(9, 4, seed=1)
    assert float(shift.norm()) == pytest.approx(1)
    assert int((shift != 0).sum()) == 4


def test_no_worlds_and_too_few_genes_are_refused() -> None:
    with pytest.raises(DataError, match="7 of 6 genes"):
        causal_protocol(seed=0, worlds=1, genes=6, shifted=7)
    with pytest.raises(DataError, match=r"0 world\(s\)"):
        causal_protocol(seed=0, worlds=0)
