"""Policies that reach a state: they find it in a world of additive profiles, and chance does not."""

from dataclasses import replace

import pytest
import torch

from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.recommend.environment import Game, Policy
from inverse_design.recommend.fixed import RandomChoice
from inverse_design.recommend.state_effects import learn_effects
from inverse_design.recommend.states import (
    StateGreedy,
    StateLikely,
    StateMatch,
    StateProcess,
    StateStatic,
    StateTrial,
)
from inverse_design.validate.replay import PermutedFeedback, play
from inverse_design.validate.replay_states import profile_of, reach_games, reached
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.additive import Additive

TOLERANCE = 0.05
# BoTorch imports what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def _world(*, singles: bool, genes: int = 20) -> Screen:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(genes, 4, generator=generator, dtype=torch.float64)
    names = [Intervention(f"G{number:02}") for number in range(genes)]
    pairs = torch.combinations(torch.arange(genes))
    done = [Perturbation((names[i], names[j])) for i, j in pairs.tolist()]
    effects = truth[pairs].sum(1)
    if singles:
        done, effects = [*(Perturbation((name,)) for name in names), *done], torch.cat([truth, effects])
    return Screen.from_labels(
        effects + 0.01 * torch.randn(effects.shape, generator=generator, dtype=torch.float64),
        done,
        ("a", "b", "c", "d"),
    )


@pytest.fixture(scope="module")
def games() -> list[Game]:
    screen = _world(singles=False)
    return reach_games(screen, torch.tensor([3, 60, 120, 180]), rounds=3, count=4, start=20, seed=0)


def _rounds(games: list[Game], policy: Policy) -> float:
    traces = [play(game, policy, seed=0) for game in games]
    return float(reached(traces, {game.name: game for game in games}, TOLERANCE).rounds.mean())


@pytest.mark.parametrize("policy", [StateLikely(), StateGreedy(), StateStatic(20), StateProcess()], ids=repr)
def test_profiles_lead_to_the_target_where_chance_does_not(games: list[Game], policy: Policy) -> None:
    assert _rounds(games, policy) <= _rounds(games, RandomChoice()) / 2


def test_feedback_that_is_permuted_leads_nowhere(games: list[Game]) -> None:
    assert _rounds(games, PermutedFeedback(StateLikely())) > 1.5 * _rounds(games, StateLikely())


def test_the_same_seed_chooses_the_same_and_another_one_does_not(games: list[Game]) -> None:
    first, again, other = (play(games[0], StateLikely(), seed=seed).rows[20:] for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


def test_bounds_of_draws_hold(games: list[Game]) -> None:
    traces = [play(game, StateLikely(), seed=0) for game in games]
    result = reached(traces, {game.name: game for game in games}, TOLERANCE)
    assert 0.7 <= float(result.covered.mean()) <= 1


def test_half_of_a_round_is_the_likeliest_and_half_the_nearest(games: list[Game]) -> None:
    pool, known = games[1].pool, games[1].reveal(torch.arange(25))
    fitted, free = learn_effects(pool, known), known.open_rows(pool)
    marks, wanted = pool.candidates.rows(free).multi_hot(20), pool.target.on(pool.before.readouts).values
    covariance = fitted.axes @ torch.diag_embed(fitted.variance(marks)) @ fitted.axes.T
    density = torch.distributions.MultivariateNormal(fitted.predict(marks), covariance).log_prob(wanted)
    distance = (fitted.predict(marks) - wanted).norm(dim=1)
    rows = StateLikely().choose(pool, known, 6, seed=0).rows
    chosen = torch.isin(free, rows)
    assert len(rows.unique()) == 6
    # Pairs of genes that were never measured are as likely as each other.
    assert int((density[chosen] >= density.topk(3).values[-1] - 1e-9).sum()) >= 3
    assert int((distance[chosen] <= distance.topk(3, largest=False).values[-1] + 1e-9).sum()) >= 3
    best = torch.maximum(
        density - density.topk(6).values[-1], distance.topk(6, largest=False).values[-1] - distance
    )
    assert bool((best[chosen] >= -1e-9).all())


def test_readouts_that_the_target_leaves_open_do_not_count(games: list[Game]) -> None:
    game = games[2]
    assert isinstance(game.target, ProfileTarget)
    target = ProfileTarget("some", game.target.readouts[1:3], game.target.values[1:3])
    narrow = replace(game, target=target)
    loud = game.screen.effects * torch.tensor([5.0, 1.0, 1.0, -9.0], dtype=torch.float64)
    other = replace(narrow, screen=replace(game.screen, effects=loud))
    first, second = (play(one, StateLikely(), seed=0) for one in (narrow, other))
    assert first.rows.equal(second.rows)
    torch.testing.assert_close(first.upper, second.upper, equal_nan=True)


def test_a_direction_has_no_likeliest_candidate(games: list[Game]) -> None:
    with pytest.raises(DataError, match="is a direction"):
        play(replace(games[0], target=ScalarTarget("a", "maximise")), StateLikely(), seed=0)


def test_a_static_list_does_not_change_with_what_is_revealed(games: list[Game]) -> None:
    pool, rows = games[0].pool, torch.arange(30)
    listed = StateStatic(20).choose(pool, games[0].reveal(rows), 5, seed=0).rows
    lied = PermutedFeedback(StateStatic(20)).choose(pool, games[0].reveal(rows), 5, seed=0).rows
    same = StateStatic(20).choose(pool, games[0].reveal(rows[:25]), 200, seed=0).rows
    assert listed.equal(same[~torch.isin(same, rows)][:5])
    assert not listed.equal(lied)


def test_bounds_of_the_process_can_be_sent_to_another_python(games: list[Game]) -> None:
    game = games[0]
    choice = StateProcess().choose(game.pool, game.reveal(torch.arange(20)), 3, seed=0)
    assert choice.lower is not None
    assert choice.upper is not None
    assert not choice.lower.requires_grad
    assert bool((choice.lower < choice.upper).all())


def test_optuna_chooses_candidates_that_are_left(games: list[Game]) -> None:
    trace = play(games[0], StateTrial(), seed=0)
    assert len(trace.rows.unique()) == 20 + 3 * 4


def test_optuna_refuses_what_is_no_pair() -> None:
    screen = _world(singles=True)
    game = Game(screen, profile_of(screen, 30), torch.arange(40), torch.tensor([50]), 3, 1, 2)
    with pytest.raises(DataError, match="no pairs"):
        play(game, StateTrial(), seed=0)


def test_singles_alone_find_a_double_at_once() -> None:
    screen = _world(singles=True)
    games = reach_games(screen, torch.tensor([30, 70, 200]), rounds=2, count=3, start=0, seed=0)
    assert _rounds(games, StateMatch(Additive())) == 1
