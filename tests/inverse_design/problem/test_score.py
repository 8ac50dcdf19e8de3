import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.search.pruning import Products, Tile
from inverse_design.testing import check_pair_score
from surrogates.errors import DataError


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(2, 30), st.integers(0, 40), st.integers(0, 99), st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e18]))
def test_product_scores_keep_the_contract(entries: int, columns: int, seed: int, scale: float) -> None:
    factors = normal(2, entries, columns, seed=seed) * scale
    check_pair_score(ProductScore(normal(entries, seed=seed + 1) * scale, factors[0], factors[1]))


def test_a_wide_score_keeps_the_contract() -> None:
    factors = normal(2, 12, 3000, seed=0)
    check_pair_score(ProductScore(normal(12, seed=1), factors[0], factors[1]))


@given(st.integers(2, 30), st.integers(0, 40), st.integers(0, 99), st.sampled_from([-2.0, -1.0, 0.5, 2.0]))
def test_one_table_serves_as_both_factors(entries: int, columns: int, seed: int, times: float) -> None:
    factor, side = normal(entries, columns, seed=seed), normal(entries, seed=seed + 1)
    score, slow = ProductScore(side, factor, factor, times), ProductScore(side, times * factor, factor.clone())
    check_pair_score(score)
    first, second = torch.triu_indices(entries, entries, offset=1).unbind(0)
    assert torch.equal(score.exact(first, second), slow.exact(first, second))
    assert torch.equal(score.block(0, entries), slow.block(0, entries))
    assert torch.equal(
        score.double_block(slice(1, None), slice(0, 9)), slow.double_block(slice(1, None), slice(0, 9))
    )
    tile, buffers = Tile(0, entries, (0, entries)), torch.empty(2, entries**2)
    assert torch.equal(Products(score).into(buffers[0], tile), Products(slow).into(buffers[1], tile))


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 99))
def test_distances_are_distances(entries: int, columns: int, seed: int) -> None:
    rows, target = normal(entries, columns, seed=seed), normal(columns, seed=seed + 1)
    score = ProductScore.of_distance(rows, target)
    check_pair_score(score)
    first, second = torch.triu_indices(entries, entries, offset=1).unbind(0)
    wanted = -(target - rows[first] - rows[second]).square().sum(1)
    torch.testing.assert_close(score.exact(first, second), wanted)


def test_a_product_score_is_a_pair_score() -> None:
    assert isinstance(ProductScore(torch.zeros(2).double(), torch.zeros(2, 1), torch.zeros(2, 1)), PairScore)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
def test_what_single_precision_cannot_hold_is_refused(value: float) -> None:
    factor = torch.full((2, 2), value, dtype=torch.float64)
    with pytest.raises(DataError, match="not finite in single precision"):
        ProductScore(torch.zeros(2).double(), factor, factor)
