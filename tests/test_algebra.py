"""The page about the algebra: its steps hold as numbers, and what it names is there."""

import re
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inverse_design.problem.score import ProductScore
from surrogates.uncertainty.error_model import FactorCovariance, squared_norm

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "algebra.md").read_text(encoding="utf-8")
FILES = sorted(set(re.findall(r"`((?:surrogates|inverse_design)/[\w/]+\.py)`", PAGE)))
TESTS = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@given(
    readouts=st.integers(1, 9),
    rank=st.integers(0, 3),
    interactions=st.integers(0, 3),
    seed=st.integers(0, 2**31),
)
def test_the_mahalanobis_distance_of_a_pair_is_an_inner_product(
    readouts: int, rank: int, interactions: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    covariance = FactorCovariance(normal(readouts).square() + 0.1, normal(readouts, min(rank, readouts)))
    main, scores, basis, target = (
        normal(5, readouts),
        normal(5, interactions),
        normal(interactions, readouts),
        normal(readouts),
    )
    precision = torch.linalg.inv(covariance.diagonal.diag() + covariance.loadings @ covariance.loadings.T)
    whitened = covariance.whiten(main - target / 2)
    side, left, right = squared_norm(whitened, scores, covariance.whiten(basis))
    assert left.shape[1] == readouts + 2 * interactions + interactions * (interactions + 1) // 2
    score = ProductScore(side, left, right)
    first, second = torch.triu_indices(5, 5, 1)
    gap = target - main[first] - main[second] - (scores[first] * scores[second]) @ basis
    dense = ((gap @ precision) * gap).sum(1)
    torch.testing.assert_close(score.exact(first, second), dense, rtol=1e-8, atol=1e-8 * score.magnitude)


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=2))
def test_a_rectified_sum_is_a_maximum_and_a_row(pair: list[float]) -> None:
    one, other = pair
    assert max(one + other, 0.0) == pytest.approx(max(one, -other) + other, abs=1e-14)


@pytest.mark.parametrize("file", FILES)
def test_every_file_that_the_page_names_is_there(file: str) -> None:
    assert (ROOT / file).is_file()


@pytest.mark.parametrize(("file", "name"), TESTS)
def test_every_test_that_the_page_names_is_there(file: str, name: str) -> None:
    assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8")


def test_the_page_is_one_page() -> None:
    assert len(FILES) > 10
    assert len(TESTS) > 12
    assert len(PAGE.splitlines()) <= 150
