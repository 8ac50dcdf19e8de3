import functools
import itertools
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.contracts import check_searcher
from strategies.spaces import limits, plain_space, spaces

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search import pruning
from inverse_design.search import pruning as product_sifter
from inverse_design.search import scan as pairs
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import TopK, search_stream
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError


def brute_force(score: ProductScore, k: int, space: CombinationSpace) -> list[tuple[int, float]]:
    start, stop = space.span(2)
    positions = torch.tensor(list(combinations(range(score.size), 2)))
    exact = score.exact(positions[:, 0], positions[:, 1]).tolist()
    valid = space.valid(space.batch(start, stop)).tolist()
    scored = [(start + number, exact[number]) for number in range(stop - start) if valid[number]]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def answer(score: ProductScore, k: int, space: CombinationSpace) -> list[tuple[int, float]]:
    top = search_pairs(score, k, space=space).top
    return list(zip(top.index.tolist(), top.score.tolist(), strict=True))


def drawn(size: int, columns: int, *, seed: int, step: float | None = None) -> ProductScore:
    """Normal factors, or whole multiples of ``step``, which tie often."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randn(size, 2 * columns + 1, generator=generator, dtype=torch.float64)
    numbers = numbers if step is None else (numbers * 2).round() * step
    return ProductScore(numbers[:, 0], numbers[:, 1 : columns + 1], numbers[:, columns + 1 :])


def test_the_search_keeps_the_contract() -> None:
    check_searcher(lambda score, k, space: search_pairs(score, k, space=space))


@given(spaces(always=2), st.integers(1, 40), st.integers(0, 99), st.sampled_from([None, 1.0, 0.1]))
def test_constrained_spaces_are_searched_exactly(
    space: CombinationSpace, k: int, seed: int, step: float | None
) -> None:
    score = drawn(len(space.entries), 2, seed=seed, step=step)
    assert answer(score, k, space) == brute_force(score, k, space)


@pytest.mark.parametrize("step", [None, 1.0, 0.1])
@pytest.mark.parametrize("k", [1, 30, 900])
def test_several_blocks_and_settlings_change_nothing(
    k: int, step: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    score, space = drawn(61, 3, seed=k, step=step), plain_space(61, orders=(1, 2))
    wanted = brute_force(score, k, space)
    assert answer(score, k, space) == wanted
    monkeypatch.setattr(product_sifter, "_LARGEST", (7, 20))
    monkeypatch.setattr(pruning, "_CHUNK", 16)
    monkeypatch.setattr(pairs, "_SLACK", 3)
    assert answer(score, k, space) == wanted


@given(st.integers(1, 60), st.integers(0, 99), st.sampled_from([None, 1.0]), st.data())
def test_limits_inside_the_scan_change_nothing_but_what_is_allowed(
    k: int, seed: int, step: float | None, data: st.DataObject
) -> None:
    """Several tiles, of which some are skipped, some scored pair by pair, and some pruned as a whole."""
    vocabulary = plain_space(31).vocabulary
    groups, incompatible, costs, budget = data.draw(limits(sorted(vocabulary.targets), dearest=20))
    prices = {name: cost / 2 for name, cost in costs}
    rules = Constraints(groups=groups, incompatible=incompatible, costs=tuple(prices.items()), budget=budget)
    space = CombinationSpace.of(
        vocabulary, orders=(1, 2), constraints=rules if budget is None else affordable(rules)
    )
    score = drawn(len(space.entries), 3, seed=seed, step=step)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(product_sifter, "_LARGEST", (7, 10))
        patch.setattr(pairs, "_SPARSE", 3)
        patch.setattr(pairs, "_SLACK", 3)
        found = search_pairs(score, k, space=space)
    assert list(zip(found.top.index.tolist(), found.top.score.tolist(), strict=True)) == brute_force(
        score, k, space
    )


def affordable(rules: Constraints) -> Constraints:
    """Raise a budget to what the two cheapest cost."""
    cheapest = sorted(cost for _, cost in rules.costs)[:2]
    return replace(rules, budget=max(rules.budget or 0.0, sum(cheapest)))


def test_scores_closer_than_single_precision_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "_SLACK", 3)
    side = 1 + torch.arange(40, dtype=torch.float64).flip(0).roll(7) * 1e-12
    score = ProductScore(side, torch.zeros(40, 1), torch.zeros(40, 1))
    space = plain_space(40)
    assert answer(score, 5, space) == brute_force(score, 5, space)


def test_equal_scores_go_to_the_smallest_numbers() -> None:
    score = ProductScore(torch.zeros(50).double(), torch.zeros(50, 1), torch.zeros(50, 1))
    assert search_pairs(score, 4, space=plain_space(50)).top.index.tolist() == [0, 1, 2, 3]


def test_the_certificate_counts_what_was_looked_at() -> None:
    library = plain_space(20).vocabulary
    measured = library.batch([library.perturbation([1, 2]), library.perturbation([3])])
    space = CombinationSpace.of(library, orders=(1, 2), measured=measured)
    score = drawn(20, 3, seed=0)
    certificate = search_pairs(score, 5, space=space).certificate
    assert (certificate.scanned, certificate.masked) == (190, 1)
    assert certificate.error == score.error > 0
    assert certificate.rank_error == 0
    assert certificate.exact


def test_singles_and_pairs_merge_into_one_ranking() -> None:
    space = plain_space(15, orders=(1, 2))
    score = drawn(15, 3, seed=2)

    def value(batch: PerturbationBatch) -> torch.Tensor:
        single = batch.order == 1
        first, second = batch.genes[:, 0], batch.genes[:, 1].clamp(min=0)
        return torch.where(single, score.side[first], score.exact(first, second))

    merged = search_pairs(score, 12, space=space).merge(search_stream(space, value, 12, orders=(1,)))
    whole = search_stream(space, value, 12)
    assert torch.equal(merged.top.index, whole.top.index)
    assert torch.equal(merged.top.score, whole.top.score)
    assert merged.certificate.scanned == space.size


def test_progress_ends_with_all_pairs() -> None:
    seen: list[tuple[int, int]] = []
    search_pairs(
        drawn(30, 2, seed=0), 3, space=plain_space(30), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (435, 435)


def test_scores_of_other_entries_are_refused() -> None:
    with pytest.raises(SpaceError, match="do not fit a space of 6"):
        search_pairs(drawn(5, 2, seed=0), 3, space=plain_space(6))
    with pytest.raises(SpaceError, match="has orders"):
        search_pairs(drawn(5, 2, seed=0), 3, space=plain_space(5, orders=(1,)))
    with pytest.raises(DataError, match="at least one"):
        search_pairs(drawn(5, 2, seed=0), 0, space=plain_space(5))


class WrongScore:
    size = 5
    error = 0.0

    def __init__(self, wrong: float) -> None:
        self.wrong = wrong

    def block(self, start: int, stop: int, columns: tuple[int, int] | None = None) -> torch.Tensor:
        first, last = columns or (start, self.size)
        block = torch.zeros(stop - start, last - first)
        if last == self.size:
            block[0, -1] = self.wrong
        return block

    def exact(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(first), dtype=torch.float64) + 0 * second


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_scores_that_are_not_finite_are_refused_by_name(wrong: float) -> None:
    with pytest.raises(DataError, match=rf"the score of \S+\+\S+ is {wrong}"):
        search_pairs(WrongScore(wrong), 2, space=plain_space(5))


@given(st.integers(0, 999), st.integers(2, 40), st.lists(st.integers(0, 40), max_size=4), st.integers(1, 30))
@settings(max_examples=40)
def test_any_shards_of_rows_give_the_same_bits(seed: int, entries: int, cuts: list[int], k: int) -> None:
    score, space = drawn(entries, 3, seed=seed), plain_space(entries)
    whole = search_pairs(score, k, space=space)
    edges = sorted({0, entries, *(min(cut, entries) for cut in cuts)})
    parts = [search_pairs(score, k, space=space, rows=rows) for rows in itertools.pairwise(edges)]
    top = functools.reduce(TopK.merge, [part.top for part in parts])
    assert torch.equal(top.index, whole.top.index)
    assert torch.equal(top.score.view(torch.int64), whole.top.score.view(torch.int64))
    assert sum(part.certificate.scanned for part in parts) == whole.certificate.scanned


def test_deep_factors_are_searched_exactly() -> None:
    score, space = drawn(30, 300, seed=0), plain_space(30)
    found = search_pairs(score, 12, space=space)
    assert list(zip(found.top.index.tolist(), found.top.score.tolist(), strict=True)) == brute_force(
        score, 12, space
    )


def test_rows_that_are_not_there_are_refused() -> None:
    with pytest.raises(SpaceError, match="rows 3 to 7 are not within 5 entries"):
        search_pairs(drawn(5, 2, seed=0), 2, space=plain_space(5), rows=(3, 7))


@pytest.mark.parametrize("columns", [3, 300])
def test_threads_change_neither_the_answer_nor_the_certificate(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(product_sifter, "_LARGEST", (7, 20))
    monkeypatch.setattr(product_sifter, "_WIDE", (5, 30))
    monkeypatch.setattr(pairs, "_SLACK", 3)
    score, before = drawn(61, columns, seed=1), torch.get_num_threads()
    found = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        try:
            found.append(search_pairs(score, 20, space=plain_space(61)))
        finally:
            torch.set_num_threads(before)
    one, *others = (replace(each, certificate=replace(each.certificate, seconds=0.0)) for each in found)
    for other in others:
        assert other.certificate == one.certificate
        assert torch.equal(other.top.index, one.top.index)
        assert torch.equal(other.top.score, one.top.score)
