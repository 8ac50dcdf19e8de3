"""The searches of a device, run on the processors, against the scan and brute force."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.contracts import check_searcher
from strategies.questions import question_model, question_objective, question_space
from strategies.spaces import plain_space, spaces

from benchmarks.scale.ensembles import EnsembleImprovement
from inverse_design.errors import SpaceError
from inverse_design.problem.pair_means import HiddenPairs, NetworkScore
from inverse_design.problem.score import PairScore, ProductScore, RatioScore
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search import survey
from inverse_design.search.api import Engine, search_notes
from inverse_design.search.bounded import search_bounded
from inverse_design.search.device import shortlist, tiles
from inverse_design.search.device.networks import folded_networks
from inverse_design.search.device.pairs import pass_over_pairs_on, search_pairs_on
from inverse_design.search.device.tiles import NetworkTiles, device_tiles, moved, usable
from inverse_design.search.device.triples import best_thirds, search_triples_on
from inverse_design.search.exhaustive import pair_score, search
from inverse_design.search.one_pass import PairPass, pass_over_pairs
from inverse_design.search.pruning import Tile
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import SearchResult
from surrogates.errors import DataError
from surrogates.models.base import LatentNetwork


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def product(size: int, columns: int = 3, *, seed: int = 0, step: float | None = None) -> ProductScore:
    """Normal factors, or whole multiples of ``step``, which tie often."""
    numbers = normal(size, 2 * columns + 1, seed=seed)
    numbers = numbers if step is None else (numbers * 2).round() * step
    return ProductScore(numbers[:, 0], numbers[:, 1 : columns + 1], numbers[:, columns + 1 :])


def networks(size: int, hidden: tuple[int, ...], *, seed: int, root: int, count: int = 2) -> NetworkScore:
    """Networks of some hidden layers; the last one counts differently for both entries of a pair."""
    found = []
    for member in range(count):
        at = 100 * seed + 10 * member
        weights = tuple(normal(o, i, seed=at + o) for i, o in itertools.pairwise(hidden))
        thresholds = tuple(normal(units, seed=at + 50 + units) for units in hidden)
        rows = normal(size, hidden[0], seed=at + 1)
        found.append(LatentNetwork(rows, thresholds, weights, torch.zeros(2, hidden[-1]).double()))
    width = count * hidden[-1]
    first, second = normal(size, width, seed=seed + 3), normal(size, width, seed=seed + 4)
    second = second[:1].expand(size, -1) if seed % 2 else second
    return NetworkScore(
        product(size, seed=seed), HiddenPairs(tuple(found)), first, second, normal(root, width, seed=seed), -1.0
    )


def found_on(score: PairScore, k: int, space: CombinationSpace) -> SearchResult:
    return search_pairs_on(device_tiles(score, "cpu"), score, k, space=space)


def check_same(one: SearchResult, other: SearchResult) -> None:
    assert torch.equal(one.top.index, other.top.index)
    assert torch.equal(one.top.score, other.top.score)
    a, b = one.certificate, other.certificate
    assert (a.exact, a.gap, a.masked, a.scanned + a.pruned) == (b.exact, b.gap, b.masked, b.scanned + b.pruned)


SCORES: dict[str, Callable[[int, int], PairScore]] = {
    "product": lambda size, seed: product(size, seed=seed),
    "ties": lambda size, seed: product(size, seed=seed, step=1.0),
    "networks": lambda size, seed: networks(size, (5, 4), seed=seed, root=3),
    "improvement": lambda size, seed: EnsembleImprovement(
        tuple(product(size, seed=10 * seed + one) for one in range(3)), 0.5
    ),
    "ratio": lambda size, seed: RatioScore(
        product(size, 1, seed=seed),
        ProductScore.of_distance(10 + normal(size, 3, seed=seed), torch.zeros(3).double()),
    ),
}


def test_the_search_keeps_the_contract() -> None:
    check_searcher(found_on)


@given(spaces(always=2), st.integers(1, 30), st.integers(0, 99), st.sampled_from(sorted(SCORES)))
@settings(max_examples=25)
def test_the_answer_is_that_of_the_scan(space: CombinationSpace, k: int, seed: int, kind: str) -> None:
    score = SCORES[kind](len(space.entries), seed)
    check_same(found_on(score, k, space), search_pairs(score, k, space=space))


@pytest.mark.parametrize("kind", sorted(SCORES))
@pytest.mark.parametrize("k", [1, 40])
def test_many_tiles_and_few_kept_change_nothing(kind: str, k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    score, space = SCORES[kind](50, k), plain_space(50, orders=(1, 2))
    monkeypatch.setattr(tiles, "_CACHED", 300)
    monkeypatch.setattr(shortlist, "_SLACK", 3)
    monkeypatch.setattr("inverse_design.search.device.pairs._RUN", 4)
    check_same(found_on(score, k, space), search_pairs(score, k, space=space))


def test_what_was_kept_is_enough_for_a_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inverse_design.search.device.pairs.search_pairs", None)
    score, space = product(200, 8), plain_space(200, orders=(2,))
    found = found_on(score, 50, space)
    assert 50 <= found.certificate.rescored < 60
    assert found.certificate.scanned == math.comb(200, 2)


@given(st.integers(0, 99), st.sampled_from([(6,), (5, 4), (4, 6, 3)]), st.sampled_from([0, 3]))
@settings(max_examples=20)
def test_networks_keep_within_their_bound(seed: int, hidden: tuple[int, ...], root: int) -> None:
    score = networks(12, hidden, seed=seed, root=root)
    found, quick = NetworkTiles(score, "cpu"), torch.empty(12, 12)
    found.into(quick, Tile(0, 12, (0, 12)))
    first, second = torch.triu_indices(12, 12, 1).unbind(0)
    exact = score.exact(first, second)
    off = (quick[first, second].double() - exact).abs().max()
    assert float(off) <= found.error < 1e-2 * score.magnitude


@given(
    spaces(always=2),
    st.sampled_from([0, 1, 7]),
    st.integers(0, 99),
    st.sampled_from(["product", "ties", "networks"]),
)
@settings(max_examples=20)
def test_a_pass_finds_what_that_of_the_processors_finds(
    space: CombinationSpace, k: int, seed: int, kind: str
) -> None:
    score = SCORES[kind](len(space.entries), seed)
    found = pass_over_pairs_on(device_tiles(score, "cpu"), score, k, space=space, margin=0.5)
    wanted = pass_over_pairs(score, k, space=space, margin=0.5)
    assert found.log_sum == pytest.approx(wanted.log_sum, rel=1e-4)
    assert found.reached == wanted.reached == 0
    floor = max(found.floor, wanted.floor)

    def near(each: PairPass) -> list[tuple[list[int], float]]:
        pairs = zip(each.positions.tolist(), each.scores.tolist(), strict=True)
        return sorted(pair for pair in pairs if pair[1] >= floor)

    assert near(found) == near(wanted)
    assert found.floor <= wanted.floor + 1e-9 or k == 0


def test_a_proposal_asks_the_device_for_its_likelihoods(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(*words: object, **named: object) -> PairPass:
        asked.append(words)
        return pass_over_pairs_on(*words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(survey, "pass_over_pairs_on", counted)
    objective, model, space = question_objective("likelihood"), question_model(), question_space(2)
    here, there = (survey.surveys([objective], model, space, 5, device=device)[0] for device in ("cpu", "cpu:0"))
    assert len(asked) == max(1, len(model.experts))
    assert there.best(5).index.tolist() == here.best(5).index.tolist()
    assert there.best(5).score.tolist() == here.best(5).score.tolist()
    assert there.log_sum == pytest.approx(here.log_sum, abs=1e-12)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_named(value: float) -> None:
    class Wrong:
        size, error, device, cell_bytes, dtype = 6, 0.0, "cpu", 4, torch.float32

        def into(self, out: torch.Tensor, tile: Tile) -> None:
            out.zero_()
            if tile.start <= 1 < tile.stop:
                out[1 - tile.start, 4 - tile.columns[0]] = value

    space = plain_space(6, orders=(2,))
    with pytest.raises(DataError, match=rf"the score of G0*1\+G0*4 is {value}"):
        search_pairs_on(Wrong(), product(6), 3, space=space)


def test_other_entries_are_refused() -> None:
    with pytest.raises(SpaceError, match="scores of 7 entries do not fit a space of 6"):
        found_on(product(7), 3, plain_space(6, orders=(2,)))


@given(spaces(always=3), st.integers(1, 30), st.integers(0, 99), st.sampled_from([None, 1.0]))
@settings(max_examples=15)
def test_bounds_and_brute_force_find_the_same_triples(
    space: CombinationSpace, k: int, seed: int, step: float | None
) -> None:
    pairs = product(len(space.entries), seed=seed, step=step)
    score = PairwiseSetScore(pairs.side, pairs.left, pairs.right, 1.5, 3)
    wanted, found = search_bounded(score, k, space=space), search_triples_on(score, k, space=space, device="cpu")
    assert found.certificate.exact
    assert torch.equal(found.top.index, wanted.top.index)
    assert torch.equal(found.top.score, wanted.top.score)


def test_all_triples_are_looked_at_without_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs, space = product(90), plain_space(90, orders=(3,))
    score = PairwiseSetScore(pairs.side, pairs.left, pairs.right, 0.0, 3)
    wanted = search_bounded(score, 20, space=space)
    monkeypatch.setattr("inverse_design.search.device.triples.search_bounded", None)
    found = search_triples_on(score, 20, space=space, device="cpu")
    assert torch.equal(found.top.index, wanted.top.index)
    assert found.certificate.scanned == math.comb(90, 3)


def test_the_product_of_maxima_is_the_loop() -> None:
    pairs = torch.randn(70, 70, generator=torch.Generator().manual_seed(0)).triu(1)
    pairs[pairs == 0] = -torch.inf
    found = best_thirds(pairs)
    for i, j in [(0, 1), (3, 69), (5, 64), (60, 65), (68, 69)]:
        assert found[i, j] == (pairs[i] + pairs[j]).amax()


def test_other_orders_are_no_triples() -> None:
    pairs = product(6)
    score = PairwiseSetScore(pairs.side, pairs.left, pairs.right, 0.0, 4)
    with pytest.raises(DataError, match="sets of order 4 are no triples"):
        search_triples_on(score, 3, space=plain_space(6, orders=(4,)), device="cpu")


@pytest.mark.parametrize("kind", ["likelihood", "distance"])
@pytest.mark.parametrize("order", [2, 3])
def test_objectives_are_searched_there_as_here(kind: str, order: int) -> None:
    objective, model, space = question_objective(kind), question_model(), question_space(order)
    wanted = search(objective, model, space, 9)
    there = search(objective, model, space, 9, device="cpu:0")
    assert there.top.index.tolist() == wanted.top.index.tolist()
    assert there.top.score.tolist() == wanted.top.score.tolist()


def test_tiles_make_no_tensor_on_another_device() -> None:
    # What is made without naming a device would be a tensor without numbers here.
    likelihood = pair_score(question_objective("likelihood"), question_model(), question_space(2))
    assert likelihood is not None
    scores = [*(make(8, 1) for make in SCORES.values()), likelihood]
    for made in [device_tiles(score, "cpu") for score in scores]:
        size = made.size
        out = torch.empty(size, size, dtype=made.dtype)
        with torch.device("meta"):
            made.into(out, Tile(0, size, (0, size)))
        assert bool(out.isfinite().all())


def test_values_move_as_a_whole() -> None:
    _, found = folded_networks(networks(5, (4, 3), seed=0, root=2))
    there = moved(found, "meta", dtype=torch.float32)
    assert {each.device.type for each in (there.constant, there.networks[1].layers[0][0])} == {"meta"}
    assert there.networks[0].root.dtype == torch.float32
    assert there.sign == found.sign


def test_a_device_that_is_not_there_is_named_once() -> None:
    device, line = usable("cuda:99")
    assert device == "cpu"
    assert line.startswith("device cuda:99 is not here (")
    model, space = question_model(), question_space(2)
    certificate = search(question_objective("distance"), model, space, 3).certificate
    notes = search_notes(Engine(device="cuda:99"), certificate, model, space)
    assert notes == (line,)
