"""Games, traces, and the rules that no policy can break."""

from dataclasses import dataclass

import pytest
import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.errors import PlanError
from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.environment import Choice, Game, Known, Policy, Pool, pairs_game
from inverse_design.recommend.fixed import AdditiveRanking, RandomChoice
from inverse_design.validate.replay import (
    PermutedFeedback,
    best_so_far,
    coverage,
    experiments_until,
    play,
    replay,
    rounds_until,
    share_found,
    simple_regret,
)
from surrogates.errors import DataError


def game(start: int = 5, rounds: int = 3, count: int = 4) -> Game:
    screen = planted_screen(alone=range(10), together=pairs_of(10, 40), readouts=3, bend=0.4)
    target = ScalarTarget(screen.readouts[0], "minimise")
    return pairs_game(screen, target, start=start, rounds=rounds, count=count, name="planted")


@dataclass(frozen=True)
class Fixed:
    rows: tuple[int, ...]
    bound: float | None = None

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - of the protocol
        bound = None if self.bound is None else torch.full((len(self.rows),), self.bound).double()
        return Choice(torch.tensor(self.rows), None if bound is None else -bound, bound)


@dataclass(frozen=True)
class Remembering:
    """Writes down what it is shown."""

    seen: list[Known]

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - of the protocol
        self.seen.append(known)
        return Choice(known.open_rows(pool)[:count])


def test_a_policy_sees_what_was_revealed_and_copies_of_it() -> None:
    played = game()
    truth = played.screen.effects.clone()
    policy = Remembering([])
    trace = play(played, policy, seed=1)
    assert [len(known) for known in policy.seen] == [5, 9, 13]
    for known in policy.seen:
        assert torch.equal(known.effects, truth[played.candidates[known.rows]])
        assert torch.equal(known.rows, trace.rows[: len(known)])
        known.effects.zero_()
        known.utility.zero_()
        known.rows.zero_()
    assert torch.equal(played.screen.effects, truth)
    assert not any(isinstance(value, Game) for value in vars(played.pool).values())
    assert len(played.pool.before) == 10


def test_all_policies_of_a_seed_start_alike_and_seeds_differ() -> None:
    one, other = (play(game(), policy, seed=3) for policy in (RandomChoice(), AdditiveRanking()))
    assert torch.equal(one.rows[:5], other.rows[:5])
    assert not torch.equal(one.rows[:5], play(game(), RandomChoice(), seed=4).rows[:5])
    assert not torch.equal(one.rows[5:], other.rows[5:])


@pytest.mark.parametrize(
    ("rows", "said"),
    [((0, 1, 2), "3 experiments where 4"), ((0, 0, 1, 2), "twice"), ((0, 1, 2, 40), "candidate 40 of 40")],
)
def test_a_choice_against_the_rules_is_refused(rows: tuple[int, ...], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        play(game(start=0), Fixed(rows), seed=0, name="wild")


def test_what_is_measured_cannot_be_chosen_again() -> None:
    with pytest.raises(PlanError, match="measured already"):
        play(game(start=0), Fixed((0, 1, 2, 3)), seed=0)


def test_the_game_ends_when_nothing_is_left() -> None:
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
    enough = float(utility[trace.rows[:7]].max())
    first = utility[trace.rows].tolist().index(enough) + 1
    assert experiments_until(played, trace, threshold=enough) == first
    assert rounds_until(played, trace, threshold=enough) == (0 if first <= 5 else 1)
    assert rounds_until(played, trace, threshold=float(utility.max()) + 1) == float("inf")


def test_nothing_is_known_before_the_first_round_of_a_game_without_start() -> None:
    played = game(start=0)
    trace = play(played, RandomChoice(), seed=0)
    assert best_so_far(played, trace)[0] == -torch.inf
    assert share_found(played, trace, top=6)[0] == 0


def test_coverage_counts_the_bounds_that_were_stated() -> None:
    played = game(start=0, rounds=1)
    trace = play(played, Fixed((0, 1, 2, 3), bound=1.0), seed=0)
    within = (played.utility[:4].abs() <= 1).double().mean()
    assert coverage(played, trace)[1] == within
    assert coverage(played, trace)[0].isnan()
    assert coverage(played, play(played, RandomChoice(), seed=0)).isnan().all()


def test_permuted_feedback_keeps_rows_and_values_but_not_their_match() -> None:
    policy = Remembering([])
    played = game(start=20, rounds=2)
    play(played, PermutedFeedback(policy), seed=0)
    for known in policy.seen:
        truth = played.utility[known.rows]
        assert torch.equal(known.utility.sort().values, truth.sort().values)
        assert not torch.equal(known.utility, truth)
        assert torch.equal(known.utility, -known.effects[:, 0])


def test_traces_are_the_same_for_any_number_of_workers() -> None:
    policies: dict[str, Policy] = {"random": RandomChoice(), "additive": AdditiveRanking()}
    alone = [*replay([game()], policies, seeds=(0, 1))]
    together = [*replay([game()], policies, seeds=(0, 1), workers=2)]
    assert [(t.policy, t.seed) for t in alone] == [("random", 0), ("random", 1), ("additive", 0), ("additive", 1)]
    for one, other in zip(alone, together, strict=True):
        assert (one.policy, one.seed, one.sizes) == (other.policy, other.seed, other.sizes)
        assert torch.equal(one.rows, other.rows)


def test_a_game_without_play_is_refused() -> None:
    with pytest.raises(DataError, match="more than the 40 candidates"):
        game(start=38)
    with pytest.raises(DataError, match="no game"):
        game(rounds=0)
    played = game()
    with pytest.raises(DataError, match="known from the start and a candidate"):
        Game(played.screen, played.target, played.candidates, played.candidates[:1], 1, 1, 1)
    with pytest.raises(DataError, match="twice"):
        Game(played.screen, played.target, played.candidates[[0, 0, 1]], played.before, 1, 1, 1)


def test_known_screens_join_what_was_measured_before_and_since() -> None:
    played = game()
    known = played.reveal(torch.tensor([3, 1]))
    screen = known.screen(played.pool)
    assert screen.labels[10:] == tuple(played.screen.labels[int(played.candidates[row])] for row in (3, 1))
    assert torch.equal(screen.effects[10:], known.effects)


def test_a_part_that_was_not_measured_alone_counts_as_the_mean_of_those_that_were() -> None:
    screen = planted_screen(alone=range(9), together=[(0, 9), (1, 2), (2, 3), (4, 5)], readouts=2)
    pool = pairs_game(screen, ScalarTarget(screen.readouts[0], "maximise"), start=0, rounds=1, count=1).pool
    alone = screen.effects[screen.single_rows[:9]]
    assert torch.allclose(pool.additive[0], alone[0] + alone.mean(0))
    assert torch.allclose(pool.additive[1], alone[1] + alone[2])
