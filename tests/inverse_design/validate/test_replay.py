"""Environments, traces, and the rules that no recommender can break."""

from dataclasses import dataclass, replace

import pandas as pd
import pytest
import torch
from strategies.replays import coverage, share_found
from strategies.screens import pairs_of, planted_screen

from inverse_design.errors import PlanError
from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.protocol import (
    AdditiveRanking,
    DecisionState,
    RandomChoice,
    Recommendation,
    Recommender,
    sum_of_parts,
)
from inverse_design.validate.outlines import replay_outline
from inverse_design.validate.replay import (
    Environment,
    PermutedFeedback,
    best_so_far,
    pairs_environment,
    play,
    replay,
    simple_regret,
)
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError


def game(start: int = 5, rounds: int = 3, count: int = 4) -> Environment:
    screen = planted_screen(alone=range(10), together=pairs_of(10, 40), readouts=3, bend=0.4)
    target = ScalarTarget(screen.readouts[0], "minimise")
    return pairs_environment(screen, target, start=start, rounds=rounds, count=count, name="planted")


@dataclass(frozen=True)
class Named:
    """Names candidates by their numbers, whatever is known."""

    environment: Environment
    rows: tuple[int, ...]
    bound: float | None = None

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        del state, count, pending, seed
        labels = [self.environment.screen.labels[int(self.environment.candidates[row])] for row in self.rows]
        bounds = {} if self.bound is None else {"lower": -self.bound, "upper": self.bound}
        return Recommendation(pd.DataFrame({"perturbation": labels, **bounds}))


@dataclass(frozen=True)
class Remembering:
    """Writes down what it is shown."""

    seen: list[DecisionState]

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        del seed
        self.seen.append(state)
        return Recommendation.of(state, state.open(pending).rows(slice(count)))


def test_a_recommender_sees_what_was_revealed_and_copies_of_it() -> None:
    played = game()
    truth = played.screen.effects.clone()
    recommender = Remembering([])
    trace = play(played, recommender, seed=1)
    assert [len(state.measured) for state in recommender.seen] == [15, 19, 23]
    for state in recommender.seen:
        known = len(state.measured) - state.started
        assert state.started == 10
        assert torch.equal(state.measured.effects[10:], truth[played.candidates[trace.rows[:known]]])
        assert state.measured.labels[10:] == tuple(
            played.screen.labels[int(played.candidates[row])] for row in trace.rows[:known]
        )
        assert len(state.open()) == 40 - known
        state.measured.effects.zero_()
    assert torch.equal(played.screen.effects, truth)


def test_all_recommenders_of_a_seed_start_alike_and_seeds_differ() -> None:
    one, other = (play(game(), policy, seed=3) for policy in (RandomChoice(), AdditiveRanking()))
    assert torch.equal(one.rows[:5], other.rows[:5])
    assert not torch.equal(one.rows[:5], play(game(), RandomChoice(), seed=4).rows[:5])
    assert not torch.equal(one.rows[5:], other.rows[5:])


@pytest.mark.parametrize(("rows", "said"), [((0, 1, 2), "3 experiments where 4"), ((0, 0, 1, 2), "twice")])
def test_a_recommendation_against_the_rules_is_refused(rows: tuple[int, ...], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        play(game(start=0), Named(game(), rows), seed=0, name="wild")


def test_what_is_measured_or_no_candidate_cannot_be_named() -> None:
    with pytest.raises(PlanError, match="measured already"):
        play(game(start=0), Named(game(), (0, 1, 2, 3)), seed=0)
    singles = replace(game(), candidates=game().before, before=game().candidates)
    with pytest.raises(PlanError, match="none of the 40 candidates"):
        play(game(start=0), Named(singles, (0, 1, 2, 3)), seed=0)


def test_a_replay_ends_when_nothing_is_left() -> None:
    trace = play(game(start=30, rounds=9), RandomChoice(), seed=0)
    assert trace.sizes == (30, 4, 4, 2)
    assert sorted(trace.rows.tolist()) == list(range(40))


def test_curves_are_those_of_the_truth() -> None:
    played = game()
    trace = play(played, AdditiveRanking(), seed=2)
    utility = -played.screen.effects[played.candidates, 0]
    best = set(utility.topk(6).indices.tolist())
    for end, value, regret, share in zip(
        (5, 9, 13, 17),
        best_so_far(played, trace),
        simple_regret(played, trace),
        share_found(played, trace, top=6),
        strict=True,
    ):
        assert value == utility[trace.rows[:end]].max()
        assert regret == utility.max() - value
        assert share == pytest.approx(len(best & set(trace.rows[:end].tolist())) / 6)


def test_nothing_is_known_before_the_first_round_without_a_start() -> None:
    played = game(start=0)
    trace = play(played, RandomChoice(), seed=0)
    assert best_so_far(played, trace)[0] == -torch.inf
    assert share_found(played, trace, top=6)[0] == 0


def test_coverage_counts_the_bounds_that_were_stated() -> None:
    played = game(start=0, rounds=1)
    trace = play(played, Named(played, (0, 1, 2, 3), bound=1.0), seed=0)
    within = (played.utility[:4].abs() <= 1).double().mean()
    assert coverage(played, trace)[1] == within
    assert coverage(played, trace)[0].isnan()
    assert coverage(played, play(played, RandomChoice(), seed=0)).isnan().all()


def test_permuted_feedback_keeps_rows_and_values_but_not_their_match() -> None:
    recommender = Remembering([])
    played = game(start=20, rounds=2)
    trace = play(played, PermutedFeedback(recommender), seed=0)
    for state in recommender.seen:
        known, utility = len(state.measured) - state.started, state.utility[state.started :]
        truth = played.utility[trace.rows[:known]]
        assert torch.equal(utility.sort().values, truth.sort().values)
        assert not torch.equal(utility, truth)
        assert torch.equal(state.measured.effects[:10], played.screen.effects[played.before])


def test_more_workers_than_games_save_no_time() -> None:
    played, names = game(), ("random", "additive")
    seconds = [replay_outline(played, names, seeds=2, workers=each).price().seconds for each in (1, 4, 1000)]
    assert seconds[0] > seconds[1] == pytest.approx(seconds[2])


def test_traces_are_the_same_for_any_number_of_workers() -> None:
    recommenders: dict[str, Recommender] = {"random": RandomChoice(), "additive": AdditiveRanking()}
    alone = [*replay([game()], recommenders, seeds=(0, 1))]
    together = [*replay([game()], recommenders, seeds=(0, 1), workers=2)]
    assert [(t.recommender, t.seed) for t in alone] == [
        ("random", 0),
        ("random", 1),
        ("additive", 0),
        ("additive", 1),
    ]
    for one, other in zip(alone, together, strict=True):
        assert (one.recommender, one.seed, one.sizes) == (other.recommender, other.seed, other.sizes)
        assert torch.equal(one.rows, other.rows)


def test_an_environment_without_play_is_refused() -> None:
    with pytest.raises(DataError, match="more than the 40 candidates"):
        game(start=38)
    with pytest.raises(DataError, match="no replay"):
        game(rounds=0)
    played = game()
    with pytest.raises(DataError, match="known from the start and a candidate"):
        Environment(played.screen, played.target, played.candidates, played.candidates[:1], 1, 1, 1)
    with pytest.raises(DataError, match="twice"):
        Environment(played.screen, played.target, played.candidates[[0, 0, 1]], played.before, 1, 1, 1)


def test_a_part_that_was_not_measured_alone_counts_as_the_mean_of_those_that_were() -> None:
    screen = planted_screen(alone=range(9), together=[(0, 9), (1, 2), (2, 3), (4, 5)], readouts=2)
    pairs = screen.batch.rows(torch.tensor([9, 10]))
    alone = screen.effects[screen.single_rows[:9]]
    found = sum_of_parts(screen, pairs)
    assert torch.allclose(found[0], alone[0] + alone.mean(0))
    assert torch.allclose(found[1], alone[1] + alone[2])
