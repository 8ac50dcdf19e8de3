import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import planted_screen

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.mismatch import choose_mismatch
from inverse_design.problem.problem import ask
from inverse_design.proposal import propose
from inverse_design.search.api import by_turns, drafted
from inverse_design.search.survey import surveys
from inverse_design.search.topk import Certificate, SearchResult, TopK

RANKINGS = st.integers(0, 9).flatmap(
    lambda size: st.tuples(st.permutations(range(size)), st.permutations(range(size)))
)


def ranking(order: list[int], k: int | None = None) -> TopK:
    top = TopK.empty(k or max(1, len(order)))
    return top.offer(torch.tensor(order, dtype=torch.int64), -torch.arange(len(order)).double())


@given(RANKINGS, st.integers(1, 12))
def test_every_beginning_holds_the_best_of_both(orders: tuple[list[int], list[int]], count: int) -> None:
    listed, whose = drafted([ranking(order) for order in orders], count)
    found = listed.tolist()
    assert len(found) == len(set(found)) == min(count, len(orders[0]))
    for length in range(len(found) + 1):
        assert set(orders[0][: -(-length // 2)]) <= set(found[:length])
        assert set(orders[1][: length // 2]) <= set(found[:length])
    assert list(whose) == [number % 2 for number in range(len(found))]


@given(RANKINGS, st.integers(1, 12))
def test_the_list_is_that_of_two_people_who_pick(orders: tuple[list[int], list[int]], count: int) -> None:
    left, picked = [list(order) for order in orders], []
    while left[0] and len(picked) < count:
        pick = left[len(picked) % 2][0]
        picked.append(pick)
        for each in left:
            each.remove(pick)
    assert drafted([ranking(order) for order in orders], count)[0].tolist() == picked


@given(RANKINGS, st.integers(1, 6))
def test_the_best_of_each_search_are_enough(orders: tuple[list[int], list[int]], count: int) -> None:
    """What a search leaves out of its answer of ``count`` is never listed."""
    short = [ranking(order, count) for order in orders]
    assert drafted(short, count)[0].tolist() == drafted([ranking(order) for order in orders], count)[0].tolist()


@given(st.permutations(range(6)), st.integers(1, 8))
def test_two_that_agree_give_their_own_list(order: list[int], count: int) -> None:
    assert drafted([ranking(order), ranking(order)], count)[0].tolist() == order[:count]


def test_one_that_has_no_more_to_name_leaves_its_turns_to_the_other() -> None:
    listed, whose = drafted([ranking([4]), ranking([2, 4, 3, 1])], 9)
    assert (listed.tolist(), whose) == ([4, 2, 3, 1], (0, 1, 1, 1))


def test_the_searches_keep_their_own_certificates() -> None:
    one, other = (
        SearchResult(ranking(order), Certificate(scanned, 0, 0, 0.0, 0.1))
        for order, scanned in (([2, 0, 1], 3), ([0, 1, 2], 4))
    )
    found = by_turns({"first": one, "second": other}, 2)
    assert found.index.tolist() == [2, 0]
    assert found.found_by == ("first", "second")
    assert found.searches == {"first": one, "second": other}


def test_without_sums_the_likelihood_names_the_same_candidates() -> None:
    """A law that speaks alone needs no sum over all candidates, which a look at all of them makes beside."""
    screen = planted_screen(alone=range(12), together=[], readouts=9)
    found = propose(screen, screen.labels[3], surrogate="additive", top=8)
    assert found.turns is not None
    assert not found.fitted.experts
    aligned = ask(screen, screen.labels[3]).target.on(screen.readouts)
    missed = choose_mismatch(found.fitted, aligned, seed=0).on(aligned, found.fitted)
    likelihood = TargetLikelihood(missed, torch.zeros(len(screen.vocabulary), dtype=torch.float64))
    seen = surveys([likelihood], found.fitted, found.space, 8)[0].search(8)
    listed = found.turns.searches["likelihood"]
    assert torch.equal(listed.top.index, seen.top.index)
    assert torch.equal(listed.top.score, seen.top.score)
