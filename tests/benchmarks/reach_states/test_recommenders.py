"""Recommenders that reach a state: they find it in a world of additive profiles, and chance does not."""

from dataclasses import replace

import pytest
import torch

from benchmarks.reach_states.protocol import measured_profile, reach_environments, reached
from benchmarks.reach_states.recommenders import StateGreedy, StateProcess, StateStatic, StateTrial
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.recommend.protocol import RandomChoice, Recommender
from inverse_design.recommend.states import StateLikely, StateMatch, learn_effects
from inverse_design.validate.replay import Environment, PermutedFeedback, play
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.baselines import Additive

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
def games() -> list[Environment]:
    screen = _world(singles=False)
    return reach_environments(screen, torch.tensor([3, 60, 120, 180]), rounds=3, count=4, start=20, seed=0)


def _rounds(games: list[Environment], recommender: Recommender) -> float:
    traces = [play(game, recommender, seed=0) for game in games]
    return float(reached(traces, {game.name: game for game in games}, TOLERANCE).rounds.mean())


@pytest.mark.parametrize("recommender", [StateLikely(), StateGreedy(), StateStatic(20), StateProcess()], ids=repr)
def test_profiles_lead_to_the_target_where_chance_does_not(
    games: list[Environment], recommender: Recommender
) -> None:
    assert _rounds(games, recommender) <= _rounds(games, RandomChoice()) / 2


def test_feedback_that_is_permuted_leads_nowhere(games: list[Environment]) -> None:
    assert _rounds(games, PermutedFeedback(StateLikely())) > 1.5 * _rounds(games, StateLikely())


def test_the_same_seed_chooses_the_same_and_another_one_does_not(games: list[Environment]) -> None:
    first, again, other = (play(games[0], StateLikely(), seed=seed).rows[20:] for seed in (0, 0, 1))
    assert first.equal(again)
    assert not first.equal(other)


def test_bounds_of_draws_hold(games: list[Environment]) -> None:
    traces = [play(game, StateLikely(), seed=0) for game in games]
    result = reached(traces, {game.name: game for game in games}, TOLERANCE)
    assert 0.7 <= float(result.covered.mean()) <= 1


def test_half_of_a_round_is_the_likeliest_and_half_the_nearest(games: list[Environment]) -> None:
    state = games[1].state(torch.arange(25))
    fitted, left = learn_effects(state.measured), state.open()
    marks, wanted = left.multi_hot(20), state.target.on(state.measured.readouts).values
    covariance = fitted.axes @ torch.diag_embed(fitted.variance(marks)) @ fitted.axes.T
    density = torch.distributions.MultivariateNormal(fitted.predict(marks), covariance).log_prob(wanted)
    distance = (fitted.predict(marks) - wanted).norm(dim=1)
    rows = games[1].numbers(StateLikely().recommend(state, 6, pending=(), seed=0))
    chosen = torch.isin(torch.arange(25, len(games[1])), rows)
    assert len(rows.unique()) == 6
    # Pairs of genes that were never measured are as likely as each other.
    assert int((density[chosen] >= density.topk(3).values[-1] - 1e-9).sum()) >= 3
    assert int((distance[chosen] <= distance.topk(3, largest=False).values[-1] + 1e-9).sum()) >= 3
    best = torch.maximum(
        density - density.topk(6).values[-1], distance.topk(6, largest=False).values[-1] - distance
    )
    assert bool((best[chosen] >= -1e-9).all())


def test_readouts_that_the_target_leaves_open_do_not_count(games: list[Environment]) -> None:
    game = games[2]
    assert isinstance(game.target, ProfileTarget)
    target = ProfileTarget("some", game.target.readouts[1:3], game.target.values[1:3])
    narrow = replace(game, target=target)
    loud = game.screen.effects * torch.tensor([5.0, 1.0, 1.0, -9.0], dtype=torch.float64)
    other = replace(narrow, screen=replace(game.screen, effects=loud))
    first, second = (play(one, StateLikely(), seed=0) for one in (narrow, other))
    assert first.rows.equal(second.rows)
    torch.testing.assert_close(first.upper, second.upper, equal_nan=True)


def test_a_direction_has_no_likeliest_candidate(games: list[Environment]) -> None:
    with pytest.raises(DataError, match="is a direction"):
        play(replace(games[0], target=ScalarTarget("a", "maximise")), StateLikely(), seed=0)


def test_a_static_list_does_not_change_with_what_is_revealed(games: list[Environment]) -> None:
    game, static = games[0], StateStatic(20)

    def listed(known: int, count: int, recommender: Recommender = static) -> torch.Tensor:
        return game.numbers(recommender.recommend(game.state(torch.arange(known)), count, pending=(), seed=0))

    same = listed(25, 150)
    assert listed(30, 5).equal(same[~torch.isin(same, torch.arange(30))][:5])
    assert not listed(30, 5).equal(listed(30, 5, PermutedFeedback(static)))


def test_the_process_bounds_what_it_predicts(games: list[Environment]) -> None:
    game = games[0]
    table = StateProcess().recommend(game.state(torch.arange(20)), 3, pending=(), seed=0).table
    assert (table["lower"] < table["predicted"]).all()
    assert (table["predicted"] < table["upper"]).all()


def test_optuna_chooses_candidates_that_are_left(games: list[Environment]) -> None:
    trace = play(games[0], StateTrial(), seed=0)
    assert len(trace.rows.unique()) == 20 + 3 * 4


def test_optuna_refuses_what_is_no_pair() -> None:
    screen = _world(singles=True)
    game = Environment(screen, measured_profile(screen, 30), torch.arange(40), torch.tensor([50]), 3, 1, 2)
    with pytest.raises(DataError, match="no pairs"):
        play(game, StateTrial(), seed=0)


def test_singles_alone_find_a_double_at_once() -> None:
    screen = _world(singles=True)
    games = reach_environments(screen, torch.tensor([30, 70, 200]), rounds=2, count=3, start=0, seed=0)
    assert _rounds(games, StateMatch(Additive())) == 1
