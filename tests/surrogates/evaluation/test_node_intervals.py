import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Int
from torch import Tensor

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import (
    NodeBootstrap,
    bootstrap_interval,
    median,
    node_bootstrap_interval,
    ratio_of_sums,
    target_nodes,
)
from surrogates.uncertainty.dyadic import dyadic_standard_error

GENES = 30


def _doubles(n: int, *, seed: int) -> Int[Tensor, "n 2"]:
    every = torch.tensor(list(combinations(range(GENES), 2)))
    return every[torch.randperm(len(every), generator=torch.Generator().manual_seed(seed))[:n]]


@given(
    rows=st.lists(st.sets(st.integers(0, 6), min_size=1, max_size=3), min_size=2, max_size=12),
    seed=st.integers(0, 99),
)
def test_the_dyadic_error_sums_over_all_pairs_of_rows_that_share_a_gene(rows: list[set[int]], seed: int) -> None:
    values = torch.randn(len(rows), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    nodes = torch.tensor([[-1] * (3 - len(row)) + sorted(row, reverse=seed % 2 == 1) for row in rows])
    residuals = values - values.mean()
    genes = len(set.union(*rows))
    if genes < 2:
        assert math.isnan(dyadic_standard_error(values, nodes))
        return
    pairs = [(d, e) for d in range(len(rows)) for e in range(len(rows)) if rows[d] & rows[e]]
    shared = sum(float(residuals[d] * residuals[e]) for d, e in pairs)
    variance = max(shared, float(residuals.square().sum())) / len(rows) ** 2 * genes / (genes - 1)
    assert dyadic_standard_error(values, nodes) == pytest.approx(variance**0.5)


def test_rows_of_one_gene_each_have_the_usual_error_and_bootstrap() -> None:
    values = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for nodes in (torch.arange(40)[:, None], torch.stack([torch.arange(40) + 7, torch.full((40,), -1)], 1)):
        assert dyadic_standard_error(values, nodes) == pytest.approx(float(values.std() / 40**0.5))
        bounds = node_bootstrap_interval(values, nodes, seed=0)
        assert bounds == pytest.approx(bootstrap_interval(lambda rows: values[rows].mean(1), 40, seed=0))


def test_a_row_without_a_value_is_left_out() -> None:
    nodes = torch.tensor([[0, 1], [0, 2], [3, 4], [1, 4]])
    values = torch.tensor([1.0, 2.0, 4.0, torch.nan], dtype=torch.float64)
    assert dyadic_standard_error(values, nodes) == dyadic_standard_error(values[:3], nodes[:3])
    low, high = node_bootstrap_interval(values, nodes, seed=0)
    assert 1 <= low < 7 / 3 < high <= 4


def test_what_is_not_defined_has_no_bounds() -> None:
    nothing = torch.full((3,), torch.nan)
    nodes = torch.tensor([[0, 1], [0, 2], [3, 4]])
    assert math.isnan(dyadic_standard_error(nothing, nodes))
    for statistic in (nothing, median(nothing)):
        assert all(math.isnan(bound) for bound in node_bootstrap_interval(statistic, nodes, seed=0))


@given(seed=st.integers(0, 20))
def test_draws_count_a_row_as_often_as_the_product_of_its_genes(seed: int) -> None:
    nodes = torch.tensor([[0, 1], [1, 2], [0, 2], [0, -1]])
    draws = NodeBootstrap.of(nodes, seed=seed, n_boot=40)
    counts = torch.cat([torch.stack([(rows == row).sum(1) for row in range(4)], 1) for rows in draws.shared])
    assert len(counts) <= 40
    single = counts[:, 3]
    assert bool((counts[:, :3].gcd(single[:, None])[:, [0, 2]] == single[:, None]).all())
    for first, second, third, zero in counts.tolist():
        if zero:
            assert zero + first // zero + third // zero == 3  # three genes were drawn
            assert second == (first // zero) * (third // zero)


@pytest.mark.parametrize(("of_genes", "of_rows"), [(0.0, 1.0), (1.0, 1.0), (1.0, 0.2)])
def test_intervals_hold_where_doubles_share_genes_and_naive_ones_do_not(of_genes: float, of_rows: float) -> None:
    """Neither too narrow (gene effects) nor 1.7 times too wide (independent noise), which plain products are."""
    generator = torch.Generator().manual_seed(0)
    nodes = _doubles(130, seed=1)
    draws = NodeBootstrap.of(nodes, seed=0, n_boot=300)
    repeats, covered, errors, widths, means = 200, {"naive": 0, "dyadic": 0, "bootstrap": 0}, 0.0, 0.0, []
    for _ in range(repeats):
        gene = torch.randn(GENES, generator=generator, dtype=torch.float64) * of_genes
        values = gene[nodes].sum(1) + torch.randn(130, generator=generator, dtype=torch.float64) * of_rows
        mean, naive = float(values.mean()), float(values.std() / 130**0.5)
        dyadic = dyadic_standard_error(values, nodes)
        low, high = draws.interval(values)
        covered["naive"] += abs(mean) < 1.96 * naive
        covered["dyadic"] += abs(mean) < 1.96 * dyadic
        covered["bootstrap"] += low < 0 < high
        errors, widths = errors + dyadic / repeats, widths + (high - low) / 3.92 / repeats
        means.append(mean)
    share = {name: number / repeats for name, number in covered.items()}
    assert 0.88 <= share["dyadic"] <= 0.98
    assert 0.87 <= share["bootstrap"] <= 0.98
    assert widths == pytest.approx(errors, rel=0.12)
    assert errors == pytest.approx(float(torch.tensor(means).std()), rel=0.15)
    if of_genes:
        assert share["naive"] < 0.65


def test_a_ratio_of_equal_sums_has_no_width() -> None:
    errors, nodes = torch.rand(20, generator=torch.Generator().manual_seed(0)), _doubles(20, seed=0)
    assert node_bootstrap_interval(ratio_of_sums(errors, errors), nodes, seed=0) == (1, 1)


def test_triples_of_independent_noise_are_not_seven_times_too_uncertain() -> None:
    generator = torch.Generator().manual_seed(0)
    every = torch.tensor(list(combinations(range(20), 3)))
    nodes = every[torch.randperm(len(every), generator=generator)[:150]]
    values = torch.randn(150, generator=generator, dtype=torch.float64)
    low, high = node_bootstrap_interval(values, nodes, seed=0)
    naive = float(values.std() / 150**0.5)
    assert 0.8 * naive < (high - low) / 3.92 < 2 * naive


def test_two_doses_of_a_gene_are_one_node() -> None:
    labels = ["A@1", "A@2", "B@1", "A@2+B@1"]
    screen = Screen.from_labels(torch.eye(4), [Perturbation.parse(each) for each in labels], tuple("wxyz"))
    nodes = target_nodes(screen.batch, screen.vocabulary)
    assert [sorted(row) for row in nodes.tolist()] == [[-1, 0], [-1, 0], [-1, 1], [0, 1]]
