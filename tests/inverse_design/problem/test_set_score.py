from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal

from inverse_design.problem.set_score import PairwiseSetScore
from surrogates.errors import DataError


def drawn(size: int, columns: int, order: int, *, seed: int, scale: float = 1.0) -> PairwiseSetScore:
    numbers = normal(size, 2 * columns + 1, seed=seed) * scale
    return PairwiseSetScore(
        numbers[:, 0], numbers[:, 1 : columns + 1], numbers[:, columns + 1 :], float(seed % 3), order
    )


def every_set(size: int, order: int) -> torch.Tensor:
    return torch.tensor(list(combinations(range(size), order)), dtype=torch.int64).reshape(-1, order)


@given(st.integers(2, 9), st.integers(0, 40), st.integers(2, 5), st.integers(0, 99))
def test_a_set_is_worth_its_members_and_pairs(size: int, columns: int, order: int, seed: int) -> None:
    score = drawn(size, columns, order, seed=seed)
    positions = every_set(size, order)
    exact = score.exact(positions)
    for chosen, found in zip(positions.tolist(), exact.tolist(), strict=True):
        pairs = sum(float(score.left[i] @ score.right[j]) for i, j in combinations(chosen, 2))
        assert found == pytest.approx(score.constant + float(score.side[chosen].sum()) + pairs)
    for row in range(0, len(positions), 7):
        assert score.exact(positions[row : row + 1]).tolist() == exact[row : row + 1].tolist()


@pytest.mark.parametrize("columns", [64, 3000])
def test_an_exact_score_does_not_depend_on_what_else_is_asked_for(columns: int) -> None:
    score = drawn(40, columns, 3, seed=0)
    positions = every_set(40, 3)[::7]
    exact = score.exact(positions)
    assert torch.equal(score.exact(positions.flip(0)).flip(0), exact)
    assert torch.equal(torch.cat([score.exact(positions[row : row + 1]) for row in range(200)]), exact[:200])


@given(st.integers(3, 9), st.integers(1, 6), st.integers(2, 5), st.integers(0, 99))
def test_distances_are_distances(size: int, columns: int, order: int, seed: int) -> None:
    rows, target = normal(size, columns, seed=seed), normal(columns, seed=seed + 1)
    positions = every_set(size, order)
    wanted = -(target - rows[positions].sum(1)).square().sum(1)
    torch.testing.assert_close(PairwiseSetScore.of_distance(rows, target, order).exact(positions), wanted)


def test_what_single_precision_cannot_hold_is_refused() -> None:
    for value in (torch.nan, torch.inf, 1e30):
        factor = torch.full((2, 2), value, dtype=torch.float64)
        with pytest.raises(DataError, match="not finite in single precision"):
            PairwiseSetScore(torch.zeros(2).double(), factor, factor, 0.0, 3)
    ones = torch.ones(2, 2).double()
    with pytest.raises(DataError, match="constant nan"):
        PairwiseSetScore(torch.zeros(2).double(), ones, ones, torch.nan, 3)


def test_sets_of_another_order_are_refused() -> None:
    with pytest.raises(DataError, match="have no pairs"):
        drawn(5, 2, 1, seed=0)
    with pytest.raises(DataError, match="order 1 have no pairs"):
        PairwiseSetScore.of_distance(normal(4, 2, seed=0), normal(2, seed=1), 1)
    with pytest.raises(DataError, match="sets of 2 entries do not fit a score of order 3"):
        drawn(5, 2, 3, seed=0).exact(torch.zeros(1, 2, dtype=torch.int64))
