from itertools import combinations

import pytest
import torch
from strategies.spaces import plain_space

from inverse_design.problem import score as columns
from inverse_design.problem.score import ProductScore, leading_directions
from inverse_design.search import pruning as leading
from inverse_design.search import pruning as product_sifter
from inverse_design.search import scan as pairs
from inverse_design.search.pruning import LeadingPruner, Tile
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import SearchResult

SIZE, DEEP = 80, 40


def drawn(*, decay: float, seed: int = 0) -> ProductScore:
    """Factors of which each column is smaller than the one before by some share, in a random rotation."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    sizes, rotation = (1 - decay) ** torch.arange(DEEP), torch.linalg.qr(normal(DEEP, DEEP)).Q
    left, right = (normal(SIZE, DEEP) * sizes @ rotation for _ in range(2))
    return ProductScore(normal(SIZE), left, right)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (pairs, "_DEEP", 10),
        (pairs, "_SLACK", 3),
        (columns, "_LEADING", 12),
        (leading, "_SETTLED", 900),
        (leading, "_WORTH", 2),
        (leading, "_MOST", 0.0),
        (product_sifter, "_LARGEST", (9, 20)),
    ):
        monkeypatch.setattr(module, name, value)


def brute_force(score: ProductScore, k: int) -> list[int]:
    first, second = torch.tensor(list(combinations(range(SIZE), 2))).T
    exact = score.exact(first, second).tolist()
    return sorted(range(len(exact)), key=lambda pair: (-exact[pair], pair))[:k]


def searched(score: ProductScore, k: int) -> SearchResult:
    return search_pairs(score, k, space=plain_space(SIZE))


@pytest.mark.parametrize("decay", [0.0, 0.1, 0.5, 0.999999])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("k", [1, 25])
def test_any_spectrum_gives_the_true_answer(decay: float, seed: int, k: int) -> None:
    score = drawn(decay=decay, seed=seed)
    result = searched(score, k)
    assert result.top.index.tolist() == brute_force(score, k)
    assert result.certificate.exact
    assert result.certificate.scanned + result.certificate.pruned == SIZE * (SIZE - 1) // 2


@pytest.mark.parametrize("times", [-2.0, 2.0])
@pytest.mark.parametrize("decay", [0.1, 0.5])
def test_bounds_hold_where_one_table_is_both_factors(decay: float, times: float) -> None:
    drawn_apart = drawn(decay=decay)
    score = ProductScore(drawn_apart.side, drawn_apart.left, drawn_apart.left, times)
    assert searched(score, 25).top.index.tolist() == brute_force(score, 25)


def test_a_decaying_spectrum_leaves_few_pairs_and_the_certificate_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_sifter, "_LARGEST", (4, 20))
    certificate = searched(drawn(decay=0.5), 5).certificate
    assert certificate.pruned > 1500
    assert certificate.bound == "leading columns"


@pytest.mark.parametrize(("name", "value"), [("_WORTH", 10), ("_MOST", 0.9)])
def test_a_flat_spectrum_is_given_up(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, name, value)
    certificate = searched(drawn(decay=0.0), 5).certificate
    assert (certificate.pruned, certificate.bound) == (0, "")


@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_no_pair_is_above_its_bound(decay: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leading, "_SETTLED", 0)
    monkeypatch.setattr(leading, "_WORTH", 0)
    score = drawn(decay=decay, seed=5)
    cut = float(torch.tensor(brute_force_scores(score)).quantile(0.9))
    found = (
        LeadingPruner.of(score, leading_directions((score.left, score.right))[0])
        .sift(Tile(0, SIZE // 9, (0, 20)), cut - score.error)
        .positions.tolist()
    )
    wanted = {
        (i, j)
        for i, j in combinations(range(20), 2)
        if i < SIZE // 9 and float(score.exact(torch.tensor([i]), torch.tensor([j]))) >= cut
    }
    assert wanted <= {(i, j) for i, j in found}


def brute_force_scores(score: ProductScore) -> list[float]:
    first, second = torch.tensor(list(combinations(range(SIZE), 2))).T
    scores: list[float] = score.exact(first, second).tolist()
    return scores


def test_leading_directions_are_orthonormal_and_hold_what_there_is() -> None:
    score = drawn(decay=0.5)
    directions, share = leading_directions((score.left, score.right))
    assert share > 0.99
    torch.testing.assert_close(directions.T @ directions, torch.eye(12).double())
    rest = score.left - score.left @ directions @ directions.T
    assert float(rest.norm()) < 0.02 * float(score.left.norm())


def test_rows_of_zeros_are_no_trouble() -> None:
    score = ProductScore(torch.arange(SIZE).double(), torch.zeros(SIZE, DEEP), torch.zeros(SIZE, DEEP))
    assert searched(score, 3).top.index.tolist() == brute_force(score, 3)
