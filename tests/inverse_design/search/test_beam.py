import math
from collections.abc import Callable
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal
from strategies.spaces import plain_space, spaces

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.beam import search_beam
from inverse_design.search.topk import search_stream
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError


def distance(size: int, *, seed: int, columns: int = 4) -> Callable[[PerturbationBatch], torch.Tensor]:
    """Negative distance of the sum of a set's rows to a target, in steps of a quarter, so that some tie."""
    rows, target = normal(size, columns, seed=seed), 2 * normal(columns, seed=seed + 1)

    def score(batch: PerturbationBatch) -> torch.Tensor:
        members = rows[batch.genes.clamp(min=0)] * batch.present[..., None]
        return -(4 * (target - members.sum(1)).abs().sum(1)).round() / 4

    return score


@given(spaces(always=3), st.integers(1, 30), st.integers(0, 99), st.sampled_from([7, 65536]))
def test_a_wide_beam_finds_the_best_of_small_spaces(
    space: CombinationSpace, k: int, seed: int, block: int
) -> None:
    score = distance(len(space.vocabulary), seed=seed)
    found = search_beam(space, score, k, 3, width=500, block=block)
    wanted = search_stream(space, score, k, orders=(3,))
    assert found.top.index.tolist() == wanted.top.index.tolist()
    assert found.top.score.tolist() == wanted.top.score.tolist()
    assert found.certificate.scanned >= space.count_valid_of(3)


@given(spaces(always=3), st.integers(1, 5), st.integers(1, 10), st.integers(0, 99))
def test_a_narrow_beam_finds_what_no_exchange_improves(
    space: CombinationSpace, width: int, k: int, seed: int
) -> None:
    score = distance(len(space.vocabulary), seed=seed)
    result = search_beam(space, score, k, 3, width=width, block=5)
    again = search_beam(space, score, k, 3, width=width, block=5)
    assert result.top.index.tolist() == again.top.index.tolist()
    assert (len(result.top) > 0) == (space.count_valid_of(3) > 0)
    batch = space.take(result.top.index)
    assert bool(space.valid(batch).all())
    assert result.top.score.tolist() == score(batch).tolist()
    if len(result.top):
        best = {gene for gene in batch.genes[0].tolist() if gene >= 0}
        start, stop = space.span(3)
        whole = space.batch(start, stop)
        near = torch.tensor([len(best & set(genes)) >= 2 for genes in whole.genes.tolist()])
        assert float(result.top.score[0]) == float(
            score(whole.rows(torch.nonzero(near & space.valid(whole)).flatten())).max()
        )


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_a_planted_set_is_found(order: int) -> None:
    rows = normal(60, 16, seed=4)
    planted = [3, 17, 25, 40, 58][:order]

    def score(batch: PerturbationBatch) -> torch.Tensor:
        members = rows[batch.genes.clamp(min=0)] * batch.present[..., None]
        return -(rows[planted].sum(0) - members.sum(1)).square().sum(1)

    space = plain_space(60, orders=(order,))
    result = search_beam(space, score, 5, order, width=16)
    assert space.take(result.top.index[:1]).genes.tolist() == [planted]
    assert len(result.top) == 5


def test_it_promises_nothing() -> None:
    space = plain_space(30, orders=(2, 3))
    certificate = search_beam(space, distance(30, seed=0), 4, 3, width=3).certificate
    assert not certificate.exact
    assert certificate.gap == math.inf
    assert certificate.bound == "none"
    assert certificate.error == certificate.rescored == certificate.masked == 0
    assert 4 <= certificate.scanned < math.comb(30, 3)


def test_no_set_of_the_order_is_scored_twice_or_without_being_valid() -> None:
    library = plain_space(20).vocabulary
    measured = library.batch([library.perturbation(each) for each in combinations(range(7), 3)])
    space = CombinationSpace.of(library, orders=(3,), measured=measured)
    known, seen = distance(20, seed=3), []

    def score(batch: PerturbationBatch) -> torch.Tensor:
        assert 0 < len(batch) <= 64
        if batch.genes.shape[1] == 3:
            assert bool(space.valid(batch).all())
            seen.extend(space.indices(batch).tolist())
        return known(batch)

    steps: list[tuple[int, int]] = []
    result = search_beam(
        space, score, 6, 3, width=4, block=64, progress=lambda done, total: steps.append((done, total))
    )
    assert len(seen) == len(set(seen)) == result.certificate.scanned - result.certificate.masked
    assert steps == sorted(steps)
    assert steps[-1] == (len(seen), math.comb(20, 3))


def test_a_beam_widens_where_all_that_it_meets_is_measured() -> None:
    library = plain_space(7).vocabulary
    left = {(4, 5, 6)}
    measured = library.batch(
        [library.perturbation(each) for each in combinations(range(7), 3) if each not in left]
    )
    space = CombinationSpace.of(library, orders=(3,), measured=measured)
    result = search_beam(space, lambda batch: -batch.genes.sum(1).double(), 3, 3, width=1, block=1)
    assert space.take(result.top.index).genes.tolist() == [[4, 5, 6]]


def test_required_targets_are_kept_in_view() -> None:
    space = CombinationSpace.of(
        plain_space(30).vocabulary, orders=(3,), constraints=Constraints(required=("G00028", "G00029"))
    )
    result = search_beam(space, lambda batch: -batch.genes.sum(1).double(), 2, 3, width=1)
    assert space.take(result.top.index).genes.tolist() == [[0, 28, 29], [1, 28, 29]]


def test_more_than_there_is_gives_what_there_is() -> None:
    space = plain_space(4, orders=(3,))
    assert len(search_beam(space, distance(4, seed=0), 50, 3).top) == 4


def test_equal_scores_go_to_the_smallest_numbers() -> None:
    space = plain_space(12, orders=(3,))
    result = search_beam(space, lambda batch: torch.zeros(len(batch)), 3, 3)
    assert result.top.index.tolist() == [0, 1, 2]


def test_what_cannot_be_searched_is_refused() -> None:
    space, score = plain_space(6, orders=(3,)), distance(6, seed=0)
    with pytest.raises(SpaceError, match="has orders"):
        search_beam(space, score, 3, 2)
    with pytest.raises(DataError, match="at least one"):
        search_beam(space, score, 0, 3)
    with pytest.raises(DataError, match="must be positive"):
        search_beam(space, score, 1, 3, width=0)
    with pytest.raises(DataError, match=r"G00000.* is NaN"):
        search_beam(space, lambda batch: torch.full((len(batch),), torch.nan), 1, 3)
    with pytest.raises(SpaceError, match="do not fit 64 bits"):
        search_beam(plain_space(300, orders=(12,)), score, 1, 12)
