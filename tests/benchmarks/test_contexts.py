import runpy
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from strategies.screens import normal, planted_screen

from surrogates.evaluation.metrics import squared_errors

PAIRS = list(combinations(range(9), 2))


@pytest.fixture(scope="module")
def contexts() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "forward" / "contexts.py"))


def test_resampled_genes_bound_the_ratio_of_errors(contexts: dict[str, Any]) -> None:
    screen = planted_screen(alone=range(9), together=PAIRS, readouts=1)
    held = torch.arange(9, len(screen))
    truth = screen.effects[held]
    noise = normal(len(held), 1, seed=5)
    half, full = truth + 0.5 * noise, truth + noise
    # Errors that are in proportion for every pair are so in every draw.
    same = contexts["_gene_ratio"](screen, held, half, full, truth, seed=0)
    assert same == pytest.approx((0.25, 0.25))
    other = truth + normal(len(held), 1, seed=6)
    low, high = contexts["_gene_ratio"](screen, held, half, other, truth, seed=0)
    assert low < float(squared_errors(half, truth).sum() / squared_errors(other, truth).sum()) < high


def test_single_effects_of_the_line_are_summed_and_bent(contexts: dict[str, Any]) -> None:
    screen = planted_screen(alone=range(9), together=PAIRS, readouts=1, noise=0.0)
    i, j = screen.batch.genes[9:].T
    total = screen.effects[i] + screen.effects[j]
    bent = 0.1 + 0.7 * total - 0.2 * total.square()
    screen = replace(screen, effects=torch.cat([screen.effects[:9], bent]))
    few, held = torch.arange(9, 20), torch.arange(20, len(screen))
    predictions = contexts["_from_singles"](screen, screen, few, held)
    torch.testing.assert_close(predictions["additive"], total[11:])
    torch.testing.assert_close(predictions["quadratic in the sum"], bent[11:])
