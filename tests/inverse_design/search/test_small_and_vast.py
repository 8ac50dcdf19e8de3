"""Every search over spaces of next to nothing, and over spaces whose numbers do not fit 64 bits."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from strategies.spaces import plain_space

from inverse_design.errors import SpaceError
from inverse_design.problem.score import ProductScore
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.beam import search_beam
from inverse_design.search.bounded import search_bounded
from inverse_design.search.exhaustive import evidence_of_pairs, evidence_of_stream
from inverse_design.search.scan import search_pairs
from inverse_design.search.tasks import plan_shards
from inverse_design.search.topk import SearchResult, search_stream
from surrogates.data.vocabulary import PerturbationBatch

Search = Callable[[CombinationSpace, int, int], SearchResult]


def small_space(entries: int, order: int) -> CombinationSpace:
    """The first entries of a library, too few for some orders: :meth:`CombinationSpace.of` would refuse them."""
    return CombinationSpace(
        plain_space(6, orders=(order,)).vocabulary,
        torch.arange(entries),
        (order,),
        (),
        np.empty(0, dtype=np.int64),
    )


def worth(batch: PerturbationBatch) -> torch.Tensor:
    return -batch.genes.clamp(min=0).sum(1).double()


def by_products(space: CombinationSpace, k: int, _: int) -> SearchResult:
    size = len(space.entries)
    return search_pairs(
        ProductScore(-torch.arange(size).double(), *torch.zeros(2, size, 1).double()), k, space=space
    )


def by_bounds(space: CombinationSpace, k: int, order: int) -> SearchResult:
    size, none = len(space.entries), torch.zeros(len(space.entries), 1).double()
    return search_bounded(PairwiseSetScore(-torch.arange(size).double(), none, none, 0.0, order), k, space=space)


def streamed(space: CombinationSpace, k: int, _: int) -> SearchResult:
    return search_stream(space, worth, k)


def beamed(space: CombinationSpace, k: int, order: int) -> SearchResult:
    return search_beam(space, worth, k, order)


@pytest.mark.parametrize(
    ("search", "order"),
    [(by_products, 2), (streamed, 1), (streamed, 2), (streamed, 3), (by_bounds, 3), (beamed, 3)],
)
@pytest.mark.parametrize("entries", [0, 1, 2, 3, 4])
def test_next_to_nothing_is_searched_whole(search: Search, order: int, entries: int) -> None:
    space = small_space(entries, order)
    top = search(space, 1000, order).top
    assert len(top) == math.comb(entries, order)
    assert sorted(top.index.tolist()) == list(range(len(top)))
    assert top.score.tolist() == worth(space.take(top.index)).tolist()


@pytest.mark.parametrize("entries", [0, 1, 2, 3])
def test_next_to_nothing_is_summed_up(entries: int) -> None:
    space = small_space(entries, 2)
    score = ProductScore(*(torch.zeros(entries, *more).double() for more in ((), (1,), (1,))))
    pairs = math.comb(entries, 2)
    wanted = math.log(pairs) if pairs else -math.inf
    assert evidence_of_pairs(score, space, cut=-1.0).log_sum == pytest.approx(wanted)
    counted = evidence_of_stream(lambda batch: torch.zeros(len(batch)).double(), space, order=2, cut=-1.0)
    assert (counted.log_sum, counted.reached) == (pytest.approx(wanted), pairs)


def test_what_is_vast_has_an_exact_size_and_is_refused_in_words() -> None:
    space = plain_space(20_000, orders=(6,))
    assert space.size == space.count_valid == math.comb(20_000, 6) > 2**63
    assert space.summary == f"{math.comb(20_000, 6):,} of order 6"
    last = space.vocabulary.perturbation(space.batch(space.size - 1, space.size).genes[0])
    assert space.index(last) == space.size - 1
    with pytest.raises(SpaceError, match="do not fit 64 bits"):
        by_bounds(space, 3, 6)
    with pytest.raises(SpaceError, match="do not fit 64 bits"):
        beamed(space, 3, 6)
    with pytest.raises(SpaceError, match="too large"):
        streamed(space, 3, 6)
    with pytest.raises(SpaceError, match="too large to be searched one by one"):
        plan_shards(space, 4)
