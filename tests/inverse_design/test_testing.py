from dataclasses import dataclass

import pytest
import torch
from strategies.contracts import check_searcher

from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import SearchResult, TopK
from inverse_design.testing import check_pair_score


@dataclass(frozen=True)
class Overconfident:
    """A score whose bound on its error does not hold."""

    product: ProductScore
    error: float = 0.0

    @property
    def size(self) -> int:
        return self.product.size

    def block(self, start: int, stop: int, columns: tuple[int, int] | None = None) -> torch.Tensor:
        return self.product.block(start, stop, columns)

    def exact(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return self.product.exact(first, second)


def test_a_bound_that_does_not_hold_is_found() -> None:
    factors = torch.randn(2, 9, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    product = ProductScore(torch.ones(9, dtype=torch.float64) / 3, factors[0], factors[1])
    check_pair_score(product)
    with pytest.raises(AssertionError, match="more than the bound"):
        check_pair_score(Overconfident(product))


def test_a_search_that_forgets_the_last_is_found() -> None:
    def forgetful(score: ProductScore, k: int, space: CombinationSpace) -> SearchResult:
        found = search_pairs(score, k, space=space)
        short = TopK(k, found.top.index[:-1], found.top.score[:-1])
        return SearchResult(short, found.certificate)

    with pytest.raises(AssertionError, match="best pairs"):
        check_searcher(forgetful)
