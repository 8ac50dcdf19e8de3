"""Random gene effects against dense algebra, and that they tell genes apart."""

import pytest
import torch

from inverse_design.campaign.policies.state_effects import GeneEffects
from surrogates.errors import DataError


def _screen(seed: int, n: int = 40, genes: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(genes, 3, generator=generator, dtype=torch.float64)
    pairs = torch.combinations(torch.arange(genes))
    chosen = pairs[torch.randperm(len(pairs), generator=generator)[:n]]
    marks = torch.zeros(n, genes, dtype=torch.float64).scatter_(1, chosen, 1.0)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return marks, marks @ truth + 0.1 * noise, truth


def test_the_posterior_is_that_of_the_dense_normal_law() -> None:
    marks, effects, _ = _screen(0)
    fitted = GeneEffects.of(marks, effects)
    prior = torch.linalg.inv(fitted.root @ fitted.root.mT - marks.T @ marks)
    for axis in range(3):
        covariance = marks @ prior[axis] @ marks.T + torch.eye(len(marks), dtype=torch.float64)
        rest = effects @ fitted.axes[:, axis] - marks.sum(1) * fitted.level[axis]
        torch.testing.assert_close(
            fitted.mean[:, axis], prior[axis] @ marks.T @ torch.linalg.solve(covariance, rest)
        )


def test_gene_effects_are_recovered() -> None:
    marks, effects, truth = _screen(1, n=60)
    fitted = GeneEffects.of(marks, effects)
    torch.testing.assert_close(fitted.predict(torch.eye(12, dtype=torch.float64)), truth, rtol=0, atol=0.2)


def test_draws_have_the_moments_of_samples_without_noise() -> None:
    marks, effects, _ = _screen(2)
    fitted = GeneEffects.of(marks, effects)
    asked, generator = marks[:3], torch.Generator().manual_seed(0)
    drawn = torch.stack([fitted.draw(asked, generator) for _ in range(4000)])
    sampled = fitted.sample(asked, 4000, generator)
    noise = (fitted.axes.square() * fitted.noise.square()).sum(1)
    torch.testing.assert_close(drawn.mean(0), fitted.predict(asked), rtol=0, atol=0.02)
    torch.testing.assert_close(sampled.mean(0), fitted.predict(asked), rtol=0, atol=0.02)
    torch.testing.assert_close(sampled.var(0), drawn.var(0) + noise, rtol=0.15, atol=0)


def test_two_measurements_are_refused() -> None:
    marks, effects, _ = _screen(3)
    with pytest.raises(DataError, match=r"2 measurement\(s\)"):
        GeneEffects.of(marks[:2], effects[:2])
