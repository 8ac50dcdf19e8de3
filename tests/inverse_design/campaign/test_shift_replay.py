"""Games of shifts: what is judged, what is lied about, and what is refused."""

from dataclasses import dataclass, replace

import pytest
import torch
from strategies.shifts import small_game, some_tried

from inverse_design.campaign.policies.shifts import ForesightShift, GreedyShift, RandomShift
from inverse_design.campaign.shift_game import ShiftPlayer, ShiftProblem, Tried
from inverse_design.campaign.shift_replay import play_shifts, replay_shifts
from inverse_design.errors import PlanError
from surrogates.data.structural import StructuralWorld
from surrogates.errors import DataError


@dataclass(frozen=True)
class Fixed:
    shifts: tuple[tuple[float, ...], ...]

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> torch.Tensor:
        del problem, tried, count, seed
        return torch.tensor(self.shifts, dtype=torch.float64)


def test_the_judge_knows_the_truth_and_the_posterior_does_not() -> None:
    game = small_game(rounds=3)
    trace = play_shifts(game, ShiftPlayer(RandomShift()), name="random")
    assert len(trace.tried) == 6
    assert len(trace.distance) == len(trace.upper) == 4
    belief = game.problem.believe(trace.tried)
    shift = game.problem.recommend(belief)
    mean = game.world.mean(shift[None])[0]
    gone = (mean - game.target).square().sum() / game.target.square().sum()
    assert float(trace.distance[-1]) == pytest.approx(float(gone))
    assert bool((trace.lower < trace.expected).all())
    assert bool((trace.expected < trace.upper).all())
    measured = (trace.tried.states - game.target).square().sum(1)
    nearest = game.distance(trace.tried.shifts)[measured.argmin()]
    assert float(trace.nearest[-1]) == pytest.approx(float(nearest))
    assert float(trace.nearest[0]) == 1.0


def test_the_truth_is_reached_when_noise_is_small() -> None:
    game = small_game(rounds=8)
    clear = replace(game, world=StructuralWorld(game.world.edges, 0.001))
    trace = play_shifts(clear, ShiftPlayer(RandomShift()))
    assert float(trace.distance[-1]) < 1e-4
    assert float(trace.plug_in[-1]) < 1e-4


def test_a_player_that_is_lied_to_does_not_find_it() -> None:
    game = small_game(rounds=8)
    clear = replace(game, world=StructuralWorld(game.world.edges, 0.001))
    lied = play_shifts(clear, ShiftPlayer(RandomShift(), choosing="permuted", recommending="permuted"))
    assert float(lied.distance[-1]) > 0.02
    told = play_shifts(clear, ShiftPlayer(RandomShift(), choosing="permuted"))
    assert float(told.distance[-1]) < 1e-4


def test_lies_shuffle_states_and_keep_shifts() -> None:
    tried = some_tried(small_game(), 7)
    lied = tried.permuted(seed=1)
    assert torch.equal(lied.shifts, tried.shifts)
    assert not torch.equal(lied.states, tried.states)
    assert torch.equal(lied.states.sort(0).values, tried.states.sort(0).values)


def test_traces_do_not_depend_on_the_number_of_processes() -> None:
    games = [small_game("path"), small_game("dense", seed=1)]
    players = {"greedy": ShiftPlayer(GreedyShift()), "foresight": ShiftPlayer(ForesightShift())}
    alone = list(replay_shifts(games, players))
    crew = list(replay_shifts(games, players, workers=2))
    assert [(trace.game, trace.player) for trace in alone] == [(trace.game, trace.player) for trace in crew]
    assert [trace.player for trace in alone] == ["greedy", "foresight"] * 2
    for one, other in zip(alone, crew, strict=True):
        assert torch.equal(one.distance, other.distance)
        assert torch.equal(one.tried.shifts, other.tried.shifts)


def test_players_meet_the_same_noise() -> None:
    game = small_game(rounds=1)
    traces = [play_shifts(game, ShiftPlayer(policy)) for policy in (RandomShift(), GreedyShift())]
    one, other = (trace.tried.states - game.world.mean(trace.tried.shifts) for trace in traces)
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("shifts", "said"),
    [
        (((1.0, 0, 0, 0, 0),), "1 experiments where 2"),
        (((0, 0, 0, 0, 1.0), (0, 0, 0, 1.0, 1.0)), "longer than the budget of 1"),
        (((0, 0, 0, 0, 1.0), (0, 0, 0, 1.0, float("nan"))), "not finite"),
    ],
)
def test_choices_that_are_not_allowed_are_refused(shifts: tuple[tuple[float, ...], ...], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        play_shifts(small_game(), ShiftPlayer(Fixed(shifts)), name="fixed")


def test_rules_without_play_are_refused() -> None:
    with pytest.raises(DataError, match="no game"):
        small_game(rounds=0)
    with pytest.raises(DataError, match="no game"):
        replace(small_game(), target=torch.zeros(5, dtype=torch.float64))
