"""Games of shifts: what is judged, what is lied about, and what is refused."""

from dataclasses import dataclass, replace

import pytest
import torch
from strategies.shifts import small_game, some_tried

from benchmarks.causal_matching.environment import Purpose, ShiftGame, ShiftPlayer, ShiftProblem, Tried, stream
from benchmarks.causal_matching.graphs import StructuralWorld
from benchmarks.causal_matching.policies import ForesightShift, GreedyShift, RandomShift
from benchmarks.causal_matching.protocol import causal_protocol
from benchmarks.causal_matching.replay import ShiftTrace, play_shifts, replay_shifts
from inverse_design.errors import PlanError
from surrogates.errors import DataError


@dataclass(frozen=True)
class Fixed:
    shifts: tuple[tuple[float, ...], ...]

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> torch.Tensor:
        del problem, tried, count, seed
        return torch.tensor(self.shifts, dtype=torch.float64)


@dataclass(frozen=True)
class Eavesdropping:
    """Random shifts that write down with which seeds they were asked for."""

    seen: list[int]

    def choose(self, problem: ShiftProblem, tried: Tried, count: int, *, seed: int) -> torch.Tensor:
        self.seen.append(seed)
        return RandomShift().choose(problem, tried, count, seed=seed)


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


def noise_of(game: ShiftGame, trace: ShiftTrace) -> torch.Tensor:
    """What was added to each gene beside the shift, round by round, in standard deviations."""
    own = trace.tried.states - trace.tried.states @ game.world.edges - trace.tried.shifts
    return (own / game.world.noise).reshape(game.rounds, -1)


def test_random_shifts_are_not_the_noise_that_they_are_measured_with() -> None:
    game = small_game(genes=30, rounds=4, count=10)
    trace = play_shifts(game, ShiftPlayer(RandomShift()))
    shifts = torch.nn.functional.normalize(trace.tried.shifts.reshape(4, -1))
    noise = torch.nn.functional.normalize(noise_of(game, trace))
    # Of 300 numbers each, in every pair of rounds: 0.3 is five standard deviations.
    assert float((shifts @ noise.T).abs().max()) < 0.3


def test_no_two_families_worlds_and_rounds_have_the_same_noise() -> None:
    protocol = causal_protocol(seed=0, worlds=5, genes=6, shifted=2, rounds=3, count=2)
    games = [game for family in protocol.games.values() for game in family]
    noise = torch.cat([noise_of(game, play_shifts(game, ShiftPlayer(RandomShift()))) for game in games])
    assert len(noise) == 3 * 5 * 3
    assert float(torch.pdist(noise).min()) > 0.1


def test_policies_and_judges_draw_from_streams_of_their_own() -> None:
    game = small_game(rounds=3)
    seen: list[int] = []
    play_shifts(game, ShiftPlayer(Eavesdropping(seen)))
    purposes: tuple[Purpose, ...] = ("noise", "shuffle", "judge")
    others = {stream(purpose, game.seed, number) for purpose in purposes for number in range(4)}
    assert len(set(seen)) == 3
    assert len(others) == 12
    assert not others & set(seen)


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
