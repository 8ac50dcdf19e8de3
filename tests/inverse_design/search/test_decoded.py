from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal, planted_screen
from strategies.spaces import plain_space, spaces

from inverse_design.errors import SpaceError
from inverse_design.problem.space import CombinationSpace
from inverse_design.search import decoded
from inverse_design.search.decoded import DecodedMember, DecodedScore, decoded_members, search_decoded
from inverse_design.testing import check_pair_score
from surrogates.errors import DataError
from surrogates.models.additive import ScaledAdditive
from surrogates.models.latent import LatentAdditive
from surrogates.models.training import Layers, Schedule
from surrogates.models.wrappers.ensemble import Ensemble, FittedEnsemble


def drawn(
    size: int, *, hidden: tuple[int, ...] = (6,), outputs: int = 3, seed: int = 0, whole: bool = False
) -> DecodedMember:
    """Normal numbers, or whole ones, which tie often."""
    shapes = [(size, hidden[0]), (hidden[0],)]
    numbers = [normal(*shape, seed=seed + at) for at, shape in enumerate(shapes)]
    sizes = [*hidden, outputs]
    weights = [normal(sizes[at + 1], sizes[at], seed=seed + 10 + at) for at in range(len(hidden))]
    biases = [normal(sizes[at + 1], seed=seed + 20 + at) for at in range(len(hidden))]
    numbers, weights, biases = (
        [each.round() if whole else each for each in every] for every in (numbers, weights, biases)
    )
    return DecodedMember(*numbers, Layers(tuple(weights), tuple(biases)))


def utilities(members: list[DecodedMember], target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Every pair, one member per row, by the plain network in double precision."""
    first, second = torch.tensor(list(combinations(range(len(members[0].first)), 2))).T
    every = [each.layers((each.first[first] + each.first[second] + each.bias).relu()) for each in members]
    return -torch.stack([((outputs - target).square() * weights).sum(1) for outputs in every])


def brute_force(scores: torch.Tensor, k: int, space: CombinationSpace) -> list[int]:
    start, stop = space.span(2)
    valid = space.valid(space.batch(start, stop)).tolist()
    numbers = [number for number in range(stop - start) if valid[number]]
    return [start + n for n in sorted(numbers, key=lambda number: (-float(scores[number]), number))[:k]]


@pytest.mark.parametrize("hidden", [(6,), (6, 5), (4, 7, 3)])
@pytest.mark.parametrize("outputs", [1, 3, 12])
@pytest.mark.parametrize("incumbent", [None, -20.0])
def test_the_score_keeps_the_contract_and_is_that_of_the_network(
    hidden: tuple[int, ...], outputs: int, incumbent: float | None
) -> None:
    members = [drawn(14, hidden=hidden, outputs=outputs, seed=seed) for seed in (1, 100)]
    target, weights = normal(outputs, seed=5), normal(outputs, seed=6).square()
    score = DecodedScore.of(members, target, space=plain_space(14), weights=weights, incumbent=incumbent)
    check_pair_score(score)
    first, second = torch.triu_indices(14, 14, offset=1)
    each = utilities(members, target, weights)
    wanted = each.mean(0) if incumbent is None else (each - incumbent).clamp(min=0).mean(0)
    torch.testing.assert_close(score.exact(first, second), wanted)
    torch.testing.assert_close(score.quick(first, second).double(), wanted, atol=score.error, rtol=0)


@given(spaces(always=2), st.integers(1, 40), st.integers(0, 99), st.sampled_from([None, -9.0]))
def test_constrained_spaces_are_searched_exactly(
    space: CombinationSpace, k: int, seed: int, incumbent: float | None
) -> None:
    whole = seed % 2 == 0
    members = [drawn(len(space.entries), seed=seed + more, whole=whole) for more in (0, 50, 70, 90)]
    target = normal(3, seed=seed).round()
    top = search_decoded(members, target, k, space=space, incumbent=incumbent).top
    each = utilities(members, target, torch.ones(3).double())
    scores = each.mean(0) if incumbent is None else (each - incumbent).clamp(min=0).mean(0)
    if whole:  # whole numbers are exact in any order, so ties are ties
        assert top.index.tolist() == brute_force(scores, k, space)
    torch.testing.assert_close(top.score, scores[top.index - space.span(2)[0]])
    assert len(top) == min(k, space.count_valid_of(2))


@pytest.mark.parametrize("k", [1, 30, 900])
@pytest.mark.parametrize("incumbent", [None, -15.0])
def test_tiles_of_any_shape_give_the_same_bytes(
    k: int, incumbent: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, target = plain_space(61, orders=(1, 2)), normal(3, seed=3)
    members = [drawn(61, hidden=(6, 5), seed=seed) for seed in (1, 100, 200)]
    top = search_decoded(members, target, k, space=space, incumbent=incumbent).top
    for rows, columns in ((1, 7), (5, 64), (64, 3)):
        monkeypatch.setattr(decoded, "TILE_ROWS", rows)
        monkeypatch.setattr(decoded, "TILE_COLUMNS", columns)
        again = search_decoded(members, target, k, space=space, incumbent=incumbent).top
        assert torch.equal(top.index, again.index)
        assert torch.equal(top.score, again.score)


def test_without_improvement_the_first_pairs_are_the_answer() -> None:
    top = search_decoded([drawn(30)], torch.zeros(3), 4, space=plain_space(30), incumbent=0.0).top
    assert top.index.tolist() == [0, 1, 2, 3]
    assert top.score.tolist() == [0.0] * 4


def test_a_space_of_two_entries_has_one_answer() -> None:
    member, target = drawn(2), normal(3, seed=1)
    result = search_decoded([member], target, 10, space=plain_space(2))
    assert result.top.index.tolist() == [0]
    torch.testing.assert_close(result.top.score, utilities([member], target, torch.ones(3).double())[0])


def test_measured_pairs_are_left_out_and_the_certificate_counts_them() -> None:
    library = plain_space(20).vocabulary
    member, target = drawn(20, seed=4), normal(3, seed=1)
    best = search_decoded([member], target, 1, space=plain_space(20)).top
    measured = plain_space(20).take(best.index)
    space = CombinationSpace.of(library, orders=(2,), measured=measured)
    result = search_decoded([member], target, 1, space=space)
    scores = utilities([member], target, torch.ones(3).double())[0]
    assert result.top.index.tolist() == brute_force(scores, 1, space) != best.index.tolist()
    assert (result.certificate.scanned, result.certificate.masked) == (190, 1)
    assert result.certificate.exact
    assert 0 < result.certificate.error < 1e-3


def test_a_margin_that_proves_too_small_is_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    members, target, space = [drawn(40, seed=9)], normal(3, seed=1), plain_space(40)
    wanted = search_decoded(members, target, 20, space=space)
    measure, asked = DecodedScore.discrepancy, []

    def small_at_first(score: DecodedScore, first: torch.Tensor, second: torch.Tensor) -> float:
        asked.append(len(first))
        return measure(score, first, second) * (1e-3 if len(asked) == 1 else 1)

    monkeypatch.setattr(DecodedScore, "discrepancy", small_at_first)
    result = search_decoded(members, target, 20, space=space)
    assert torch.equal(result.top.index, wanted.top.index)
    assert len(asked) > 2
    assert result.certificate.error >= measure(
        DecodedScore.of(members, target, space=space), *torch.tensor([[0], [1]])
    )


def test_progress_ends_with_all_pairs() -> None:
    seen: list[tuple[int, int]] = []
    search_decoded(
        [drawn(30)],
        torch.zeros(3),
        3,
        space=plain_space(30),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == sorted(seen)
    assert seen[-1] == (435, 435)


@pytest.mark.parametrize("hidden", [(7,), (7, 6)])
def test_fitted_ensembles_are_scored_as_they_predict(hidden: tuple[int, ...]) -> None:
    screen = planted_screen(alone=range(8), together=[(0, 1), (2, 3), (4, 5), (1, 6)], readouts=9)
    base = LatentAdditive(latent=5, hidden=hidden, schedule=Schedule(epochs=5, batch=4, rate=1e-2))
    fitted = Ensemble(base, members=3).fit(screen, seed=0)
    some = torch.tensor([0, 2, 3, 5, 7])
    space = CombinationSpace.of(screen.vocabulary, orders=(2,), within=some)
    target = normal(9, seed=2)
    top = search_decoded(decoded_members(fitted, space), target, 10, space=space).top
    means = torch.stack([each.predict(space.take(top.index)).mean for each in fitted.members])
    torch.testing.assert_close(top.score, -(means - target).square().sum(2).mean(0))
    assert len(top) == 10


def test_models_of_unknown_layers_and_other_vocabularies_are_refused() -> None:
    screen = planted_screen(alone=range(6), together=[(0, 1), (2, 3)])
    additive = ScaledAdditive().fit(screen, seed=0)
    ensemble = FittedEnsemble((additive,), additive.measured_alone)
    space = CombinationSpace.of(screen.vocabulary, orders=(2,))
    with pytest.raises(DataError, match=r"member 0 \(Fitted\w+\) has no known hidden layer"):
        decoded_members(ensemble, space)
    with pytest.raises(SpaceError, match="6 entries, a space over 9"):
        decoded_members(ensemble, plain_space(9))


@pytest.mark.parametrize("what", ["first", "bias", "weights", "biases"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_numbers_that_are_not_finite_are_refused_by_name(what: str, value: float) -> None:
    good, bad = drawn(5), drawn(5, seed=1)
    if what in {"first", "bias"}:
        bad = replace(bad, **{what: getattr(bad, what).clone()})
        getattr(bad, what)[-1] = value
    else:
        getattr(bad.layers, what)[0][-1] = value
    with pytest.raises(DataError, match="weights of member 1 are not finite") as caught:
        search_decoded([good, bad], torch.zeros(3), 2, space=plain_space(5))
    assert "G0000" in str(caught.value)
    assert what != "first" or "G00004" in str(caught.value)


def test_questions_that_make_no_sense_are_refused() -> None:
    space, zeros = plain_space(5), torch.zeros(3)
    with pytest.raises(SpaceError, match="member 1 has 6 entries, the space 5"):
        search_decoded([drawn(5), drawn(6)], zeros, 2, space=space)
    with pytest.raises(SpaceError, match="has orders"):
        search_decoded([drawn(5)], zeros, 2, space=plain_space(5, orders=(1,)))
    with pytest.raises(DataError, match="all alike"):
        search_decoded([], zeros, 2, space=space)
    for odd in (
        [drawn(5), drawn(5, hidden=(7,))],
        [drawn(5, outputs=1)],
        [drawn(5, hidden=(6, 6))] * 2 + [drawn(5)],
    ):
        with pytest.raises(DataError, match="all alike"):
            search_decoded(odd, zeros, 2, space=space)
    with pytest.raises(DataError, match="at least one"):
        search_decoded([drawn(5)], zeros, 0, space=space)
    for weights, incumbent in ((-torch.ones(3), None), (zeros, torch.nan)):
        with pytest.raises(DataError, match="not finite, or a weight negative"):
            search_decoded([drawn(5)], zeros, 2, space=space, weights=weights, incumbent=incumbent)
