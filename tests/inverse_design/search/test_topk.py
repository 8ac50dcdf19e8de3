import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inverse_design.search.topk import Certificate, SearchResult, TopK
from surrogates.errors import DataError

# Few distinct scores, so that ties are the rule; both zeros among them.
scores = st.lists(st.sampled_from([-torch.inf, -1.5, -0.0, 0.0, 2.0, 1e300]), max_size=30)


def of(k: int, score: list[float], index: list[int]) -> TopK:
    numbers = torch.tensor(index, dtype=torch.int64)
    return TopK.empty(k).offer(numbers, torch.tensor(score, dtype=torch.float64))


def same(one: TopK, other: TopK) -> bool:
    """Bit for bit: signed zeros differ."""
    return torch.equal(one.index, other.index) and torch.equal(
        one.score.view(torch.int64), other.score.view(torch.int64)
    )


@given(scores, st.integers(1, 8))
def test_the_best_come_first_and_ties_go_to_the_smaller_number(score: list[float], k: int) -> None:
    top = of(k, score, list(range(len(score))))
    wanted = sorted(range(len(score)), key=lambda number: (-score[number], number))[:k]
    assert top.index.tolist() == wanted
    assert top.score.tolist() == [score[number] for number in wanted]


@given(scores, st.integers(1, 8), st.data())
def test_any_sharding_in_any_order_gives_the_same_bits(score: list[float], k: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(score))))
    shard = data.draw(st.lists(st.integers(0, 3), min_size=len(score), max_size=len(score)))
    parts = [
        of(k, [score[n] for n in order if shard[n] == one], [n for n in order if shard[n] == one])
        for one in range(4)
    ]
    a, b, c, d = parts
    whole = of(k, score, list(range(len(score))))
    assert same(a.merge(b).merge(c).merge(d), whole)
    assert same(d.merge(c.merge(b.merge(a))), whole)
    assert same(a.merge(c).merge(d.merge(b)), whole)
    assert same(whole.merge(a), whole)
    assert same(TopK.empty(k).merge(whole), whole)


def test_the_threshold_is_that_of_the_last_once_full() -> None:
    assert of(2, [5.0], [0]).threshold == -torch.inf
    assert of(2, [5.0, 3.0, 4.0], [0, 1, 2]).threshold == 4.0


def test_nan_is_refused() -> None:
    with pytest.raises(DataError, match="candidate 7 is NaN"):
        of(2, [1.0, torch.nan], [3, 7])


def test_different_k_do_not_merge() -> None:
    with pytest.raises(DataError, match="cannot be merged"):
        TopK.empty(2).merge(TopK.empty(3))
    with pytest.raises(DataError, match="at least one"):
        TopK.empty(0)


def test_results_of_disjoint_searches_add_up() -> None:
    one = SearchResult(of(2, [1.0], [0]), Certificate(10, 1, 5, 0.5, 1.0))
    other = SearchResult(of(2, [2.0], [9]), Certificate(20, 2, 0, 0.0, 2.0, rank_error=3, exact=False))
    both = one.merge(other)
    assert both.top.index.tolist() == [9, 0]
    assert both.certificate == Certificate(30, 3, 5, 0.5, 3.0, rank_error=3, exact=False)
