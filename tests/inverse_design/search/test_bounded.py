import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.spaces import limits, plain_space

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem import set_score as pair_bounds
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search import bounded
from inverse_design.search.bounded import search_bounded
from inverse_design.search.topk import SearchResult, TopK
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError


def drawn(size: int, order: int, *, seed: int, step: float | None = None, columns: int = 3) -> PairwiseSetScore:
    """Normal factors, or whole multiples of ``step``, which tie often."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(size, 2 * columns + 1, generator=generator, dtype=torch.float64)
    numbers = numbers if step is None else (numbers * 2).round() * step
    left, right = numbers[:, 1 : columns + 1], numbers[:, columns + 1 :]
    return PairwiseSetScore(numbers[:, 0], left, right, float(seed % 3), order)


def brute_force(score: PairwiseSetScore, k: int, space: CombinationSpace) -> TopK:
    start, stop = space.span(score.order)
    valid = space.valid(space.batch(start, stop))
    positions = torch.tensor(list(combinations(range(score.size), score.order)))
    return TopK.empty(k).offer(torch.arange(start, stop)[valid], score.exact(positions[valid]))


def check(result: SearchResult, wanted: TopK) -> None:
    assert result.top.index.tolist() == wanted.index.tolist()
    assert result.top.score.tolist() == wanted.score.tolist()
    assert result.certificate.exact
    assert result.certificate.gap == 0.0


@st.composite
def constrained(draw: st.DrawFn, order: int) -> CombinationSpace:
    """Up to nine entries at one or two doses, some sets measured, some targets required."""
    doses = draw(st.lists(st.integers(1, 2), min_size=order, max_size=9))
    while sum(doses) > 9:
        doses = [1 if at == doses.index(2) else dose for at, dose in enumerate(doses)]
    parts = tuple(
        Intervention(f"T{name}", dose=float(dose))
        for name, most in enumerate(doses)
        for dose in range(1, most + 1)
    )
    library = Vocabulary(parts)
    feasible = [
        each
        for each in combinations(range(len(library)), order)
        if len({library.targets[one] for one in each}) == order
    ]
    measured = draw(st.lists(st.sampled_from(feasible), max_size=20))
    names = sorted({*library.ids, *library.targets})
    required = tuple(draw(st.lists(st.sampled_from(names), max_size=2, unique=True)))
    groups, incompatible, costs, budget = draw(st.one_of(st.just(((), (), (), None)), limits(names)))
    rules = Constraints(required=required, groups=groups, incompatible=incompatible, costs=costs, budget=budget)
    batch = library.batch([library.perturbation(each) for each in measured]) if measured else None
    orders = draw(st.sampled_from([(order,), (2, order), (1, order)]))
    try:
        return CombinationSpace.of(library, orders=orders, constraints=rules, measured=batch)
    except (DataError, NothingToProposeError):
        return CombinationSpace.of(library, orders=orders, measured=None)


@given(
    st.integers(3, 5).flatmap(lambda order: st.tuples(st.just(order), constrained(order))),
    st.integers(1, 40),
    st.integers(0, 999),
    st.sampled_from([None, 1.0, 0.1]),
)
def test_constrained_spaces_are_searched_exactly(
    asked: tuple[int, CombinationSpace], k: int, seed: int, step: float | None
) -> None:
    order, space = asked
    score = drawn(len(space.entries), order, seed=seed, step=step)
    check(search_bounded(score, k, space=space), brute_force(score, k, space))


@pytest.mark.parametrize("order", [3, 4, 5])
@pytest.mark.parametrize("step", [None, 1.0, 0.1])
@pytest.mark.parametrize("k", [1, 30])
def test_small_squares_groups_and_batches_change_nothing(
    order: int, step: float | None, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, space = drawn(19, order, seed=k, step=step), plain_space(19, orders=(1, order))
    wanted = brute_force(score, k, space)
    check(search_bounded(score, k, space=space), wanted)
    for module, name, value in (
        (bounded, "_TILE", 5),
        (bounded, "_LEADS", 2),
        (bounded, "_POLISHED", 1),
        (bounded, "_PENDING", 3),
        (bounded, "_CELLS", 16),
        (pair_bounds, "_ROWS", 4),
        (pair_bounds, "_ALONE", 3),
        (pair_bounds, "_GROUPS", 4),
        (pair_bounds, "_CELLS", 16),
    ):
        monkeypatch.setattr(module, name, value)
    check(search_bounded(score, k, space=space), wanted)


def test_triples_of_many_entries_are_found_without_looking_at_most() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(90, 8, generator=generator, dtype=torch.float64)
    score = PairwiseSetScore.of_distance(rows, rows[[3, 40, 77]].sum(0), 3)
    space = plain_space(90, orders=(3,))
    result = search_bounded(score, 10, space=space)
    check(result, brute_force(score, 10, space))
    assert space.take(result.top.index[:1]).genes.tolist() == [[3, 40, 77]]
    certificate = result.certificate
    assert certificate.scanned + certificate.pruned == math.comb(90, 3)
    assert certificate.pruned > certificate.scanned
    assert certificate.error == score.error > 0
    assert certificate.bound
    assert certificate.rescored >= 10


def test_scores_closer_than_single_precision_are_told_apart() -> None:
    side = 1 + torch.arange(20, dtype=torch.float64).flip(0).roll(7) * 1e-12
    score = PairwiseSetScore(side, torch.zeros(20, 1).double(), torch.zeros(20, 1).double(), 5.0, 3)
    space = plain_space(20, orders=(3,))
    check(search_bounded(score, 5, space=space), brute_force(score, 5, space))


@pytest.mark.parametrize("order", [3, 4])
def test_equal_scores_go_to_the_smallest_numbers(order: int) -> None:
    zeros = torch.zeros(24, 1).double()
    score = PairwiseSetScore(torch.zeros(24).double(), zeros, zeros, 0.0, order)
    top = search_bounded(score, 4, space=plain_space(24, orders=(order,))).top
    assert top.index.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("order", [3, 4, 5])
@pytest.mark.parametrize("required", [(), ("G00005",)])
def test_stopped_early_it_gives_good_sets_and_what_may_be_missed(order: int, required: tuple[str, ...]) -> None:
    library = plain_space(24).vocabulary
    space = CombinationSpace.of(library, orders=(order,), constraints=Constraints(required=required))
    score = drawn(24, order, seed=1)
    result = search_bounded(score, 60, space=space, seconds=0.0)
    wanted = brute_force(score, 60, space)
    assert bool(space.valid(space.take(result.top.index)).all())
    assert len(result.top) == 60
    assert not result.certificate.exact
    assert result.certificate.gap > 0
    assert result.certificate.pruned + result.certificate.scanned < math.comb(24, order)
    missed = wanted.score[~torch.isin(wanted.index, result.top.index)]
    assert bool((missed <= result.top.threshold + result.certificate.gap).all())


def test_stopped_in_the_middle_the_gap_still_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    space = plain_space(24, orders=(4,))
    score = drawn(24, 4, seed=3)
    wanted = brute_force(score, 200, space)
    gaps = []
    for ticks in range(2, 200, 9):
        clock = iter(range(10_000))
        monkeypatch.setattr(bounded.time, "perf_counter", lambda clock=clock: float(next(clock)))
        result = search_bounded(score, 200, space=space, seconds=float(ticks))
        missed = wanted.score[~torch.isin(wanted.index, result.top.index)]
        assert bool((missed <= result.top.threshold + result.certificate.gap).all())
        assert result.certificate.exact == (result.certificate.gap == 0)
        gaps.append(result.certificate.gap)
    assert gaps[0] > gaps[len(gaps) // 2]


def test_no_gap_is_known_while_too_few_are_found() -> None:
    space = plain_space(40, orders=(3,))
    certificate = search_bounded(drawn(40, 3, seed=0), 9_880, space=space, seconds=0.0).certificate
    assert certificate.gap == math.inf
    assert not certificate.exact


def test_all_are_given_when_more_are_asked_for() -> None:
    for size in (3, 4, 6):
        score, space = drawn(size, 3, seed=size), plain_space(size, orders=(1, 3))
        result = search_bounded(score, 1000, space=space)
        assert len(result.top) == math.comb(size, 3)
        check(result, brute_force(score, 1000, space))


@pytest.mark.parametrize("size", [0, 1, 2])
def test_a_space_without_triples_has_an_empty_answer(size: int) -> None:
    library = plain_space(4, orders=(1, 2, 3)).vocabulary
    space = CombinationSpace(library, torch.arange(size), (1, 3), (), np.empty(0, dtype=np.int64))
    result = search_bounded(drawn(size, 3, seed=0), 5, space=space)
    assert len(result.top) == 0
    assert result.certificate.exact


def test_progress_ends_with_all_pairs() -> None:
    seen: list[tuple[int, int]] = []
    score, space = drawn(60, 3, seed=0), plain_space(60, orders=(3,))
    search_bounded(score, 500, space=space, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpaceError, match="do not fit a space of 6"):
        search_bounded(drawn(5, 3, seed=0), 3, space=plain_space(6, orders=(3,)))
    with pytest.raises(SpaceError, match="has orders"):
        search_bounded(drawn(5, 3, seed=0), 3, space=plain_space(5, orders=(2,)))
    with pytest.raises(DataError, match="at least one"):
        search_bounded(drawn(5, 3, seed=0), 0, space=plain_space(5, orders=(3,)))
    with pytest.raises(DataError, match="by their products"):
        search_bounded(drawn(5, 2, seed=0), 3, space=plain_space(5, orders=(2,)))
    with pytest.raises(SpaceError, match="do not fit 64 bits"):
        search_bounded(drawn(300, 12, seed=0), 3, space=plain_space(300, orders=(12,)))
    with pytest.raises(DataError, match="not finite"):
        PairwiseSetScore(torch.full((5,), torch.nan).double(), *torch.zeros(2, 5, 1).double(), 0.0, 3)
