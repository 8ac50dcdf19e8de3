"""Recommenders for pairs: fair, repeatable, and as good as the slow way says."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from strategies.replays import coverage, share_found
from strategies.screens import normal, pairs_of, planted_screen
from torch import Tensor

from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend import pair_hits, pair_process
from inverse_design.recommend.pair_hits import PairHits, hit_score
from inverse_design.recommend.pair_process import PairTerm, fit_pair_process, pair_terms
from inverse_design.recommend.pairs import PairRidge, pair_view
from inverse_design.recommend.protocol import RECOMMENDERS, DecisionState
from inverse_design.validate.replay import Environment, PermutedFeedback, pairs_environment, play
from surrogates.data.descriptors import Descriptors
from surrogates.errors import DataError

PAIRS = torch.tensor([[0, 1], [2, 3], [1, 4], [0, 5], [2, 5], [3, 4], [0, 2], [1, 5], [4, 5], [1, 3]])


def game(start: int = 20, rounds: int = 1, count: int = 6) -> Environment:
    screen = planted_screen(alone=range(16), together=pairs_of(16, 110), readouts=3, bend=0.3, noise=0.1)
    target = ScalarTarget(screen.readouts[0], "minimise")
    return pairs_environment(screen, target, start=start, rounds=rounds, count=count, name="planted")


def state(rows: range = range(0)) -> DecisionState:
    return game().state(torch.tensor(rows, dtype=torch.int64))


def described() -> Descriptors:
    names = game().screen.vocabulary.targets
    return Descriptors("made", "rbf", names, normal(len(names), 4, seed=3))


PAIR_RECOMMENDERS = ["greedy_ridge", "optuna_tpe", "botorch_gp", "gains", "pair_hits"]


@pytest.mark.parametrize("name", PAIR_RECOMMENDERS)
def test_recommenders_play_fair_repeat_themselves_and_see_nothing_hidden(name: str) -> None:
    played = replace(game(), descriptors=(described(),))
    recommender = RECOMMENDERS.load(name)()
    trace = play(played, recommender, seed=5, name=name)
    hidden = torch.ones(len(played), dtype=torch.bool)
    hidden[trace.rows[:20]] = False
    effects = played.screen.effects.clone()
    effects[played.candidates[hidden]] += 7.0
    other = replace(played, screen=replace(played.screen, effects=effects))
    assert torch.equal(play(other, recommender, seed=5).rows[:26], trace.rows[:26])
    assert trace.sizes == (20, 6)


@pytest.mark.parametrize("name", PAIR_RECOMMENDERS)
def test_recommenders_know_how_to_begin_with_nothing(name: str) -> None:
    trace = play(game(start=0, rounds=1, count=3), RECOMMENDERS.load(name)(), seed=0, name=name)
    assert len(trace.rows.unique()) == 3


def test_feedback_helps_and_permuted_feedback_does_not() -> None:
    played = game(start=20, rounds=1, count=10)
    honest, permuted = (
        torch.stack([share_found(played, play(played, each, seed=seed), top=10)[-1] for seed in range(4)]).mean()
        for each in (PairHits(top=10), PermutedFeedback(PairHits(top=10)))
    )
    assert float(honest) > float(permuted) + 0.2


def test_bounds_hold_about_as_often_as_they_say() -> None:
    played = game(start=40, rounds=1, count=20)
    found = torch.stack([coverage(played, play(played, PairHits(top=10), seed=seed))[1:] for seed in range(2)])
    assert 0.75 <= float(found.mean()) <= 1.0


def test_hits_are_as_many_as_expected_and_a_known_value_counts() -> None:
    mean, spread = normal(50, seed=0), normal(50, seed=1).abs() + 0.1
    measured = normal(20, seed=2)
    score = hit_score(mean, spread, measured, top=12)
    threshold = float((mean - spread * torch.special.ndtri(score.exp())).median())
    assert float(score.exp().sum() + (measured > threshold).sum()) == pytest.approx(12, abs=1.01)
    assert int(score.argmax()) != int(mean.argmax()) or float(score.max()) <= 0
    equal = hit_score(mean, torch.full_like(mean, 0.3), measured, top=12)
    assert torch.equal(equal.argsort(), mean.argsort())


def brute(term: PairTerm) -> Float[Tensor, "m m"]:
    def one(a: list[int], b: list[int]) -> float:
        (i, j), (k, m) = a, b
        first, second = term.first, term.second
        return float(
            first[i, k] * second[j, m] + first[i, m] * second[j, k] + first[j, k] * second[i, m]
            + first[j, m] * second[i, k]
        ) / 2  # fmt: skip

    return torch.tensor([[one(a, b) for b in PAIRS.tolist()] for a in PAIRS.tolist()], dtype=torch.float64)


def some_terms() -> tuple[PairTerm, ...]:
    alone = pair_view(state()).alone[:6]
    return pair_terms(alone, length=0.7)


@pytest.mark.parametrize("number", range(3))
def test_terms_are_what_the_equation_says_and_positive(number: int) -> None:
    term = some_terms()[number]
    slow = brute(term)
    assert torch.allclose(term.between(PAIRS, PAIRS), slow)
    assert torch.allclose(term.alone(PAIRS), slow.diagonal())
    assert float(torch.linalg.eigvalsh(slow).min()) > -1e-9
    weights = normal(len(PAIRS), seed=1)
    table = torch.zeros(6, 6, dtype=torch.float64)
    table[PAIRS[:, 0], PAIRS[:, 1]] = table[PAIRS[:, 1], PAIRS[:, 0]] = weights
    assert torch.allclose(term.spread(table)[PAIRS[:, 0], PAIRS[:, 1]], slow @ weights)


def test_the_process_is_the_textbook_one() -> None:
    terms, alone, utility = some_terms(), normal(6, seed=4), normal(len(PAIRS), seed=5)
    process = fit_pair_process(terms, alone, PAIRS, utility)
    one, other = alone[PAIRS[:, 0]], alone[PAIRS[:, 1]]
    curve = torch.stack([torch.ones_like(one), one + other, one * other, one**2 + other**2], 1)
    weights = process.logs[:3].exp()
    prior = 10.0 * curve @ curve.T + sum(weight * brute(term) for weight, term in zip(weights, terms, strict=True))
    noise = (process.logs[3] + process.logs[4] * torch.maximum(one, other) + process.logs[5] * (one + other)).exp()
    gain = prior @ torch.linalg.inv(prior + torch.diag(noise + 1e-5))
    standard = (utility - utility.mean()) / utility.std()
    mean = utility.mean() + utility.std() * (gain @ standard)
    assert torch.allclose(process.mean[PAIRS[:, 0], PAIRS[:, 1]], mean, atol=1e-6)
    latent, added = process.variance(PAIRS)
    assert torch.allclose(latent, (prior - gain @ prior).diagonal() * utility.var(), atol=1e-6)
    assert torch.allclose(added, noise * utility.var())


@given(st.integers(0, 2**32 - 2))
@settings(max_examples=20, deadline=None)
def test_a_large_fit_rests_on_all_pairs_without_a_matrix_over_them(seed: int) -> None:
    terms, alone, utility = some_terms(), normal(6, seed=seed), normal(len(PAIRS), seed=seed + 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pair_process, "MOST_COMPARED", 7)
        large = fit_pair_process(terms, alone, PAIRS, utility)
        patch.setattr(pair_process, "_most_likely", lambda *_: large.logs)
        patch.setattr(pair_process, "MOST_COMPARED", len(PAIRS))
        exact = fit_pair_process(terms, alone, PAIRS, utility)
    assert (len(large.pairs), large.behind) == (7, len(PAIRS))
    torch.testing.assert_close(large.mean, exact.mean, rtol=0, atol=1e-8 * exact.scale)
    assert bool((large.variance(PAIRS)[0] >= exact.variance(PAIRS)[0] - 1e-9).all())


def test_where_equations_cannot_be_solved_the_mean_rests_on_some_pairs_and_the_answer_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    every = torch.combinations(torch.arange(40), 2)
    alone = normal(40, seed=1)
    utility = torch.sin(3 * alone[every]).sum(1) + alone[every].sum(1)  # no noise at all
    monkeypatch.setattr(pair_process, "MOST_COMPARED", 200)
    products: list[int] = []
    spread = pair_process._spread
    monkeypatch.setattr(pair_process, "_spread", lambda *each: products.append(1) or spread(*each))
    found = fit_pair_process(pair_terms(alone, length=0.7), alone, every, utility)
    assert found.behind == len(found.pairs) == 200
    assert len(products) < 110  # it is given up long before the most rounds, which is 500
    error = found.mean[every[:, 0], every[:, 1]] - utility
    assert float(error.square().mean().sqrt()) < 0.05 * float(utility.std())
    monkeypatch.setattr(pair_process, "MOST_COMPARED", 30)
    monkeypatch.setattr(pair_hits, "MOST_COMPARED", 30)
    monkeypatch.setattr(pair_process, "_MOST_ROUNDS", 1)
    answer = PairHits().recommend(state(range(40)), 3, pending=(), seed=0)
    assert answer.notes[-1].startswith("means and uncertainties rest on 30 of 40 measured pairs: with so little")


def test_the_ridge_is_least_squares_with_rows_for_its_penalty() -> None:
    played, shown = game(), state(range(30))
    chosen = played.numbers(PairRidge(penalty=2.0).recommend(shown, 5, pending=(), seed=0))
    view, candidates = pair_view(shown), shown.candidates
    parts = torch.cat([torch.ones(len(played), 1).double(), view.parts(candidates.genes[:, :2])], 1)
    utility = played.utility[:30]
    line = torch.linalg.lstsq(parts[:30], utility[:, None]).solution[:, 0]
    marks = candidates.multi_hot(len(view.alone))
    rows = torch.cat([marks[:30], math.sqrt(2.0) * torch.eye(len(view.alone)).double()])
    left = torch.cat([utility - parts[:30] @ line, torch.zeros(len(view.alone)).double()])
    gene = torch.linalg.lstsq(rows, left[:, None]).solution[:, 0]
    expected = parts @ line + marks @ gene
    expected[:30] = -torch.inf
    assert torch.equal(chosen, expected.topk(5).indices)


def test_what_is_no_pair_is_refused_by_name() -> None:
    screen = planted_screen(alone=range(5), together=[(0, 1), (1, 2), (0, 2, 3)])
    shown = pairs_environment(
        screen, ScalarTarget(screen.readouts[0], "minimise"), start=0, rounds=1, count=1
    ).state(torch.arange(0))
    with pytest.raises(DataError, match=r"'G00\+G02\+G03' is no pair"):
        pair_view(shown)
    lonely = planted_screen(alone=[0], together=[(0, 1), (1, 2)])
    shown = pairs_environment(
        lonely, ScalarTarget(lonely.readouts[0], "minimise"), start=0, rounds=1, count=1
    ).state(torch.arange(0))
    with pytest.raises(DataError, match="fewer than two genes"):
        pair_view(shown)


@pytest.mark.parametrize("wrong", [{"top": 0}, {"length": 0.0}, {"short_list": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(DataError, match="cannot choose"):
        PairHits(**wrong)
    with pytest.raises(DataError, match="penalty"):
        PairRidge(0.0)


def test_few_pairs_are_not_enough_to_fit_and_the_answer_says_so() -> None:
    answer = PairHits().recommend(state(range(4)), 3, pending=(), seed=0)
    assert len(answer.table) == 3
    assert any("4 pairs are measured" in note for note in answer.notes)


def test_gains_and_bounds_of_pair_hits_are_those_of_its_process() -> None:
    shown = state(range(40))
    table = PairHits(top=10).recommend(shown, 5, pending=(), seed=0).table
    assert (table["lower"] < table["predicted"]).all()
    assert (table["predicted"] < table["upper"]).all()
    assert table["probability"].between(0, 1).all()
    excess = table["predicted"] - float(shown.utility.max())
    assert (table["expected_gain"] >= excess.clip(lower=0)).all()
