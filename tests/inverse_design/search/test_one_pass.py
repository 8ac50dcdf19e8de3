"""One pass over all pairs against a look at each: bounds along few directions leave out nothing that matters."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.planted_laws import BASES, GENES, LAWS, PRIOR, WHOLE, calibrated, space_of
from strategies.screens import normal
from strategies.spaces import plain_space, spaces

from inverse_design.problem import likelihood as questions
from inverse_design.problem import score as scores
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.score import LikelihoodScore, PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search import one_pass, survey
from inverse_design.search.exhaustive import pair_score, search
from inverse_design.search.one_pass import LEFT_OUT, pass_over_pairs
from inverse_design.search.pruning import BlockPruner
from inverse_design.search.survey import surveys
from surrogates.models.wrappers.calibrated import Expert, FittedCalibrated
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds are along two directions, in small tiles, and are tried at any price."""
    for module, name, value in (
        (questions, "_FEW", 3),
        (scores, "_LEADING", 2),
        (one_pass, "COSTLY", 1),
        (one_pass, "_CHUNK", 4),
        (one_pass, "_SLACK", 0),
        (BlockPruner, "rows", 8),
        (BlockPruner, "columns", 16),
    ):
        monkeypatch.setattr(module, name, value)


def every(score: PairScore) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.triu_indices(score.size, score.size, offset=1).unbind(0)
    return first, second


def spelled_out(score: PairScore, space: CombinationSpace) -> tuple[list[tuple[int, int]], torch.Tensor]:
    """The valid pairs and their scores, one by one."""
    first, second = every(score)
    start, stop = space.span(2)
    valid = space.valid(space.batch(start, stop))
    exact = score.exact(first[valid], second[valid])
    return list(zip(first[valid].tolist(), second[valid].tolist(), strict=True)), exact


def assert_as_spelled_out(score: PairScore, space: CombinationSpace, *, k: int, margin: float) -> int:
    pairs, exact = spelled_out(score, space)
    cut = float(exact.quantile(0.98)) - 1e-6 if len(exact) else 0.0
    found = pass_over_pairs(score, k, space=space, margin=margin, cut=cut)
    assert found.log_sum == pytest.approx(float(exact.logsumexp(0)), abs=2 * LEFT_OUT, rel=1e-12)
    assert found.reached == int((exact >= cut).sum())
    least = float(exact.sort(descending=True).values[k - 1]) - margin if len(exact) >= k else -math.inf
    wanted = {pair: value for pair, value in zip(pairs, exact.tolist(), strict=True) if value >= least}
    listed = dict(zip(map(tuple, found.positions.tolist()), found.scores.tolist(), strict=True))
    assert wanted.items() <= listed.items()
    assert all(
        value < found.floor for pair, value in zip(pairs, exact.tolist(), strict=True) if pair not in listed
    )
    return found.pruned


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.usefixtures("narrow")
def test_along_few_directions_a_density_is_never_smaller(base: str, law: str) -> None:
    score = pair_score(TargetLikelihood(WHOLE, PRIOR), calibrated(base, law), space_of())
    assert isinstance(score, LikelihoodScore)
    assert score.upper is not None
    exact, above = score.exact(*every(score)), score.upper.exact(*every(score))
    assert bool((above >= exact - score.error).all())
    assert float((above - exact).max()) > 0.01
    assert_as_spelled_out(score, space_of(), k=3, margin=0.3)


@given(spaces(always=2), st.integers(0, 99), st.integers(1, 6), st.sampled_from([0.0, 2.0]))
@settings(max_examples=8)
def test_products_are_looked_at_as_one_by_one(space: CombinationSpace, seed: int, k: int, margin: float) -> None:
    factors = normal(2, len(space.entries), 3, seed=seed)
    score = ProductScore(normal(len(space.entries), seed=seed + 1), factors[0], factors[1])
    assert assert_as_spelled_out(score, space, k=k, margin=margin) == 0


def wide(entries: int, *, sharp: float, short: float = 0.2, seed: int = 1, **law: Any) -> LikelihoodScore:
    """Effects that are long in two directions and short in ten more, and the sum of two of them as the target."""
    rows = normal(entries, 12, seed=seed) * torch.tensor([3.0, 3.0, *[short] * 10])
    model = ErrorLaw(torch.zeros(12).double(), FactorCovariance.independent(torch.ones(12).double()), **law)
    none = rows[:, :0]
    means = questions.PairMeans(rows, none, rows[:0], rows[:0], ())
    ones = ProductScore(torch.full((entries,), 0.5).double(), none, none)
    singles = rows if model.coefficient_variance else none
    whole = questions._WhitenedPairs(model.with_temperature(sharp), means, singles, ones)
    leading, _ = scores.leading_directions([rows])
    shaded = replace(whole, leading=leading, shadow=whole.along(leading))
    return shaded.score(rows[3] + rows[entries // 4] + short / 2, torch.zeros(entries).double())


@pytest.mark.parametrize("scatter", [0.0, 0.05])
@pytest.mark.parametrize("degrees", [math.inf, 20.0])
@pytest.mark.usefixtures("narrow")
def test_what_is_left_out_does_not_count(scatter: float, degrees: float) -> None:
    law = {"coefficient_variance": scatter, "degrees": degrees, "temperature": 1.0, "support": 9, "origin": ""}
    score = wide(90, sharp=8.0, **law)
    pruned = assert_as_spelled_out(score, plain_space(90), k=4, margin=0.7)
    assert pruned > 0.5 * math.comb(90, 2)
    assert_as_spelled_out(wide(90, sharp=1e-3, **law), plain_space(90), k=4, margin=0.0)


@given(st.integers(0, 999))
@settings(max_examples=20)
def test_directions_that_hold_a_target_leave_nothing_but_rounding_of_it(seed: int) -> None:
    law = {"coefficient_variance": 0.05, "degrees": 3.0, "temperature": 1.0, "support": 9, "origin": ""}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_LEADING", 2)
        score = wide(12, sharp=1.0, short=0.0, seed=seed, **law)
    assert score.upper is not None
    exact, above = score.exact(*every(score)), score.upper.exact(*every(score))
    torch.testing.assert_close(above, exact, rtol=0, atol=score.error)


@pytest.mark.parametrize("entries", [9, 17, 33])
@pytest.mark.usefixtures("narrow")
def test_a_last_row_of_its_own_has_no_pairs(entries: int) -> None:
    score = wide(
        entries, sharp=8.0, degrees=math.inf, coefficient_variance=0.0, temperature=1.0, support=9, origin=""
    )
    assert_as_spelled_out(score, plain_space(entries), k=2, margin=0.7)


def pool() -> FittedCalibrated:
    alone = calibrated("scaled", "normal"), calibrated("interaction", "scattered student")
    experts = tuple(Expert(weight, fitted) for weight, fitted in zip((0.6, 0.4), alone, strict=True))
    return replace(alone[0], experts=experts)


@pytest.mark.parametrize("experts", [False, True])
@pytest.mark.usefixtures("narrow")
def test_a_survey_is_a_search_a_sum_and_a_count(*, experts: bool) -> None:
    fitted, space = pool() if experts else calibrated("scaled", "normal"), space_of(measured="keep")
    found = surveys([TargetLikelihood(WHOLE, PRIOR)], fitted, space, 5)[0]
    again = search(found.known, fitted, space, 5).top
    assert torch.equal(found.best(5).index, again.index)
    assert torch.equal(found.best(5).score, again.score)
    utility = found.known.utility(fitted, space.batch(0, space.size)).mean
    assert found.log_sum == pytest.approx(float(utility.logsumexp(0)), abs=1e-8)
    others = torch.ones(space.size, dtype=torch.bool)
    others[found.index] = False
    assert not bool(others.any()) or float(utility[others].max()) < found.floor
    assert len(found.index) < space.size == GENES + math.comb(GENES, 2)


def tempered(base: str, law: str, power: float) -> FittedCalibrated:
    fitted = calibrated(base, law)
    return replace(fitted, laws={code: each.with_temperature(power) for code, each in fitted.laws.items()})


@given(st.integers(0, 999), st.sampled_from([1e-4, 0.1, 1.0]), st.sampled_from([4, 9]), st.integers(1, 7))
@settings(max_examples=25)
def test_lists_that_are_cut_short_still_name_the_best(seed: int, power: float, most: int, k: int) -> None:
    alone = [
        tempered(*each, power)
        for each in (("scaled", "normal"), ("interaction", "student"), ("additive", "scattered"))
    ]
    experts = tuple(Expert(weight, each) for weight, each in zip((0.5, 0.3, 0.2), alone, strict=True))
    fitted, space = replace(alone[0], experts=experts), space_of(measured="keep")
    target = replace(WHOLE, values=normal(len(WHOLE.values), seed=seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_pass, "MOST", most)
        patch.setattr(survey, "MOST", most)
        found = surveys([TargetLikelihood(target, PRIOR)], fitted, space, k)[0]
    utility = found.known.utility(fitted, space.batch(0, space.size)).mean
    torch.testing.assert_close(found.best(k).score, utility.topk(k).values)
    others = torch.ones(space.size, dtype=torch.bool).index_fill(0, found.index, value=False)
    assert not bool(others.any()) or float(utility[others].max()) < found.floor
    assert found.log_sum == pytest.approx(0.0, abs=1e-8)
