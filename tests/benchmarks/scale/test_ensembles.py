import functools
import itertools
import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.spaces import plain_space, spaces

from benchmarks.scale import ensembles
from benchmarks.scale.ensembles import EnsembleImprovement
from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search import scan as pairs
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import TopK
from inverse_design.testing import check_pair_score
from surrogates.errors import DataError


def drawn(size: int, members: int, *, seed: int, spread: float = 0.5) -> tuple[ProductScore, ...]:
    """Squared distances of members that differ from a common one by normal noise."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rows, target = normal(size, 4), normal(4)
    return tuple(ProductScore.of_distance(rows + spread * normal(size, 4), target) for _ in range(members))


def all_pairs(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    first, second = torch.tensor(list(combinations(range(size), 2))).T
    return first, second


def brute_force(score: EnsembleImprovement, k: int, space: CombinationSpace) -> list[tuple[int, float]]:
    start, stop = space.span(2)
    exact = score.exact(*all_pairs(score.size)).tolist()
    valid = space.valid(space.batch(start, stop)).tolist()
    scored = [(start + number, exact[number]) for number in range(stop - start) if valid[number]]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def answer(score: EnsembleImprovement, k: int, space: CombinationSpace) -> list[tuple[int, float]]:
    top = search_pairs(score, k, space=space).top
    return list(zip(top.index.tolist(), top.score.tolist(), strict=True))


@pytest.mark.parametrize("members", [1, 2, 7])
def test_the_score_keeps_the_contract(members: int) -> None:
    check_pair_score(EnsembleImprovement(drawn(17, members, seed=3), -4.0))


@given(
    spaces(always=2),
    st.integers(1, 40),
    st.integers(0, 99),
    st.sampled_from([-40.0, -6.0, -0.5, 0.0, 30.0]),
)
@settings(max_examples=40)
def test_constrained_spaces_are_searched_exactly(
    space: CombinationSpace, k: int, seed: int, incumbent: float
) -> None:
    score = EnsembleImprovement(drawn(len(space.entries), 1 + seed % 4, seed=seed), incumbent)
    assert answer(score, k, space) == brute_force(score, k, space)


@pytest.mark.parametrize("spread", [0.0, 0.5])
@pytest.mark.parametrize("k", [1, 900])
def test_many_tiles_and_settlings_change_nothing(spread: float, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    score = EnsembleImprovement(drawn(45, 3, seed=k, spread=spread), -3.0)
    space = plain_space(45, orders=(1, 2))
    wanted = brute_force(score, k, space)
    assert answer(score, k, space) == wanted
    monkeypatch.setattr(ensembles, "_ROWS", 7)
    monkeypatch.setattr(ensembles, "_CELLS", 1)
    monkeypatch.setattr(ensembles, "_NARROWEST", 19)
    monkeypatch.setattr(pairs, "_SLACK", 3)
    monkeypatch.setattr(pairs, "_SEEDED", 64)
    assert answer(score, k, space) == wanted


@given(st.integers(0, 999), st.lists(st.integers(0, 25), max_size=3))
@settings(max_examples=20)
def test_any_shards_of_rows_give_the_same_bits(seed: int, cuts: list[int]) -> None:
    score, space = EnsembleImprovement(drawn(25, 3, seed=seed), -2.0), plain_space(25)
    whole = search_pairs(score, 20, space=space).top
    edges = sorted({0, 25, *cuts})
    parts = [search_pairs(score, 20, space=space, rows=rows).top for rows in itertools.pairwise(edges)]
    top = functools.reduce(TopK.merge, parts)
    assert torch.equal(top.index, whole.index)
    assert torch.equal(top.score.view(torch.int64), whole.score.view(torch.int64))


@pytest.mark.parametrize("shift", [0.0, 1e4])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 0.5, 20.0])
def test_screens_are_never_below_the_values(spread: float, shift: float) -> None:
    members = tuple(replace(each, side=each.side + shift) for each in drawn(40, 5, seed=2, spread=spread))
    first, second = all_pairs(40)
    for incumbent in (-50.0 + shift, -5.0 + shift, shift):
        score = EnsembleImprovement(members, incumbent)
        above = torch.stack([each.exact(first, second) for each in members]) - incumbent
        values = score.exact(first, second)
        for error in (0.0, 2.0):  # bounds may be as tight as the utilities, or wider by the margin
            screens = score.screen((above + score.margin * error / 2).float())
            above_floor = values > score.floor
            assert bool((screens.double() >= values)[above_floor].all())
            assert bool((screens[above_floor] > 0).all())


def test_values_are_those_of_the_textbook() -> None:
    utilities = torch.tensor([[1.0, -2.0], [3.0, -3.0], [2.0, -2.5]], dtype=torch.float64)
    assert EnsembleImprovement(drawn(4, 3, seed=0), 0.5).value(utilities).tolist() == pytest.approx([1.5, 0.0])


def test_without_improvement_the_first_valid_pairs_are_the_answer() -> None:
    score = EnsembleImprovement(drawn(30, 3, seed=0), 1e3)
    library = plain_space(30).vocabulary
    space = CombinationSpace.of(library, orders=(2,), measured=plain_space(30).take(torch.tensor([0, 2])))
    top = search_pairs(score, 4, space=space).top
    assert top.index.tolist() == [1, 3, 4, 5]
    assert top.score.tolist() == [0.0] * 4


def test_few_pairs_are_valued_again() -> None:
    score = EnsembleImprovement(drawn(200, 4, seed=0), -1.0)
    certificate = search_pairs(score, 10, space=plain_space(200)).certificate
    assert certificate.exact
    assert certificate.scanned == 19900
    assert certificate.rescored < 500


def test_what_is_no_ensemble_is_refused() -> None:
    members = drawn(5, 2, seed=0)
    with pytest.raises(DataError, match=r"members of \[\] entries"):
        EnsembleImprovement((), 0.0)
    with pytest.raises(DataError, match=r"members of \[5, 6\] entries"):
        EnsembleImprovement((members[0], drawn(6, 1, seed=0)[0]), 0.0)
    with pytest.raises(DataError, match="finite incumbent"):
        EnsembleImprovement(members, math.nan)
