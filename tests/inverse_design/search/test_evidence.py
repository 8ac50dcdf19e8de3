import math
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal, pairs_of, planted_screen
from strategies.spaces import plain_space, spaces

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search import exhaustive
from inverse_design.search.exhaustive import evidence_of_pairs, evidence_of_stream
from inverse_design.search.pruning import BlockPruner
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated


def log_sum_pairs(score: PairScore, space: CombinationSpace) -> float:
    return evidence_of_pairs(score, space).log_sum


def log_sum_stream(score: Any, space: CombinationSpace, *, order: int) -> float:
    return evidence_of_stream(score, space, order=order).log_sum


def drawn(size: int, *, seed: int, scale: float = 1.0) -> ProductScore:
    factors = normal(2, size, 3, seed=seed) * scale
    return ProductScore(normal(size, seed=seed + 1) * scale, factors[0], factors[1])


def by_hand(score: ProductScore, space: CombinationSpace) -> float:
    """The log of the sum over valid pairs, pair by pair in double precision."""
    start, stop = space.span(2)
    valid = space.valid(space.batch(start, stop)).tolist()
    first, second = torch.triu_indices(score.size, score.size, offset=1)
    exact = score.exact(first, second).tolist() if len(first) else []
    inside = [value for value, kept in zip(exact, valid, strict=True) if kept]
    peak = max(inside, default=-math.inf)
    return peak + math.log(sum(math.exp(value - peak) for value in inside)) if inside else -math.inf


@given(spaces(always=2), st.integers(0, 99))
@settings(max_examples=25)
def test_pairs_are_summed_as_by_hand(space: CombinationSpace, seed: int) -> None:
    score = drawn(len(space.entries), seed=seed)
    assert log_sum_pairs(score, space) == pytest.approx(by_hand(score, space), rel=1e-5, abs=1e-5)


def test_measured_and_forbidden_pairs_do_not_count() -> None:
    library = plain_space(9).vocabulary
    measured = library.batch(
        [library.perturbation([1, 2]), library.perturbation([3, 5]), library.perturbation([4])]
    )
    whole = CombinationSpace.of(library, orders=(1, 2))
    masked = CombinationSpace.of(
        library, orders=(1, 2), measured=measured, constraints=Constraints(excluded=("G00008",))
    )
    score = drawn(9, seed=3)
    first, second = torch.tensor([(i, j) for j in range(8) for i in range(j) if (i, j) not in {(1, 2), (3, 5)}]).T
    part = ProductScore(score.side[:8], score.left[:8], score.right[:8])
    wanted = float(score.exact(first, second).logsumexp(0))
    assert log_sum_pairs(part, masked) == pytest.approx(wanted, rel=1e-5)
    assert log_sum_pairs(score, whole) - wanted > 0.01


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    score, space = drawn(23, seed=1), plain_space(23, orders=(1, 2))

    def value(batch: PerturbationBatch) -> torch.Tensor:
        return score.exact(batch.genes[:, 0], batch.genes[:, 1])

    whole, streamed = log_sum_pairs(score, space), log_sum_stream(value, space, order=2)
    assert whole == pytest.approx(by_hand(score, space), rel=1e-6)
    assert streamed == pytest.approx(by_hand(score, space), rel=1e-12)
    monkeypatch.setattr(BlockPruner, "rows", 4)
    monkeypatch.setattr(BlockPruner, "columns", 5)
    monkeypatch.setattr(exhaustive, "_BATCH", 7)
    assert log_sum_pairs(score, space) == pytest.approx(whole, rel=1e-6)
    assert log_sum_stream(value, space, order=2) == pytest.approx(streamed, rel=1e-12)


def test_one_order_is_streamed_at_a_time() -> None:
    space = plain_space(6, orders=(1, 2))
    score = normal(6, seed=0)
    total = log_sum_stream(lambda batch: score[batch.genes[:, 0]], space, order=1)
    assert total == pytest.approx(float(score.logsumexp(0)), rel=1e-12)


def test_large_log_densities_neither_overflow_nor_vanish() -> None:
    space = plain_space(5)
    for level in (-4000.0, 4000.0):
        flat = ProductScore(torch.full((5,), level / 2).double(), torch.zeros(5, 1), torch.zeros(5, 1))
        assert log_sum_pairs(flat, space) == pytest.approx(level + math.log(10), rel=1e-9)
        streamed = log_sum_stream(lambda batch, at=level: torch.full((len(batch),), at).double(), space, order=2)
        assert streamed == pytest.approx(level + math.log(10), rel=1e-12)


def test_no_valid_pair_sums_to_nothing() -> None:
    library = plain_space(3).vocabulary
    every = library.batch([library.perturbation(pair) for pair in ((0, 1), (0, 2), (1, 2))])
    space = CombinationSpace.of(library, orders=(1, 2), measured=every)
    assert log_sum_pairs(drawn(3, seed=0), space) == -math.inf
    assert log_sum_stream(lambda batch: torch.zeros(len(batch)).double(), space, order=2) == -math.inf


@cache
def fitted() -> FittedCalibrated:
    screen = planted_screen(
        alone=range(7), together=pairs_of(7, 14), readouts=5, bend=0.5, noise=0.8, standard_error=0.3
    )
    return Calibrated(Interaction(components=3, leading=2)).fit(screen, seed=0)


def log_densities(prior: torch.Tensor, space: CombinationSpace) -> tuple[torch.Tensor, float]:
    """Log density of each valid candidate, and the log of their sum by the two normalisers."""
    target = AlignedProfile.exact(range(5), normal(5, seed=8))
    likelihood = TargetLikelihood(target, prior)
    batch = space.batch(0, space.size)
    batch = batch.rows(torch.nonzero(space.valid(batch)).flatten())
    score = likelihood.pair_score(fitted(), space)
    assert score is not None
    singles = log_sum_stream(lambda some: likelihood.utility(fitted(), some).mean, space, order=1)
    total = torch.tensor([log_sum_pairs(score, space), singles]).double().logsumexp(0)
    return likelihood.utility(fitted(), batch).mean, float(total)


def test_singles_and_pairs_share_one_probability() -> None:
    space = CombinationSpace.of(fitted().vocabulary, orders=(1, 2), constraints=Constraints(excluded=("G06",)))
    values, total = log_densities(torch.zeros(7).double(), space)
    assert len(values) == 6 + 15
    assert float((values - total).exp().sum()) == pytest.approx(1, rel=1e-5)


def test_a_prior_shifts_probabilities_as_bayes_says() -> None:
    space = CombinationSpace.of(fitted().vocabulary, orders=(1, 2))
    flat, before = log_densities(torch.zeros(7).double(), space)
    weights = torch.tensor([1.0, 5.0, 1.0, 0.2, 1.0, 1.0, 1.0]).double()
    values, after = log_densities(weights.log(), space)
    likelihood = (flat - before).exp()
    weight = torch.tensor([
        math.prod(float(weights[gene]) for gene in row if gene >= 0)
        for row in space.batch(0, space.size).genes.tolist()
    ])  # fmt: skip
    bayes = likelihood * weight / (likelihood * weight).sum()
    torch.testing.assert_close((values - after).exp(), bayes.double(), rtol=1e-5, atol=1e-9)
